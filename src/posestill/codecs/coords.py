"""Keypoints as coordinates: the label is (x / W, y / H), the prediction is raw (DeepPose, CVPR 2014).

DistilPose's (CVPR 2023) are bounded by a sigmoid and come with a confidence and a spread, which only a method with a
teacher trains.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from posestill.codecs.base import Codec, CodecConfig, Normalise, NumberForm, Rescoring, inside, masked_mean
from posestill.types import Coords, Keypoints, Size

SPREAD_UNIT = 4
"""input px: what a predicted spread of 1 means, a cell of the teacher's map as published"""


class CoordsConfig(CodecConfig):
    """A model gives coordinates as fractions of the input and is trained by L1 or Smooth-L1."""

    loss: Literal["l1", "smooth_l1"] = "l1"
    """How the error of a coordinate is measured, a fraction of the input's width or height. `l1`: by its size.
    `smooth_l1`: by its square below `beta` and by its size above."""
    beta: PositiveFloat = 1.0
    """The error at which Smooth-L1 turns from square to straight, as a fraction of the input's width or height. At the
    published 1.0 it is half the squared error wherever errors occur; a smaller value makes it more like L1."""
    mirror_shift: bool = True
    """How the flip test mirrors an x coordinate. True: to 1 - x - 1/W, which is exact for pixel centres at integers.
    False: to 1 - x, which is one px of the input further to the right, as in the published DistilPose."""
    bounded: bool = False
    """True: a sigmoid keeps predictions inside the input. False: predictions are taken as they are and may lie
    outside."""
    score: bool = False
    """True: the head predicts a confidence, too. Choose it only with a method that trains it, as `distilpose` does from
    its teacher; others refuse it. False: every score is 1, and persons rank by the score of their box."""
    scale: bool = False
    """True: the head predicts a spread on each axis, too, with which `distilpose` and `simulated_heatmap` draw a
    keypoint's Gaussian. False: they draw it with the teacher's sigma."""

    def build(self, size: Size) -> CoordsCodec:
        """The codec for inputs of `size`."""
        return CoordsCodec(self, size)

    def trained_by_labels(self) -> CoordsConfig:
        """The same without a confidence."""
        return self.model_copy(update={"score": False})


class CoordsCodec(Codec):
    """Coordinates as fractions of the input's (W, H)."""

    prediction_type = Coords

    def __init__(self, config: CoordsConfig, size: Size) -> None:
        self.config = config
        self.size = size
        self.has_score = self.score_is_taught = config.score
        self.rescoring: Rescoring = "mean" if config.score else "box"
        self.form = NumberForm(2 + config.score + 2 * config.scale, draws_spread=config.scale)
        if config.loss == "smooth_l1" and config.beta >= 1:
            self.heatmap_weight = 1.0  # half the squared error wherever errors occur: its gradients are small

    def assemble(self, values: Tensor) -> Coords:
        """(B, K, count) x, y, confidence (as it is), spread of x and of y (through a softplus), where there are."""
        xy = values[..., :2]
        spread = SPREAD_UNIT * F.softplus(values[..., -2:]) / self._extent(values) if self.config.scale else None
        return Coords(
            xy=xy.sigmoid() if self.config.bounded else xy,
            scale=spread,
            score=values[..., 2] if self.config.score else None,
        )

    def encode(self, xy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Fractions (B, K, 2); keypoints outside the input lose their weight."""
        return xy / self._extent(xy), weight * inside(xy, self.size)

    def decode(self, prediction: Coords) -> Keypoints:
        """Input px; the score is 1 where the model has none."""
        xy = prediction.xy.float()
        score = torch.ones_like(xy[..., 0]) if prediction.score is None else prediction.score.float()
        return Keypoints(xy=xy * self._extent(xy), score=score)

    def flip(self, prediction: Coords, swap: Tensor) -> Coords:
        """X -> 1 - x - 1/W (or 1 - x), partners swapped."""
        shift = 1 / self.size[1] if self.config.mirror_shift else 0.0
        xy = prediction.xy[:, swap]
        return Coords(
            xy=torch.stack([1 - shift - xy[..., 0], xy[..., 1]], dim=-1),
            scale=None if prediction.scale is None else prediction.scale[:, swap],
            score=None if prediction.score is None else prediction.score[:, swap],
        )

    def loss(self, prediction: Coords, target: Tensor, weight: Tensor, helper: nn.Module | None = None) -> Tensor:
        """L1 or Smooth-L1, averaged over both axes and the keypoints."""
        return coords_loss(prediction.xy, target, weight, loss=self.config.loss, beta=self.config.beta,
                           normalise=self.config.normalise)  # fmt: skip

    def as_target(self, prediction: Coords) -> Tensor:
        """Its places (B, K, 2)."""
        return prediction.xy

    def _extent(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.size[1], self.size[0]])


def coords_loss(
    xy: Tensor, target: Tensor, weight: Tensor, *, loss: str, beta: float = 1.0, normalise: Normalise = "batch"
) -> Tensor:
    """L1 or Smooth-L1 between fractions (B, K, 2), weighted by (B, K) and averaged over both axes."""
    if loss == "l1":
        error = F.l1_loss(xy, target, reduction="none")  # (B, K, 2)
    else:
        error = F.smooth_l1_loss(xy, target, beta=beta, reduction="none")
    return masked_mean(error.mean(dim=-1), weight, normalise)
