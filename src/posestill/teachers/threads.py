"""How many threads a teacher answers fastest with: tried before it is asked about many crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from posestill.models.threads import ThreadTrial, time_threads, try_threads
from posestill.teachers.base import Teacher
from posestill.teachers.runtime import RuntimeNetwork
from posestill.types import PoseBatch

FEWEST_CROPS = 100
"""so many crops must be asked about before a trial, which takes the time of some dozens, is worth it"""
CROPS = 4
"""blank ones that each trial asks about"""


@dataclass(frozen=True)
class Fastest:
    """A network with as many threads as it runs fastest with."""

    network: RuntimeNetwork
    trial: ThreadTrial | None
    """None where it had only one thread, and nothing was tried"""


def fastest(network: RuntimeNetwork, run: Callable[[RuntimeNetwork], object]) -> Fastest:
    """The same network with one thread or with all that it has now, whichever does `run` faster."""
    if network.threads == 1:
        return Fastest(network, None)
    networks = {threads: network.with_threads(threads) for threads in (1, network.threads)}
    trial = time_threads(lambda threads: run(networks[threads]), network.threads)
    return Fastest(networks[trial.fastest], trial)


@contextmanager
def asking(
    teacher: Teacher,
    crops: int,
    *,
    device: torch.device,
    say: Callable[[str], None] | None = None,
    threads: int | None = None,
) -> Iterator[None]:
    """While a teacher is asked about so many crops: with the threads that it answers fastest with.

    `say` is told which these are. `threads` fixes their number. Torch's number of threads is restored afterwards; a
    file's teacher keeps its own.
    """
    before = torch.get_num_threads()
    try:
        trial = None
        if threads is not None or crops >= FEWEST_CROPS:
            if teacher.has_own_threads:
                trial = teacher.choose_threads(threads)
            elif device.type == "cpu":
                trial = _choose_torchs(teacher, threads)
        if trial is not None and say is not None:
            say(f"threads of the teacher: {trial}")
        yield
    finally:
        torch.set_num_threads(before)


def blank_batch(teacher: Teacher, crops: int = CROPS) -> PoseBatch:
    """Black crops of the size that a teacher wants."""
    points = torch.zeros(crops, 1, 2)
    return PoseBatch(
        image=torch.zeros(crops, 3, *teacher.input_size, dtype=torch.uint8),
        keypoints=points,
        weight=points[..., 0],
        to_image=torch.eye(2, 3).expand(crops, 2, 3),
        index=torch.zeros(crops, dtype=torch.long),
    )


def _choose_torchs(teacher: Teacher, threads: int | None) -> ThreadTrial | None:
    """Set torch's number of threads for a teacher that it runs."""
    if threads is not None:
        torch.set_num_threads(threads)
        return None
    batch = blank_batch(teacher)
    return try_threads(lambda: teacher(batch))
