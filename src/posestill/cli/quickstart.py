"""`posestill quickstart`: distillation to look at, without data and without arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from posestill.cli.app import app


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Where the runs and report.html go.")] = Path("runs/quickstart"),
    steps: Annotated[Optional[int], typer.Option(min=1, help="Steps of every arm; the recipe's by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights, order and augmentation.")] = 0,
) -> None:
    """See distillation happen in minutes, without data or a GPU."""
    from posestill.study.quickstart import run_quickstart

    run_quickstart(out, steps=steps, seed=seed)
