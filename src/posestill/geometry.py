"""Boxes, the crop affine and points under it. Pixel centres lie at integers; sizes are (height, width).

A crop shows the bbox's centre at the input's (W/2, H/2), `extent` image px wide and high: the convention of Simple
Baselines and of the DistilPose code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from posestill.types import Size

if TYPE_CHECKING:
    from torch import Tensor

PADDING = 1.25
"""How much larger than the bbox a crop is, on each axis (the field's constant)."""
_AROUND = 1.2
"""how much larger a person is than the box around its joints"""
_THINNEST = 0.25
"""the least width of a person as a share of its height, and the other way round"""


@dataclass(frozen=True)
class Framing:
    """How a crop frames a person: how large it is, and how much of the surroundings it shows."""

    size: Size
    """(height, width) of the crop, px"""
    padding: float = PADDING
    """how much larger than the bbox it is"""


@dataclass(frozen=True)
class Crop:
    """Which part of an image a crop shows, and how it is turned. Of many crops, each field has leading axes (...)."""

    centre: np.ndarray
    """(..., 2) x y, image px"""
    extent: np.ndarray
    """(..., 2) width and height, image px, at the input's aspect"""
    rotation: np.ndarray | float = 0.0
    """(...) degrees, clockwise as seen"""
    mirrored: np.ndarray | bool = False
    """(...)"""


def fit_aspect(extent: np.ndarray, size: Size) -> np.ndarray:
    """(..., 2) the smallest width and height at the aspect of `size` that cover `extent` (..., 2)."""
    height, width = size
    scale = np.maximum(extent[..., 0] / width, extent[..., 1] / height)
    return np.stack([scale * width, scale * height], axis=-1)


def crop_of_bbox(bbox: np.ndarray, size: Size, *, padding: float = PADDING) -> Crop:
    """The upright crop of each bbox (..., 4) x y w h: padded, at the aspect of the input `size`."""
    centre = bbox[..., :2] + bbox[..., 2:] / 2
    return Crop(centre=centre, extent=fit_aspect(np.maximum(bbox[..., 2:], 1.0), size) * padding)


def bbox_of_joints(points: np.ndarray) -> np.ndarray:
    """(4,) x y w h of the person whose joints (N, 2) these are, which is larger: joints are not fingertips."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = _AROUND * np.maximum(high - low, 1.0)
    extent = np.maximum(extent, _THINNEST * extent.max())
    return np.concatenate([(low + high - extent) / 2, extent])


def affine_to_input(crop: Crop, size: Size) -> np.ndarray:
    """(..., 2, 3) image px -> input px of a crop: move, turn, scale and, last, mirror (x -> W - 1 - x)."""
    height, width = size
    angle = np.deg2rad(crop.rotation)
    scale = width / crop.extent[..., 0]
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    x, y = crop.centre[..., 0], crop.centre[..., 1]
    sign = np.where(crop.mirrored, -1.0, 1.0)
    across = np.stack([cosine, sine, width / 2 - cosine * x - sine * y], axis=-1) * sign[..., None]
    across[..., 2] += (width - 1) * (sign < 0)
    down = np.stack([-sine, cosine, height / 2 + sine * x - cosine * y], axis=-1)
    return np.stack([across, down], axis=-2)


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """(..., 2, 3) the affines that undo (..., 2, 3) affines."""
    inverse = np.linalg.inv(affine[..., :2])
    return np.concatenate([inverse, -(inverse @ affine[..., 2:])], axis=-1)


def transform_points(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(..., N, 2) points under each (..., 2, 3) affine."""
    return points @ np.swapaxes(affine[..., :2], -1, -2) + affine[..., None, :, 2]


def transform_batch(xy: Tensor, affine: Tensor) -> Tensor:
    """(B, K, 2) points of each crop under its own (B, 2, 3) affine."""
    # Written out: a matrix product would run in the half precision around it, which has no pixel to spare.
    rows = affine.to(xy.dtype)[:, None]  # (B, 1, 2, 3)
    return xy[..., 0:1] * rows[..., 0] + xy[..., 1:2] * rows[..., 1] + rows[..., 2]


def invert_batch(affine: Tensor) -> Tensor:
    """(B, 2, 3) the affines that undo (B, 2, 3) affines."""
    a, b, c, d = affine[:, 0, 0], affine[:, 0, 1], affine[:, 1, 0], affine[:, 1, 1]
    determinant = a * d - b * c  # (B,)
    inverse = affine.new_empty(affine.shape)
    inverse[:, 0, 0], inverse[:, 0, 1] = d / determinant, -b / determinant
    inverse[:, 1, 0], inverse[:, 1, 1] = -c / determinant, a / determinant
    inverse[:, :, 2] = -(inverse[:, :, 0] * affine[:, 0:1, 2] + inverse[:, :, 1] * affine[:, 1:2, 2])
    return inverse
