"""Feature maps on another grid."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from posestill.types import Size


def resized(feature: Tensor, grid: Size) -> Tensor:
    """Features (B, C, h, w) on a grid: (B, C, *grid), bilinear; on a coarser one every place of theirs counts."""
    height, width = feature.shape[-2:]
    if (height, width) == tuple(grid):
        return feature
    if height % grid[0] == 0 and width % grid[1] == 0:
        return F.avg_pool2d(feature, (height // grid[0], width // grid[1]))
    coarser = height > grid[0] or width > grid[1]
    return F.interpolate(feature, grid, mode="bilinear", align_corners=False, antialias=coarser)
