"""Options that several verbs share, and what they do with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.cluster.on_ray import RayCluster
    from posestill.cluster.shards import Shard
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

Share = Annotated[
    Optional[str], typer.Option("--shard", help="I/N: this machine's share of the work, the I-th of N from 1.")
]
On = Annotated[Optional[str], typer.Option(help="ray: the cluster that runs here; ray://HOST:PORT. Else this machine.")]
Gpus = Annotated[Optional[float], typer.Option(min=0, help="With --on: GPUs of a run, such as 0.25; 1 if there are.")]

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


def share_of(shard: str | None, on: str | None) -> Shard:
    """The share of the work that `--shard` means: all of it without one, and where a cluster shares it out."""
    from posestill.cluster.shards import WHOLE, read_shard

    if shard is None:
        return WHOLE
    if on is not None:
        raise UserError("--shard and --on both share the work out: give one of them")
    return read_shard(shard)


@contextmanager
def cluster_of(
    on: str | None, gpus: float | None, plugins: Sequence[Path] | None, *, most: int | None = None
) -> Iterator[RayCluster | None]:
    """Within it the cluster is joined that `--on` means; None for this machine alone."""
    if on is None:
        if gpus is not None:
            raise UserError("--gpus says how many GPUs of a cluster a run has: it needs --on")
        yield None
        return
    from posestill.cluster.on_ray import RayCluster
    from posestill.engine.config import load_plugin

    with RayCluster(on, gpus=gpus, most=most, plugins=tuple(plugins or ()), load=load_plugin) as cluster:
        yield cluster


def teacher_changes(teacher: str | None) -> list[str]:
    """The changes of a recipe that set its teacher and leave the teacher's other settings."""
    if teacher is None:
        return []
    import json

    from posestill.engine.choose import teacher_of

    return [f"teacher.{key}={json.dumps(value)}" for key, value in teacher_of(teacher).items()]


def load_recipe(recipe: str, changes: Sequence[str] | None, plugins: Sequence[Path] | None = None) -> RunConfig:
    """The run that a recipe, `--set` and `--plugin` describe."""
    load_plugins(plugins)
    from posestill.engine.config import load_run

    return load_run(recipe, list(changes or ()))


def refuse_given(options: Mapping[str, Any], because: str) -> None:
    """A `UserError` where options were given that would do nothing."""
    given = [name for name, value in options.items() if value is not None and value != []]
    if given:
        raise UserError(f"{because}: leave {', '.join(given)} out")
