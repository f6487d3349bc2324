"""Running averages of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, current: nn.Module, decay: float) -> None:
    """Move averaged weights and running statistics towards the current ones; counters and the like are copied."""
    values = current.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(values[name].to(value.dtype), 1 - decay)
        else:
            value.copy_(values[name])


def warm_decay(decay: float, step: int) -> float:
    """Short averages at first, so that the initial weights are soon forgotten."""
    return min(decay, (1 + step) / (10 + step))
