"""How much longer a step of one run takes than a step of another, for controls that get a method's wall-clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from posestill.engine.allocator import keep_freed_memory
from posestill.engine.config import RunConfig
from posestill.engine.log import RunLog
from posestill.engine.optim import build_optimiser
from posestill.engine.setup import open_sources, set_up
from posestill.engine.surroundings import surroundings

STEPS = 4
"""that are timed together"""
ROUNDS = 15
"""in each of which both runs take their steps, one after the other: what else the machine does meets both alike"""

Step = Callable[[], None]


def measure_steps(config: RunConfig, beside: RunConfig) -> dict[str, Any]:
    """How many times a step of `beside` a step of `config` takes, and milliseconds and persons a second of both.

    A step is a whole one: crops, student, teacher, losses, gradients, optimiser. `ratio` is the median over rounds,
    rounded to two digits, since the lengths of runs follow from it. Both take their steps in this process, on a CPU
    with one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in a training
    try:
        ways = {"run": steps_of(config), "beside": steps_of(beside)}
        seconds = alternate(ways, rounds=ROUNDS)
    finally:
        torch.set_num_threads(threads)
    ratios = [one / other for one, other in zip(seconds["run"], seconds["beside"], strict=True)]
    found: dict[str, Any] = {
        name: {
            "milliseconds": 1000 * statistics.median(each),
            "persons_per_second": run.train.batch_size / statistics.median(each),
        }
        for (name, each), run in zip(seconds.items(), (config, beside), strict=True)
    }
    return {"ratio": round(statistics.median(ratios), 2), "lowest": min(ratios), "highest": max(ratios), **found,
            "surroundings": surroundings()}  # fmt: skip


def steps_of(config: RunConfig) -> Step:
    """What takes the next `STEPS` training steps of a run each time that it is called."""
    device = torch.device("cpu")
    quiet = RunLog(None, quiet=True)
    built = set_up(config, open_sources(config, log=quiet, device=device), device=device, world=1, log=quiet)
    distiller = built.distiller.train()
    optimiser = build_optimiser(config.train.optimiser, distiller, distiller.parameter_groups())
    done = 0

    def step() -> None:
        nonlocal done
        for _ in range(STEPS):
            batch = built.dataset.__getitems__(built.batches.batch(done))
            torch.stack(list(distiller(batch, 0.5).values())).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
            distiller.after_step()
            done += 1

    return step


def alternate(ways: Mapping[str, Step], *, rounds: int) -> dict[str, list[float]]:
    """Seconds a step of each way in each round; a first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                seconds[name].append((time.perf_counter() - began) / STEPS)
    return seconds
