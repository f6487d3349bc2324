"""The values that every room of the house speaks. B batch, K keypoints, C channels; H, W input px; h, w map px.

Sizes are (height, width); points are (x, y); pixel centres lie at integers. This file imports no torch, so that
reading annotations and scoring a results file stay light.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Size = tuple[int, int]
"""(height, width)"""


@dataclass(frozen=True)
class Person:
    """One annotated person of one image."""

    id: int
    image_id: int
    bbox: np.ndarray
    """(4,) x y w h, image px"""
    keypoints: np.ndarray | None
    """(K, 3) x y v in image px; v is 0 unlabelled, 1 hidden, 2 visible. None: this person carries no labels"""
    area: float
    """image px squared: the scale of OKS"""
    score: float = 1.0
    """confidence of the bbox: 1 for ground truth"""
    crowd: bool = False


@dataclass(frozen=True)
class PoseBatch:
    """Crops of B persons, with labels where there are any. It does not know which representation will read it."""

    image: Tensor
    """(B, 3, H, W) uint8 0..255 or float 0..1, RGB; the model normalises"""
    keypoints: Tensor
    """(B, K, 2) input px"""
    weight: Tensor
    """(B, K) 1 where labelled, else 0"""
    to_image: Tensor
    """(B, 2, 3) input px -> image px, flip included: a negative determinant means mirrored, keypoints swapped"""
    index: Tensor
    """(B,) position of the person in its dataset"""
    teacher_image: Tensor | None = None
    """(B, 3, Ht, Wt) the same draws warped at the teacher's own size, or None when it reads `image`"""
    view: Tensor | None = None
    """(B,) which of a person's fixed views each crop shows, or None where every crop is drawn anew"""

    def __len__(self) -> int:
        return self.image.shape[0]

    def to(self, device: torch.device) -> PoseBatch:
        """The same batch on `device`."""
        return _map_tensors(self, lambda tensor: tensor.to(device))

    def rows(self, start: int, stop: int) -> PoseBatch:
        """The crops from `start` up to `stop`, as views."""
        return _map_tensors(self, lambda tensor: tensor[start:stop])

    def mirrored(self) -> Tensor:
        """(B,) bool: True where the crop shows the person mirrored."""
        linear = self.to_image[:, :, :2]
        return linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0] < 0


@dataclass(frozen=True)
class Keypoints:
    """Decoded keypoints: what every representation becomes in the end."""

    xy: Tensor
    """(B, K, 2) input px"""
    score: Tensor
    """(B, K) confidence; 1 where the model has none that was trained"""


@dataclass(frozen=True)
class Heatmaps:
    """One map a keypoint; its peak marks the place."""

    maps: Tensor
    """(B, K, h, w)"""


@dataclass(frozen=True)
class Coords:
    """Keypoints regressed directly."""

    xy: Tensor
    """(B, K, 2) fraction of the input's (W, H)"""
    scale: Tensor | None = None
    """(B, K, 2) predicted spread, same fraction, or None"""
    score: Tensor | None = None
    """(B, K) or None: the model has no trained confidence"""


@dataclass(frozen=True)
class SimCC:
    """One classification over the bins of each axis."""

    x: Tensor
    """(B, K, bins) logits"""
    y: Tensor
    """(B, K, bins) logits"""


@dataclass(frozen=True)
class Tokens:
    """What a token-based model knows before its last layer."""

    visual: Tensor
    """(B, P, D)"""
    keypoint: Tensor
    """(B, K, D)"""


Prediction = Heatmaps | Coords | SimCC

FeatureShape = tuple[int, int, int]
"""(C, h, w) of one feature map"""


@dataclass(frozen=True)
class PoseOutput:
    """What a pose model returns for a batch: features are returned, never hooked.

    A student's output has a prediction and features. A teacher's answer has what the method asked for; without a
    teacher it is empty.
    """

    prediction: Prediction | None = None
    features: tuple[Tensor, ...] = ()
    """(B, C_i, h_i, w_i) each; the head reads the last one"""
    tokens: Tokens | None = None


Need = Literal["prediction", "features", "tokens", "head"]
"""What a teacher may provide and a method may need."""


def mean_prediction(first: Prediction, second: Prediction) -> Prediction:
    """The average of two predictions of one kind, field by field: the flip test.

    A coordinate that only one of the two scores above 0 is that one's: the other has not found it and says no place.
    """
    averaged: dict[str, Any] = {}
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        averaged[field.name] = None if one is None else (one + other) / 2
    if isinstance(first, Coords) and isinstance(second, Coords):
        for lost, found in ((first, second), (second, first)):
            if lost.score is not None and found.score is not None:
                is_lost = lost.score.eq(0) & found.score.ne(0)  # (B, K)
                averaged["xy"] = averaged["xy"].where(~is_lost[..., None], found.xy)
    return type(first)(**averaged)


def _map_tensors(batch: PoseBatch, change) -> PoseBatch:  # type: ignore[no-untyped-def]
    present = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: change(value) for name, value in present.items() if value is not None})
