"""What the processes of one run tell one another: that they begin alike, when to save and stop, that one is lost."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from posestill.schema import UserError

Each = TypeVar("Each")


@dataclass(frozen=True)
class Beginning:
    """What one process has before the first step."""

    settings: str
    """digits of its settings and of the persons that it would train on"""
    weights: str
    """digits of its student before any step"""
    reached: int | None
    """the step of the state that it found; None where it found none or looked for none"""
    error: str = ""
    """why it cannot begin"""
    host: str = platform.node()


def gathered(own: Each) -> list[Each]:
    """The values of all processes, in the order of their ranks."""
    if not _several():
        return [own]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return found


def agree(own: Beginning) -> bool:
    """A `UserError` in every process where they do not begin alike; returns whether some lack the first one's state."""
    found = gathered(own)
    for rank, each in enumerate(found):
        if each.error:
            raise UserError(own.error or f"{_named(rank, each)} cannot begin: {each.error}")
    for rank, each in enumerate(found):
        first = found[0]
        both = f"{_named(0, first)} and {_named(rank, each)}"
        if each.settings != first.settings:
            raise UserError(
                f"{both} have other settings or other persons to train on: give each the same recipe and data"
            )
        if each.weights != first.weights:
            raise UserError(
                f"{both} begin with other weights: give each the same files of weights (init_from, pretrained)"
            )
        if each.reached not in (first.reached, None):
            at = "no state" if first.reached is None else f"the state of step {first.reached}"
            raise UserError(
                f"--resume: {_named(0, first)} finds {at} in the run folder and {_named(rank, each)} that of step "
                f"{each.reached}: put the run folder on a disk that all share, or leave it where the first process runs"
            )
    return any(each.reached != found[0].reached for each in found)


def sent_by_the_first(value: Each, device: torch.device) -> Each:
    """The first process's value, in every process."""
    if not _several():
        return value
    held: list[Any] = [value]
    torch.distributed.broadcast_object_list(held, src=0, device=device if device.type == "cuda" else None)
    result: Each = held[0]
    return result


def agree_on_state(digits: str, step: int) -> None:
    """A `UserError` in every process where they would go on from different states."""
    found = gathered(digits)
    different = [rank for rank, each in enumerate(found) if each != found[0]]
    if different:
        raise UserError(
            f"process 0 and process {different[0]} would train from different weights at step {step}: remove the run "
            "folder (last/) wherever it is not the first process's, and run it again with --resume"
        )


class Signals:
    """Whether any process was asked to stop or finds that it is time to save: the same answer in all, at each step.

    With several processes it is the answer of the step before, so that no process waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sent: tuple[Any, Tensor] | None = None

    def exchange(self, *, stop: bool, save: bool) -> tuple[bool, bool]:
        """Tell the others and return (stop, save)."""
        if not _several():
            return stop, save
        before, told = self._sent, torch.tensor([stop, save], dtype=torch.int32, device=self.device)
        work = torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX, async_op=True)
        self._sent = (work, told)
        if before is None:
            return False, False
        before[0].wait()
        stop_all, save_all = before[1].tolist()
        return bool(stop_all), bool(save_all)


@contextmanager
def company(world: int) -> Iterator[None]:
    """Within it the loss of another process becomes one line that says so."""
    try:
        yield
    except RuntimeError as error:
        if world == 1 or not _is_a_loss(error):
            raise
        raise UserError(
            "another process of this run has ended, so that this one cannot go on. Its own message says why; the same "
            "command with --resume goes on from the last saved step (torchrun --max-restarts=N does so by itself)"
        ) from None


def rank() -> int:
    """The number of this process, before anything is set up."""
    return int(os.environ.get("RANK", "0"))


def _is_a_loss(error: RuntimeError) -> bool:
    """Whether an error is the transport's: it has a class of its own only where torch knows one."""
    kinds = tuple(getattr(torch.distributed, name) for name in ("DistError",) if hasattr(torch.distributed, name))
    text = str(error).lower()
    signs = ("connection closed", "connection reset", "connection refused", "gloo", "nccl", "broken pipe", "timed out")
    return isinstance(error, kinds) or any(sign in text for sign in signs)


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _named(rank: int, each: Beginning) -> str:
    return f"process {rank} on {each.host}"
