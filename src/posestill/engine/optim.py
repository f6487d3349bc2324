"""Optimisers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import nn

from posestill.schema import Config

Fraction = Annotated[float, Field(ge=0, le=1)]


class OptimiserConfig(Config):
    """These settings choose the optimiser and the course of its learning rate."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimiser: Adam, AdamW (Adam with another kind of `weight_decay`) or SGD with momentum."""
    learning_rate: PositiveFloat = 5e-4
    """The learning rate at its peak, after the warm-up. A higher one trains faster until the loss no longer falls; a
    lower one is slower and safer."""
    weight_decay: NonNegativeFloat = 0.0
    """How strongly weights are pulled to zero, biases and norms left out: `adam` and `sgd` add it to the gradient,
    `adamw` shrinks the weights themselves. A larger value keeps weights smaller; at 0 there is none."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """The share of its last update that `sgd` keeps in the next one; the others ignore it. A larger share averages over
    more steps."""
    schedule: Literal["constant", "step", "cosine"] = "constant"
    """How the learning rate goes after the warm-up. `constant`: it stays at its peak. `step`: it drops at each of
    `drops`. `cosine`: it falls along half a cosine from `cosine_from` to the end of the run."""
    warmup_steps: NonNegativeInt = 500
    """The number of steps in which the learning rate rises linearly at the start. More steps start more gently; at 0
    there is no warm-up."""
    warmup_factor: Fraction = 0.001
    """The share of the peak at which the warm-up begins. A larger share starts less gently."""
    drops: tuple[float, ...] = ()
    """When the schedule `step` lowers the learning rate, in the unit of the run's length (epochs or steps)."""
    drop_factor: Fraction = 0.1
    """What the schedule `step` multiplies the learning rate by at each drop. A smaller factor lowers it further."""
    cosine_from: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the run after which the schedule `cosine` begins to fall. A larger share stays longer at the peak
    and falls faster."""
    final_factor: Fraction = 0.0
    """The share of the peak at which the schedule `cosine` ends. At 0 the learning rate falls to nothing, at 1 not at
    all."""

    @model_validator(mode="after")
    def _only_steps_have_drops(self) -> OptimiserConfig:
        if self.drops and self.schedule != "step":
            raise ValueError(f"drops: the schedule {self.schedule} has none; set schedule=step, or leave drops out")
        return self


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
