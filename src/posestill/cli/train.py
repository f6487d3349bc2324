"""`posestill train` and `posestill distil`: a run from its recipe to its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import Interrupted, app
from posestill.cli.options import Changes, Plugin, Recipe, load_recipe
from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.engine.config import RunConfig

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
    _run(settings, _folder(recipe, out), resume=resume, dry_run=dry_run, control_seeds=seeds if control else 0)


@app.command()
def distil(
    recipe: Recipe,
    changes: Changes = None,
    out: Out = None,
    plugin: Plugin = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    control: Control = False,
    seeds: Seeds = 1,
    teacher: Annotated[Optional[str], typer.Option(help="A model folder, or `bundled`.")] = None,
) -> None:
    """Train a student with a teacher."""
    more: Sequence[str] = [f"teacher.name={json.dumps(teacher)}"] if teacher else []
    settings = load_recipe(recipe, [*(changes or ()), *more], plugin)
    if settings.teacher is None:
        raise UserError("distil needs a teacher: --teacher FOLDER, or `teacher:` in the recipe (train does without)")
    _run(settings, _folder(recipe, out), resume=resume, dry_run=dry_run, control_seeds=seeds if control else 0)


app.command("distill", hidden=True)(distil)


def _folder(recipe: str, out: Path | None) -> Path:
    return out or Path("runs") / Path(recipe).stem


def _run(settings: RunConfig, folder: Path, *, resume: bool, dry_run: bool, control_seeds: int) -> None:
    if dry_run:
        _try(settings)
        return
    from posestill.engine.fit import fit
    from posestill.html.report import write_run_report
    from posestill.study.control import as_html, train_with_controls

    verdict: list[str] = []
    try:
        if control_seeds:
            counterfactual = train_with_controls(settings, folder, seeds=control_seeds, resume=resume)
            result, verdict = counterfactual.result, as_html(counterfactual)
        else:
            result = fit(settings, folder, resume=resume)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; --resume goes on from the last step saved in {folder / 'last'}") from None
    if result.is_main_process:
        report = write_run_report(result, settings, verdict)
        typer.echo(f"model: {folder / 'best'}\nfigures: {folder / 'eval.json'}\nreport: {report}")


def _try(settings: RunConfig) -> None:
    from posestill.engine.config import dump_run
    from posestill.engine.log import RunLog
    from posestill.engine.setup import open_sources, try_one_batch

    losses = try_one_batch(settings, open_sources(settings), log=RunLog(None, quiet=True))
    typer.echo(dump_run(settings), nl=False)
    told = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    typer.echo(f"# fits; the first batch's losses: {told}")
