"""The training state: everything an exact resume needs, in one file that is replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

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
    seconds: float = 0.0
    """that were trained, evaluation left out"""
    evaluated: bool = True
    """False: the run was stopped in the evaluation that follows `step`, which comes first when it goes on"""
    method_version: int | None = None
    """of the method's settings; None in states that are older than this field"""


def save_state(folder: Path, state: TrainingState) -> None:
    """Write `folder/training.pt`. Whoever is killed meanwhile leaves the old file or the new one, whole."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(draft: Path) -> None:
        with draft.open("wb") as handle:
            careful = _Careful(handle)
            try:
                torch.save(_fields(state), careful)  # type: ignore[arg-type]  # it asks for these two methods
            except RuntimeError:
                if careful.failed is None:
                    raise
                raise careful.failed from None

    write_whole(folder / STATE, write)


class _Careful:
    """A file for torch.save, which swallows why a write failed."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle = handle
        self.failed: OSError | None = None

    def write(self, content: bytes) -> int:
        """As a file does."""
        try:
            return self.handle.write(content)
        except OSError as error:
            self.failed = error
            raise

    def flush(self) -> None:
        """As a file does."""
        self.handle.flush()


def load_state(folder: Path) -> TrainingState | None:
    """The saved state, or None where there is none; a `UserError` when the file is broken."""
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is broken ({error}): delete it to start the run anew") from None


def check_state(state: TrainingState | None, *, total: int, version: int) -> None:
    """A `UserError` where a state is not one that a run of `total` steps by this version of the method goes on from."""
    if state is None:
        return
    if state.step > total:
        raise UserError(
            f"--resume: the run has reached step {state.step} and would end at step {total}: give it more steps"
        )
    if state.method_version not in (None, version):
        raise UserError(
            f"--resume: the run was begun by version {state.method_version} of its method, and this is version "
            f"{version}, which trains otherwise: end it by the posestill that began it, or begin a new run"
        )


def saved_step(folder: Path) -> int | None:
    """The step of the saved state; None where there is none that can be read."""
    try:
        found = torch.load(folder / STATE, map_location="cpu", weights_only=True, mmap=True)
        return int(found["step"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        return None


def checksum(*states: Any) -> str:
    """Sixteen hexadecimal digits of everything in nested states: equal digits are equal bits."""
    digest = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            for key in value:
                digest.update(repr(key).encode())
                take(value[key])
        elif isinstance(value, list | tuple):
            for each in value:
                take(each)
        else:
            digest.update(repr(value).encode())

    take(states)
    return digest.hexdigest()[:16]


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
