"""Options that several verbs share, and what they do with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from posestill.engine.config import RunConfig

Recipe = Annotated[str, typer.Argument(help="A recipe's name (see `posestill list recipes`) or its path.")]
Changes = Annotated[
    Optional[list[str]], typer.Option("--set", help="Change a setting: --set train.steps=500. Repeatable.")
]
Plugin = Annotated[Optional[list[Path]], typer.Option(help="A Python file of yours that adds to posestill.catalog.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write over files that are there and that posestill did not write.")
]

Boxes = Annotated[
    Optional[Path], typer.Option(help="COCO annotations or detections, or {file name: [[x, y, w, h], ...]}.")
]
Detector = Annotated[
    Optional[Path], typer.Option(help="A file or hf:OWNER/NAME that finds people; else the whole frame is one person.")
]


def load_plugins(plugins: Sequence[Path] | None) -> None:
    """Run the user's own Python files, which add to the tables of the catalog."""
    if not plugins:
        return
    from posestill.engine.config import load_plugin

    for path in plugins:
        load_plugin(path)


def load_recipe(recipe: str, changes: Sequence[str] | None, plugins: Sequence[Path] | None = None) -> RunConfig:
    """The run that a recipe, `--set` and `--plugin` describe."""
    load_plugins(plugins)
    from posestill.engine.config import load_run

    return load_run(recipe, list(changes or ()))
