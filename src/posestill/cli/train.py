"""`posestill train` and `posestill distil`: a run from its recipe, or from pictures and a teacher, to its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import Interrupted, app
from posestill.cli.options import Boxes, Changes, Detector, Plugin, Recipe, load_plugins, load_recipe, teacher_changes
from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.engine.choose import Wish
    from posestill.engine.config import RunConfig
    from posestill.engine.log import RunLog
    from posestill.engine.setup import Sources

Out = Annotated[Optional[Path], typer.Option(help="The run folder; runs/RECIPE by default.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the run folder.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Build everything, try one batch, write nothing.")]
Control = Annotated[
    bool, typer.Option("--control", help="Train the student alone and on pseudo-labels, too, and say what was gained.")
]
Seeds = Annotated[int, typer.Option(min=1, help="With --control: how many seeds of each way of training.")]


@app.command()
def train(
    recipe: Recipe,
    changes: Changes = None,
    out: Out = None,
    plugin: Plugin = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    control: Control = False,
    seeds: Seeds = 1,
) -> None:
    """Train what a recipe describes, with or without a teacher."""
    settings = load_recipe(recipe, changes, plugin)
    control_seeds = _control_seeds(seeds, control=control)
    _run(settings, _folder(recipe, out), resume=resume, dry_run=dry_run, control_seeds=control_seeds)


@app.command()
def distil(
    recipe: Annotated[
        Optional[str], typer.Argument(help="A recipe's name or path. Without one: --images and --teacher.")
    ] = None,
    changes: Changes = None,
    out: Out = None,
    plugin: Plugin = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    control: Control = False,
    seeds: Seeds = 1,
    teacher: Annotated[
        Optional[str], typer.Option(help="A file (.onnx, .tflite, .xml), a model folder, hf:OWNER/NAME, or `bundled`.")
    ] = None,
    images: Annotated[
        Optional[list[Path]], typer.Option(help="Pictures without labels: a folder, a file or a video. Repeatable.")
    ] = None,
    student: Annotated[Optional[str], typer.Option(help="small, good, or a network of timm; small.")] = None,
    weights: Annotated[
        Optional[Path], typer.Option(help="A file of the student's pretrained weights; else timm's.")
    ] = None,
    boxes: Boxes = None,
    detector: Detector = None,
    annotations: Annotated[
        Optional[Path], typer.Option(help="COCO labels of some of the pictures, to measure by; they are held out.")
    ] = None,
    frame_step: Annotated[Optional[int], typer.Option(min=1, help="Of a video every so many-th frame; 10.")] = None,
    steps: Annotated[
        Optional[int], typer.Option(min=1, help="Length of the run; else from the number of people.")
    ] = None,
) -> None:
    """Train a student with a teacher.

    What is trained stands in a recipe. Without one, --images and --teacher are enough: pictures without labels, whose
    people a student learns from the teacher's answers.
    """
    without = {
        "student": student, "weights": weights, "boxes": boxes, "detector": detector, "annotations": annotations,
        "frame_step": frame_step, "steps": steps,
    }  # fmt: skip
    given = {name: value for name, value in without.items() if value is not None}
    control_seeds = _control_seeds(seeds, control=control)
    folder = out or (Path("runs") / images[0].resolve().stem if images else None)
    if recipe is None and resume and folder is not None and (folder / "config.yaml").is_file():
        from posestill.engine.choose import check_begun

        now = {**given, "images": images, "teacher": teacher}
        told = {name: value for name, value in now.items() if value is not None and name != "steps"}
        check_begun(load_recipe(str(folder), None, plugin), told, folder=folder)
        # What was chosen then stands in the folder, which is the recipe of this run.
        recipe, out = str(folder), folder
        changes = [*(changes or ()), *([] if steps is None else [f"train.steps={steps}"])]
        images, teacher, given, plugin = None, None, {}, None
    if recipe is not None:
        if images or given:
            named = [f"--{name}".replace("_", "-") for name in [*(["images"] if images else []), *given]]
            raise UserError(
                f"distil: {', '.join(named)} describe a run without a recipe; in a recipe it is data.train: {{name: "
                "images, folder: ...}"
            )
        settings = load_recipe(recipe, [*(changes or ()), *teacher_changes(teacher)], plugin)
        if settings.teacher is None:
            raise UserError("distil needs a teacher: --teacher FILE, or `teacher:` in the recipe (train does without)")
        _run(settings, _folder(recipe, out), resume=resume, dry_run=dry_run, control_seeds=control_seeds)
        return
    if not images or teacher is None:
        raise UserError(
            "distil needs a recipe, or pictures and a teacher: posestill distil --images photos --teacher FILE "
            "--student small"
        )
    load_plugins(plugin)
    from posestill.engine.choose import Wish

    wish = Wish(images=images, teacher=teacher, **given)  # type: ignore[arg-type]
    assert folder is not None  # there are images
    _distil_pictures(wish, changes or (), folder, resume=resume, dry_run=dry_run, control=control)


app.command("distill", hidden=True)(distil)


def _control_seeds(seeds: int, *, control: bool) -> int:
    """How many seeds of each way of training --control trains; 0 without it."""
    if not control and seeds != 1:
        raise UserError("--seeds counts the trainings of --control: give that, too")
    return seeds if control else 0


def _folder(recipe: str, out: Path | None) -> Path:
    return out or Path("runs") / Path(recipe).stem


def _distil_pictures(
    wish: Wish, changes: Sequence[str], folder: Path, *, resume: bool, dry_run: bool, control: bool
) -> None:
    """A run without a recipe, from the choice of its settings to its report."""
    import yaml

    from posestill.engine.choose import choose_run

    if control:
        raise UserError("--control: there are no labels to train the student alone on; it needs a recipe with labels")
    if not dry_run and not resume and (folder / "config.yaml").is_file():  # before anything is found or asked
        raise UserError(f"{folder} holds a run already: choose another --out, or go on with it by --resume")
    log = _log()
    chosen = choose_run(wish, folder, changes=changes, log=log)
    recipe = chosen.config.model_dump(mode="json", exclude_defaults=True)
    log.say(f"as a recipe:\n{yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120)}")
    _run(chosen.config, folder, resume=resume, dry_run=dry_run, control_seeds=0, sources=chosen.sources)


def _log() -> RunLog:
    """What the first of several processes says to whoever looks on."""
    import os

    from posestill.engine.log import RunLog

    return RunLog(None, quiet=os.environ.get("RANK", "0") != "0")


def _run(
    settings: RunConfig,
    folder: Path,
    *,
    resume: bool,
    dry_run: bool,
    control_seeds: int,
    sources: Sources | None = None,
) -> None:
    if dry_run:
        _try(settings, sources)
        return
    from posestill.engine.checkpoint import saved_step
    from posestill.engine.fit import fit
    from posestill.engine.stopping import Stopped
    from posestill.html.report import Gained, write_run_report
    from posestill.study.control import as_gained, train_with_controls

    gained: Gained | None = None
    warning = ""
    if settings.data.has_no_labels:
        from posestill.engine.choose import starts_from_nothing

        warning = starts_from_nothing(settings)
    if warning:
        _log().say(f"\n!!! {warning}\n")
    try:
        if control_seeds:
            counterfactual = train_with_controls(settings, folder, seeds=control_seeds, resume=resume)
            result, gained = counterfactual.result, as_gained(counterfactual)
        else:
            result = fit(settings, folder, resume=resume, sources=sources)
    except Stopped as stopped:
        raise Interrupted(str(stopped)) from None
    except KeyboardInterrupt:
        step = saved_step(folder / "last")
        where = "nothing is saved yet, --resume starts anew" if step is None else f"--resume goes on from step {step}"
        raise Interrupted(f"interrupted; {where}") from None
    if result.is_main_process:
        from posestill.engine.beside import put_beside
        from posestill.html.beside import told

        beside = put_beside(settings, folder, result.sources)
        typer.echo("\n".join(told(beside)))
        report = write_run_report(result, settings, beside, gained=gained)
        typer.echo(f"model: {folder / 'best'}\nfigures: {folder / 'eval.json'}\nreport: {report}")
    if warning:
        _log().say(f"\n!!! {warning}")


def _try(settings: RunConfig, sources: Sources | None = None) -> None:
    from posestill.engine.config import dump_run
    from posestill.engine.setup import open_sources, try_one_batch

    log = _log()
    losses = try_one_batch(settings, sources or open_sources(settings, log=log), log=log)
    typer.echo(dump_run(settings), nl=False)
    told = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    typer.echo(f"# fits; the first batch's losses: {told}")
