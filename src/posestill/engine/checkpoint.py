"""The training state: everything an exact resume needs, in one file that is replaced as a whole."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from posestill.files import write_whole
from posestill.schema import UserError

STATE = "training.pt"


@dataclass
class TrainingState:
    """What was reached after `step` optimiser steps. Order and augmentation follow from the step: no state."""

    step: int
    distiller: dict[str, Any]
    averaged: dict[str, Any] | None
    """the EMA's weights"""
    optimiser: dict[str, Any]
    scaler: dict[str, Any] | None
    """fp16's loss scale"""
    best: float | None
    """the best figure so far"""
    losses: dict[str, Any]
    """sums of the losses that were not logged yet ..."""
    summed: int
    """... over this many steps"""
    threads: int | None = None
    """that were chosen on a CPU, so that a resumed run adds up in the same order"""


def save_state(folder: Path, state: TrainingState) -> None:
    """Write `folder/training.pt`. Whoever is killed meanwhile leaves the old file or the new one, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / STATE, lambda draft: torch.save(_fields(state), draft))


def load_state(folder: Path) -> TrainingState | None:
    """The saved state, or None where there is none; a `UserError` when the file is broken."""
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is broken ({error}): delete it to start the run anew") from None


def cut_back(path: Path, step: int) -> None:
    """Drop the rows of a metrics.jsonl that lie after `step`: they will be written again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that a kill cut off
        if row.get("step", 0) <= step:
            kept.append(line)
    write_whole(path, lambda draft: draft.write_text("".join(f"{line}\n" for line in kept)))


def _fields(state: TrainingState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in fields(state)}
