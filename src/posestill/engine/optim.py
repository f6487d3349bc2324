"""Optimisers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn

from posestill.schema import Config

Fraction = Annotated[float, Field(ge=0, le=1)]


class OptimiserConfig(Config):
    """Which optimiser, and how its learning rate goes."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 5e-4
    """at its peak"""
    weight_decay: NonNegativeFloat = 0.0
    """not on biases and norms; adam and sgd add it to the gradient, adamw shrinks the weights"""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """sgd only"""
    schedule: Literal["constant", "step", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 500
    warmup_factor: Fraction = 0.001
    """the warm-up rises linearly from this share of the peak"""
    drops: tuple[float, ...] = ()
    """step: when to drop, in the unit of the run's length (epochs or steps)"""
    drop_factor: Fraction = 0.1
    cosine_from: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """cosine: the share of the run after which it falls"""
    final_factor: Fraction = 0.0
    """cosine: where it ends, as a share of the peak"""


def build_optimiser(
    config: OptimiserConfig, distiller: nn.Module, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimiser over a distiller's parameter groups; each group may bring its own `lr` and `weight_decay`."""
    spared = {
        id(parameter)
        for module in distiller.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim <= 1 or name == "bias"
    }
    split: list[dict[str, Any]] = []
    for group in groups:
        shared = {key: value for key, value in group.items() if key != "params"}
        decayed = [parameter for parameter in group["params"] if id(parameter) not in spared]
        plain = [parameter for parameter in group["params"] if id(parameter) in spared]
        split.append({"weight_decay": config.weight_decay, **shared, "params": decayed})
        split.append({**shared, "params": plain, "weight_decay": 0.0})
    split = [{"lr": config.learning_rate, **group} for group in split if group["params"]]
    optimiser: torch.optim.Optimizer
    if config.name == "adam":
        optimiser = torch.optim.Adam(split, lr=config.learning_rate, fused=True)
    elif config.name == "adamw":
        optimiser = torch.optim.AdamW(split, lr=config.learning_rate, fused=True)
    else:
        optimiser = torch.optim.SGD(split, lr=config.learning_rate, momentum=config.momentum)
    for each in optimiser.param_groups:
        each["peak"] = each["lr"]
    return optimiser


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate becomes `factor` times its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


def learning_rate_factor(config: OptimiserConfig, step: int, *, total: int, unit: float) -> float:
    """The share of the peak at a step of `total`; `unit` is how many steps one unit of `drops` holds."""
    warmup = 1.0
    if step < config.warmup_steps:
        warmup = config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps
    if config.schedule == "step":
        return float(warmup * config.drop_factor ** sum(step >= drop * unit for drop in config.drops))
    if config.schedule == "cosine":
        share = max(0.0, step / total - config.cosine_from) / (1 - config.cosine_from)
        falling = (1 + math.cos(math.pi * share)) / 2
        return float(warmup * (config.final_factor + (1 - config.final_factor) * falling))
    return warmup
