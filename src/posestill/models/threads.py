"""How many threads a piece of work runs fastest with: tried, not guessed.

A small network on a busy machine may be many times slower with two threads than with one, as each waits for the other;
a large one on a free machine is faster with all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

ROUNDS = 3
"""how often each number of threads is tried"""


@dataclass(frozen=True)
class ThreadTrial:
    """What was tried, and which was the faster."""

    seconds: Mapping[int, float]
    """the least that the work took, by the number of threads"""

    @property
    def fastest(self) -> int:
        """The number of threads to take."""
        return min(self.seconds, key=lambda threads: self.seconds[threads])

    def __str__(self) -> str:
        told = ", ".join(f"{threads}: {1000 * each:.0f} ms" for threads, each in sorted(self.seconds.items()))
        return f"{self.fastest} of {max(self.seconds)} threads is the fastest here ({told})"


def try_threads(work: Callable[[], object]) -> ThreadTrial | None:
    """Do the work with one of torch's threads and with all of them, in turn; None where there is only one.

    Torch's number of threads is left at the faster one.
    """

    def with_threads(threads: int) -> None:
        torch.set_num_threads(threads)
        work()

    most = torch.get_num_threads()
    if most == 1:
        return None
    trial = time_threads(with_threads, most)
    torch.set_num_threads(trial.fastest)
    return trial


def time_threads(work: Callable[[int], object], most: int) -> ThreadTrial:
    """Do work that is told how many threads to take, with one and with `most`, in turn."""
    found: dict[int, float] = {}
    for number in range(ROUNDS + 1):
        for threads in (1, most):
            began = time.perf_counter()
            work(threads)
            taken = time.perf_counter() - began
            if number:  # the first round only warms up
                found[threads] = min(taken, found.get(threads, taken))
    return ThreadTrial(found)
