"""What a model costs: parameters, multiply-accumulates and milliseconds."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel, evaluating


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass of one crop."""

    parameters: int
    macs: int
    """convolutions, linear layers and attention products"""
    macs_as_published: int
    """as papers of mmpose's lineage count: attention products left out, norms twice and ReLU once an element"""
    milliseconds: float
    """median over `repeats`, batch 1, without flip test"""
    fastest: float
    slowest: float


def measure(model: PoseModel, *, repeats: int = 30, warmup: int = 5) -> Cost:
    """The cost of a model where it lies, at batch 1; its time is that of the folded model, as it is predicted with."""
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, *model.config.size, device=device)
    shipped = folded(model)
    times = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            shipped(image)
        for _ in range(warmup):
            shipped(image)
        for _ in range(repeats):
            _wait(device)
            began = time.perf_counter()
            shipped(image)
            _wait(device)
            times.append(1000 * (time.perf_counter() - began))
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        macs_as_published=macs_as_published(model),
        milliseconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
    )


def macs_as_published(model: PoseModel) -> int:
    """Operations of one crop by the convention of mmcv's `get_model_complexity_info`, which papers print as FLOPs.

    Convolutions (with their biases) and linear layers by their products; batch and layer norms by twice their elements,
    ReLU and upsampling by theirs; whatever is no module, such as the attention's own products, counts nothing.
    """
    total = 0

    def count(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            places = given[0] if isinstance(module, nn.ConvTranspose2d) else found
            total += places.shape[-2] * places.shape[-1] * module.weight.numel()
            total += 0 if module.bias is None else found.numel()
        elif isinstance(module, nn.Linear):
            total += given[0].numel() // module.in_features * module.weight.numel()
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            total += 2 * found.numel()
        elif isinstance(module, nn.ReLU | nn.Upsample):
            total += found.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    with torch.no_grad(), evaluating(model):
        model(torch.zeros(1, 3, *model.config.size, device=model.mean.device))
    for hook in hooks:
        hook.remove()
    return total


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
