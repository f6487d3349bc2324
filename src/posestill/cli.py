"""The command line. `--help` and `evaluate --results` import no torch: every verb brings in what it needs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.data.source import PoseSource

app = typer.Typer(
    name="posestill",
    help="Turn a strong human-pose estimator and your images into a small one that ships.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

data = typer.Typer(help="Look after data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

Recipe = Annotated[str, typer.Argument(help="A recipe's name (see `posestill list`) or its path.")]
Changes = Annotated[
    Optional[list[str]], typer.Option("--set", help="Change a setting: --set train.steps=500. Repeatable.")
]
Plugin = Annotated[Optional[list[Path]], typer.Option(help="A Python file of yours that adds to posestill.catalog.")]
Out = Annotated[Optional[Path], typer.Option(help="The run folder; runs/RECIPE by default.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the run folder.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Build everything, try one batch, write nothing.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
FlipTest = Annotated[bool, typer.Option(help="Average with the mirrored crop's prediction.")]


Control = Annotated[bool, typer.Option(
    "--control", help="Train the student alone and on pseudo-labels, too, and say what was gained.")]  # fmt: skip
Seeds = Annotated[int, typer.Option(min=1, help="With --control: of each way of training.")]


@app.command()
def train(
    recipe: Recipe, changes: Changes = None, out: Out = None, plugin: Plugin = None, resume: Resume = False,
    dry_run: DryRun = False, control: Control = False, seeds: Seeds = 1,
) -> None:  # fmt: skip
    """Train what a recipe describes, with or without a teacher."""
    _run(recipe, list(changes or []), out, plugin, resume, dry_run, seeds if control else 0)


@app.command()
def distil(
    recipe: Recipe, changes: Changes = None, out: Out = None, plugin: Plugin = None, resume: Resume = False,
    dry_run: DryRun = False, control: Control = False, seeds: Seeds = 1,
    teacher: Annotated[Optional[str], typer.Option(help="A model folder, or `bundled`.")] = None,
) -> None:  # fmt: skip
    """Train a student with a teacher."""
    more = [*(changes or []), *([f"teacher.name={json.dumps(teacher)}"] if teacher else [])]
    _run(recipe, more, out, plugin, resume, dry_run, seeds if control else 0, wants_teacher=True)


app.command("distill", hidden=True)(distil)


@app.command()
def evaluate(
    model: Annotated[Optional[Path], typer.Argument(help="A model folder, such as runs/NAME/best.")] = None,
    annotations: Annotated[Optional[Path], typer.Option(help="COCO keypoint annotations: the truth.")] = None,
    images: Annotated[Optional[Path], typer.Option(help="Their folder of images.")] = None,
    results: Annotated[Optional[Path], typer.Option(help="Score this COCO results file; no model is needed.")] = None,
    metainfo: Annotated[Optional[Path], typer.Option(help="JSON with sigmas and flip pairs of the skeleton.")] = None,
    wholebody: Annotated[
        bool, typer.Option("--wholebody", help="The annotations are COCO-WholeBody's: 133 keypoints.")
    ] = False,
    recipe: Annotated[
        Optional[str], typer.Option(help="Take the validation data of this recipe or run folder.")
    ] = None,
    changes: Changes = None,
    plugin: Plugin = None,
    boxes: Annotated[Optional[Path], typer.Option(help="A COCO detections file; else the annotated boxes.")] = None,
    box_threshold: Annotated[Optional[float], typer.Option(help="Detections scored below are left out.")] = None,
    rescoring: Annotated[Optional[str], typer.Option(help="A person's score: published, mean, sum or box.")] = None,
    oks_nms: Annotated[
        Optional[float], typer.Option(help="OKS beyond which one of two detected poses goes; 0: none.")
    ] = None,
    flip_test: Annotated[Optional[bool], typer.Option(help="Average with the mirrored crop's prediction.")] = None,
    batch_size: Annotated[Optional[int], typer.Option(min=1, help="Crops at a time.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that cut crops; 0: this one.")] = 0,
    device: Device = "auto",
    json_out: Annotated[Optional[Path], typer.Option("--json", help="Write the figures to this file.")] = None,
    save_results: Annotated[Optional[Path], typer.Option(help="Write the predictions as a COCO results file.")] = None,
) -> None:
    """OKS AP and AR, mean OKS, PCK: of a model, or of any COCO results file."""
    _load_plugins(plugin)
    if results is not None:
        if annotations is None:
            raise UserError("evaluate --results needs --annotations, the truth to score against")
        from posestill.data.results import score_results

        figures = score_results(annotations, results, metainfo=metainfo, wholebody=wholebody)
    elif model is not None:
        from posestill.predict import evaluate_folder, evaluation_settings

        source = _open_truth(
            annotations, images, metainfo=metainfo, wholebody=wholebody, recipe=recipe, changes=list(changes or [])
        )
        settings = evaluation_settings(
            None if recipe is None else _load(recipe, list(changes or []), None).evaluate,
            flip_test=flip_test,
            batch_size=batch_size,
            boxes=boxes,
            box_threshold=box_threshold,
            oks_nms=oks_nms,
            rescoring=rescoring,
        )
        figures = evaluate_folder(model, source, settings, workers=workers, device=device, save_results=save_results)
    else:
        raise UserError("evaluate needs a model folder, or --results with --annotations")
    _print_figures(figures)
    if json_out is not None:
        from posestill.files import write_json

        write_json(json_out, figures)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, such as runs/NAME/best.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Where drawn images and predictions.json go.")] = Path("predictions"),
    boxes: Annotated[Optional[Path], typer.Option(
        help="COCO annotations, or JSON {file name: [[x, y, w, h], ...]}; else a frame is one person.")] = None,
    flip_test: FlipTest = False,
    threshold: Annotated[float, typer.Option(help="Keypoints scored below are not drawn.")] = 0.2,
    device: Device = "auto",
    draw: Annotated[bool, typer.Option(help="Write drawn images.")] = True,
    plugin: Plugin = None,
) -> None:  # fmt: skip
    """Poses of the persons in images: drawn, and as a COCO results file."""
    from posestill.predict import Predictor, find_images, predict_files

    _load_plugins(plugin)
    predictor = Predictor(model, flip_test=flip_test, device=device)
    wanted = find_images(paths, boxes)
    people = predict_files(predictor, wanted, out=out, threshold=threshold, draw=draw)
    if not predictor.model.codec.has_score:
        typer.echo("This model has no trained confidence: every keypoint score is 1.")
    typer.echo(f"{people} persons in {len(wanted)} images -> {out}")


@app.command()
def config(recipe: Recipe, changes: Changes = None, plugin: Plugin = None) -> None:
    """Print a run with every setting resolved."""
    from posestill.config import dump_run

    typer.echo(dump_run(_load(recipe, list(changes or []), plugin)), nl=False)


@app.command("list")
def list_parts(plugin: Plugin = None) -> None:
    """Show the methods, models, data sources and recipes there are, and what they need."""
    from posestill.listing import describe_parts

    _load_plugins(plugin)
    typer.echo(describe_parts())


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Where the runs and report.html go.")] = Path("runs/quickstart"),
    steps: Annotated[Optional[int], typer.Option(min=1, help="Steps of every arm; the recipe's by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights, order and augmentation.")] = 0,
) -> None:
    """See distillation happen: no data, no arguments, a few minutes on a CPU."""
    from posestill.quickstart import run_quickstart

    run_quickstart(out, steps=steps, seed=seed)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A published checkpoint, such as a .pth file.")],
    layout: Annotated[str, typer.Option("--from", help="distilpose-s, distilpose-l or tokenpose-hr48.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
) -> None:
    """Make a model folder of a published checkpoint; only its weights are read."""
    from posestill.convert import convert_checkpoint

    converted = convert_checkpoint(checkpoint, layout)
    converted.model.save(out)
    parameters = sum(each.numel() for each in converted.model.parameters())
    for key in converted.unused:
        typer.echo(f"not used: {key}")
    typer.echo(f"{layout}: {parameters:,} parameters, every key fits, {len(converted.unused)} not used\nmodel: {out}")


@app.command()
def compare(
    plan: Annotated[Path, typer.Argument(help="A YAML of arms, regimes, seeds and learning rates.")],
    results: Annotated[Optional[Path], typer.Option(help="One JSON a run, tables, pictures; results/PLAN.")] = None,
    work: Annotated[Optional[Path], typer.Option(help="Run folders and models made on the way; runs/PLAN.")] = None,
    stage: Annotated[Optional[list[str]], typer.Option(help="tune, screen, confirm, or none: tables only.")] = None,
    workers: Annotated[Optional[int], typer.Option(min=1, help="Runs at a time; one a core, one on a GPU.")] = None,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep the run folders with their models.")] = False,
    plugin: Plugin = None,
) -> None:
    """Compare ways of training under one protocol: controls, seeds, intervals. Run it again to go on."""
    from posestill.compare import STAGES, Workshop, run_and_write

    _load_plugins(plugin)
    shop = Workshop(
        results=results or Path("results") / plan.stem,
        work=work or Path("runs") / plan.stem,
        workers=workers,
        plugins=tuple(plugin or ()),
        keep_runs=keep_runs,
    )
    try:
        report = run_and_write(plan, shop, stages=STAGES if stage is None else stage)
    except KeyboardInterrupt:
        raise _Interrupted("interrupted; the same command goes on with what is not finished") from None
    typer.echo(f"table: {report.parent / 'table.md'}\nreport: {report}")


@data.command("check")
def check_data(
    dataset: Annotated[Path, typer.Argument(help="COCO annotations, a folder of them, or a YOLO-pose data.yaml.")],
    images: Annotated[Optional[Path], typer.Option(help="The folder of images, where it is not beside.")] = None,
    metainfo: Annotated[Optional[Path], typer.Option(help="Sigmas and flip pairs of the skeleton.")] = None,
    fix: Annotated[Optional[Path], typer.Option(help="Write a repaired COCO copy to this new folder.")] = None,
    sheet: Annotated[Path, typer.Option(help="Where the contact sheet goes.")] = Path("data-check.png"),
) -> None:
    """Say in plain words what is wrong with a dataset; exit status 1 when something is."""
    from posestill.data.doctor import check

    text, is_sound = check(dataset, images=images, metainfo=metainfo, fix=fix, sheet=sheet)
    typer.echo(text)
    if not is_sound:
        raise typer.Exit(1)


@data.command("pack")
def pack_data(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    part: Annotated[str, typer.Option(help="train or val: which of the recipe's sources.")] = "train",
    people: Annotated[Optional[int], typer.Option(min=1, help="Only the first so many labelled people.")] = None,
    long_side: Annotated[Optional[int], typer.Option(min=16, help="Shrink larger images to it, px.")] = None,
    changes: Changes = None,
    plugin: Plugin = None,
) -> None:
    """Write the people and images of a recipe into one small file, to move them to another machine at once."""
    from posestill.data.packed import PackedSource, pack

    if part not in ("train", "val"):
        raise UserError(f"--part {part}: train or val")
    if out.exists():
        raise UserError(f"{out} is there already: choose another --out")
    source = getattr(_load(recipe, list(changes or []), plugin).data, part).build()
    count = pack(source, out, people=people, long_side=long_side)
    images, megabytes = len(PackedSource(out).image_ids), out.stat().st_size / 1e6
    typer.echo(f"{count} people, {images} images, {megabytes:.1f} MB\ndata.{part}: {{name: packed, file: {out}}}")


def main() -> None:
    """The console script: a user's mistake becomes a short message and exit status 2."""
    try:
        app()
    except UserError as error:
        # A loader's process hands its mistake over inside a traceback; only its last words are for the user.
        _fail(str(error).rsplit("UserError: ", 1)[-1].strip(), 2)
    except _Interrupted as error:
        _fail(str(error), 130)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 2)


class _Interrupted(Exception):
    pass


def _fail(message: str, status: int) -> None:
    rank = os.environ.get("RANK", "0")
    print(f"posestill{'' if rank == '0' else f' [rank {rank}]'}: {message}", file=sys.stderr)
    sys.exit(status)


def _run(
    recipe: str, changes: list[str], out: Path | None, plugin: list[Path] | None, resume: bool, dry_run: bool,
    control_seeds: int = 0, wants_teacher: bool = False,
) -> None:  # fmt: skip
    settings = _load(recipe, changes, plugin)
    if wants_teacher and settings.teacher is None:
        raise UserError("distil needs a teacher: --teacher FOLDER, or `teacher:` in the recipe (train does without)")
    folder = out or Path("runs") / Path(recipe).stem
    from posestill.config import dump_run
    from posestill.engine.log import RunLog
    from posestill.engine.setup import open_sources, try_one_batch

    if dry_run:
        losses = try_one_batch(settings, open_sources(settings), log=RunLog(None, quiet=True))
        typer.echo(dump_run(settings), nl=False)
        typer.echo(
            "# fits; the first batch's losses: " + ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        )
        return
    from posestill.engine.fit import fit
    from posestill.report import write_run_report

    counterfactual = None
    try:
        if control_seeds:
            from posestill.control import train_with_controls

            counterfactual = train_with_controls(settings, folder, seeds=control_seeds, resume=resume)
            result = counterfactual.result
        else:
            result = fit(settings, folder, resume=resume)
    except KeyboardInterrupt:
        raise _Interrupted(f"interrupted; --resume goes on from the last step saved in {folder / 'last'}") from None
    if result.is_main_process:
        report = write_run_report(result, settings, counterfactual)
        typer.echo(f"model: {folder / 'best'}\nfigures: {folder / 'eval.json'}\nreport: {report}")


def _load(recipe: str, changes: list[str], plugin: list[Path] | None) -> Any:
    from posestill.config import load_run

    _load_plugins(plugin)
    return load_run(recipe, changes)


def _load_plugins(plugin: list[Path] | None) -> None:
    if not plugin:
        return
    from posestill.config import load_plugin

    for path in plugin:
        load_plugin(path)


def _open_truth(
    annotations: Path | None, images: Path | None, *, metainfo: Path | None, wholebody: bool, recipe: str | None,
    changes: list[str],
) -> PoseSource:  # fmt: skip
    if recipe is not None:
        source: PoseSource = _load(recipe, changes, None).data.val.build()
        return source
    if annotations is None or images is None:
        raise UserError("evaluate needs the data: --annotations with --images, or --recipe RECIPE")
    if wholebody and metainfo is not None:
        raise UserError("--wholebody brings its own skeleton: leave --metainfo out")
    from posestill.data.coco import CocoSource

    return CocoSource(annotations, images=images, metainfo=metainfo, wholebody=wholebody)


def _print_figures(figures: dict[str, Any]) -> None:
    typer.echo(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in figures["conditions"].items()))
    for name, value in figures.items():
        if isinstance(value, float):
            typer.echo(f"{name:>16} {_percent(value)}")
    if "parts" in figures:
        typer.echo(f"{'part':>16} {'AP':>6} {'AR':>6}")
        for part, ten in figures["parts"].items():
            typer.echo(f"{part:>16} {_percent(ten['AP'])} {_percent(ten['AR'])}")
    for note in figures["notes"]:
        typer.echo(note)


def _percent(value: float) -> str:
    """Six characters; -1, which says that there was nothing to evaluate, stays -1."""
    return f"{100 * value:6.1f}" if value != -1 else f"{'-1':>6}"


if __name__ == "__main__":
    main()
