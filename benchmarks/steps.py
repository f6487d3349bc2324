"""Training steps beside each other: what benchmarks/ocd.py and benchmarks/agentpose.py time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from posestill.engine.config import RunConfig
from posestill.engine.optim import build_optimiser
from posestill.models.pose_model import PoseModel
from posestill.skeletons import COCO_17
from posestill.teachers.base import Teacher
from posestill.types import PoseBatch


def batch_of(count: int) -> PoseBatch:
    """Random crops of 256x192 with random labels, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return PoseBatch(
        image=torch.randint(0, 256, (count, 3, 256, 192), dtype=torch.uint8, generator=generator),
        keypoints=torch.rand(count, 17, 2, generator=generator) * torch.tensor([191.0, 255.0]),
        weight=torch.ones(count, 17),
        to_image=torch.eye(2, 3).expand(count, -1, -1),
        index=torch.arange(count),
    )


def step_of(run: RunConfig, teacher: Teacher | None, batch: PoseBatch) -> Callable[[], None]:
    """A whole training step of a run's method on a batch: forward, backward, optimiser."""
    torch.manual_seed(0)
    method = run.method.build(PoseModel(run.model, COCO_17), teacher).train()
    optimiser = build_optimiser(run.train.optimiser, method, method.parameter_groups())

    def step() -> None:
        optimiser.zero_grad()
        torch.stack(list(method(batch, 0.5).values())).sum().backward()
        optimiser.step()
        method.after_step()

    return step


def alternate(ways: Mapping[str, Callable[[], None]], rounds: int, *, beside: str) -> dict[str, Any]:
    """Milliseconds of each way, and how many times those of `beside`, by rounds; the first does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - began)
    found: dict[str, Any] = {name: {"median_ms": 1000 * statistics.median(each)} for name, each in seconds.items()}
    for name in ways:
        if name != beside:
            ratios = [one / other for one, other in zip(seconds[name], seconds[beside], strict=True)]
            found[f"{name} / {beside}"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return found
