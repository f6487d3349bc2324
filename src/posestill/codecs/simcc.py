"""Keypoints as two classifications, one over the bins of each axis (SimCC, ECCV 2022).

The loss is RTMPose's, averaged over the batch where mmpose sums it.
"""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, field_validator
from torch import Tensor, nn

from posestill.codecs.base import BinForm, Codec, CodecConfig, Rescoring, inside, masked_mean
from posestill.types import Keypoints, SimCC, Size


class SimccConfig(CodecConfig):
    """A model gives two classifications a keypoint, one over the bins of each axis."""

    split: PositiveFloat = 2.0
    """Bins per px of the input, on each axis, a whole number. More bins place keypoints more finely and make the head's
    last layers larger."""
    sigma: tuple[PositiveFloat, PositiveFloat] = (4.9, 5.66)
    """The spread of the target's Gaussian in bins, for (x, y). 4.9 and 5.66 are published for inputs of 256x192; SimCC
    with ResNet-50 has (6, 6). A larger spread is easier to learn and places keypoints less exactly."""
    beta: PositiveFloat = 10.0
    """What logits and target are multiplied by before their softmax. A larger value makes the target's probabilities
    more peaked, a smaller one spreads them over more bins."""
    flip_exact: bool = True
    """How the flip test mirrors the bins of x. True: they are reversed and moved so that pixel centres at integers
    meet. False: they are only reversed, as published."""

    @field_validator("split")
    @classmethod
    def _whole(cls, split: float) -> float:
        if not split.is_integer():
            raise ValueError(f"{split:g} bins per px: a whole number is wanted, as 2")
        return split

    def build(self, size: Size) -> SimccCodec:
        """The codec for inputs of `size`."""
        return SimccCodec(self, size)


class SimccCodec(Codec):
    """Logits over (W * split) and (H * split) bins; bin b lies at b / split px."""

    prediction_type = SimCC
    has_score = True
    rescoring: Rescoring = "mean"

    def __init__(self, config: SimccConfig, size: Size) -> None:
        self.config = config
        self.size = size
        self.bins = (round(size[1] * config.split), round(size[0] * config.split))
        self.form = BinForm(*self.bins, beta=config.beta)

    def encode(self, xy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Both axes' Gaussians of height 1, side by side (B, K, bins x + bins y)."""
        return draw_bins(xy * self.config.split, self.bins, self.config.sigma), weight * inside(xy, self.size)

    def decode(self, prediction: SimCC) -> Keypoints:
        """Input px, at the highest bins; the score compares their probability with that of a perfect target's."""
        beta = self.config.beta
        places, certainty = [], []
        for axis, logits in enumerate((prediction.x, prediction.y)):
            probability = (logits.float() * beta).softmax(dim=-1)  # (B, K, bins)
            peak, index = probability.max(dim=-1)
            offsets = (
                torch.arange(self.bins[axis], device=logits.device, dtype=probability.dtype) - self.bins[axis] // 2
            )
            perfect = (torch.exp(-(offsets**2) / (2 * self.config.sigma[axis] ** 2)) * beta).softmax(dim=-1).max()
            places.append(index.to(probability.dtype) / self.config.split)
            certainty.append((peak / perfect).clamp(max=1))
        return Keypoints(xy=torch.stack(places, dim=-1), score=torch.minimum(*certainty))

    def flip(self, prediction: SimCC, swap: Tensor) -> SimCC:
        """Bins of x reversed (and moved, see `flip_exact`), partners swapped."""
        x = prediction.x[:, swap].flip(-1)
        spare = round(self.config.split) - 1  # bins beyond the last pixel's centre
        if self.config.flip_exact and spare:
            x = torch.cat([x[..., spare:], x[..., -1:].expand(*x.shape[:-1], spare)], dim=-1)
        return SimCC(x=x, y=prediction.y[:, swap])

    def loss(self, prediction: SimCC, target: Tensor, weight: Tensor, helper: nn.Module | None = None) -> Tensor:
        """Kullback-Leibler divergence to the softmax of the target, summed over the axes, averaged over their bins."""
        wanted = target.split(list(self.bins), dim=-1)
        total = torch.zeros_like(weight)
        for logits, goal in zip((prediction.x, prediction.y), wanted, strict=True):
            total = total + bins_divergence(logits.to(goal.dtype), goal, beta=self.config.beta)
        return masked_mean(total, weight, self.config.normalise)

    def as_target(self, prediction: SimCC) -> Tensor:
        """Its logits, both axes side by side: the loss softens them as it does a label's bins."""
        return torch.cat([prediction.x, prediction.y], dim=-1)


def bins_divergence(logits: Tensor, target: Tensor, *, beta: float) -> Tensor:
    """(B, K) mean over bins of the divergence of softmax(beta * logits) from softmax(beta * target) (KLDiscretLoss)."""
    wanted = (target * beta).softmax(dim=-1)
    log_wanted = (target * beta).log_softmax(dim=-1)
    return (wanted * (log_wanted - (logits * beta).log_softmax(dim=-1))).mean(dim=-1)


def draw_bins(centre: Tensor, bins: tuple[int, int], sigma: tuple[float, float]) -> Tensor:
    """(B, K, bins x + bins y) Gaussians of height 1 at centre (B, K, 2) bins."""
    drawn = []
    for axis in (0, 1):
        places = torch.arange(bins[axis], device=centre.device, dtype=centre.dtype)
        drawn.append(torch.exp(-((places - centre[..., axis : axis + 1]) ** 2) / (2 * sigma[axis] ** 2)))
    return torch.cat(drawn, dim=-1)
