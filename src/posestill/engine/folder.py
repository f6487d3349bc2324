"""A run folder belongs to one run, and one process at a time writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from posestill.engine.config import RunConfig, dump_run
from posestill.engine.differences import first_difference
from posestill.files import refuse_taken, write_whole
from posestill.schema import UserError
from posestill.teachers.lock import claimed

DESCRIPTION, LOCK = "config.yaml", ".lock"
WRITTEN = (
    "config.yaml", "metrics.jsonl", "eval.json", "control.json", "beside.json", "report.html", "best/config.json",
    "best/model.safetensors", "last/training.pt",
)  # fmt: skip
"""what a run writes into its folder, which is known for one by its config.yaml"""


def check_place(folder: Path) -> None:
    """A `UserError` where there is no run yet, but something else that a run would write over."""
    if not (folder / DESCRIPTION).is_file():
        refuse_taken(folder, WRITTEN, what="the run folder")


@contextmanager
def held_by_this_run(folder: Path) -> Iterator[None]:
    """Within it no other process trains into the folder; a `UserError` where one does already."""
    check_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(
        folder / LOCK,
        refusal=lambda holder: (
            f"{folder} is being trained into by process {holder}: wait until it has ended, or choose another --out"
        ),
    ):
        yield


def write_description(folder: Path, config: RunConfig) -> None:
    """Write down which run the folder is of."""
    write_whole(folder / DESCRIPTION, lambda draft: draft.write_text(dump_run(config)))


def check_folder(config: RunConfig, folder: Path, *, resume: bool, reached: int | None, follows_progress: bool) -> None:
    """A `UserError` where the folder holds a run that this one does not go on with.

    `reached` is the saved step; `follows_progress` says whether the method's losses depend on the length of the run.
    """
    path = folder / DESCRIPTION
    if path.is_file() and not resume:
        raise UserError(f"{folder} holds a run already: choose another --out, or go on with it by --resume")
    if not path.is_file() or not path.read_bytes().strip():  # an empty one, from a crash, says nothing
        return
    before = read_description(path)
    length_before, length_now = _length(before), _length(config.model_dump(mode="json"))
    other_length = length_before != length_now and length_before[0] == length_now[0]
    if (difference := difference_from(config, before, but_for_length=other_length)) is not None:
        raise UserError(f"--resume: {path} describes another run: {difference}. Resume it with its own settings")
    if other_length:
        change = f"{path}: train.{length_now[0]} was {length_before[1]} and is now {length_now[1]}"
        _check_length(config, change, reached, follows_progress=follows_progress)


def read_description(path: Path) -> dict[str, Any]:
    """The settings in a config.yaml as plain values."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} is broken: write its settings anew (posestill config RECIPE), or choose another --out")
    return found


def difference_from(config: RunConfig, before: dict[str, Any], *, but_for_length: bool = False) -> str | None:
    """The first setting in which a run differs from one that was begun; what that one lacks counts as its default."""
    now, chosen = config.model_dump(mode="json"), config.model_dump(mode="json", exclude_defaults=True)
    if but_for_length:
        before, now, chosen = ({**each, "train": _without_length(each.get("train"))} for each in (before, now, chosen))
    return first_difference(before, now, chosen)


def _check_length(config: RunConfig, change: str, reached: int | None, *, follows_progress: bool) -> None:
    """A `UserError` where steps that were taken would have been others in a run of the new length."""
    reason = ""
    if config.train.optimiser.schedule == "cosine":
        reason = "the learning rate falls along a cosine to the end of the run"
    elif follows_progress:
        reason = "the weights of the method's losses follow the share of the run that is done"
    if reached is not None and reason:
        raise UserError(
            f"--resume: {change}, but {reason}, so that the steps taken belong to a run of the old length. End it as "
            "it is, or begin a new one"
        )


def _length(settings: dict[str, Any]) -> tuple[str, Any]:
    """The unit of a run's length and its number."""
    train = settings.get("train")
    train = train if isinstance(train, dict) else {}
    unit = "steps" if train.get("steps") is not None else "epochs"
    return unit, train.get(unit)


def _without_length(train: Any) -> Any:
    return (
        {key: value for key, value in train.items() if key not in ("steps", "epochs")}
        if isinstance(train, dict)
        else train
    )
