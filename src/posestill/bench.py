"""What a model costs: parameters, multiply-accumulates and milliseconds."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from posestill.models.pose_model import PoseModel


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass of one crop."""

    parameters: int
    macs: int
    """convolutions, linear layers and attention products"""
    milliseconds: float
    """median over `repeats`, batch 1, without flip test"""
    fastest: float
    slowest: float


def measure(model: PoseModel, *, repeats: int = 30, warmup: int = 5) -> Cost:
    """The cost of a model where it lies, at batch 1."""
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, *model.config.size, device=device)
    training = model.training
    model.eval()
    times = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(image)
        for _ in range(warmup):
            model(image)
        for _ in range(repeats):
            _wait(device)
            began = time.perf_counter()
            model(image)
            _wait(device)
            times.append(1000 * (time.perf_counter() - began))
    model.train(training)
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        milliseconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
