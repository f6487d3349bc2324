"""Running averages of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def move_average(average: nn.Module, current: nn.Module, decay: float | Tensor) -> None:
    """Move averaged weights and running statistics towards the current ones; counters and the like are copied."""
    values, share = current.state_dict(), 1 - decay
    moving, wanted = [], []
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            moving.append(value)
            wanted.append(values[name].to(value.dtype))
        else:
            value.copy_(values[name])
    shares = [share.to(value) for value in moving] if isinstance(share, Tensor) else share
    torch._foreach_lerp_(moving, wanted, shares)  # one launch on a GPU in the place of one a tensor


def warm_decay(decay: float, step: int | Tensor) -> float | Tensor:
    """Short averages at first, so that the initial weights are soon forgotten; where the step is a tensor, so is it."""
    warm = (1 + step) / (10 + step)
    return warm.clamp(max=decay) if isinstance(warm, Tensor) else min(decay, warm)
