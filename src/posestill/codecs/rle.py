"""Coordinates with a learnt error distribution: residual log-likelihood estimation (RLE, ICCV 2021).

The student predicts a place and a spread; a small flow, trained beside it and never deployed, learns the shape that the
errors have when measured in spreads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posestill.codecs.base import Codec, CodecConfig, NumberForm, Rescoring, inside, masked_mean
from posestill.codecs.coords import CoordsCodec, CoordsConfig, coords_loss
from posestill.schema import UserError
from posestill.types import Coords, Keypoints, Size


class RleConfig(CodecConfig):
    """A model gives coordinates and their spread and is trained by residual log-likelihood."""

    mirror_shift: bool = True
    """How the flip test mirrors an x coordinate. True: to 1 - x - 1/W, which is exact for pixel centres at integers.
    False: to 1 - x, which is one px of the input further to the right."""

    def build(self, size: Size) -> RleCodec:
        """The codec for inputs of `size`."""
        return RleCodec(self, size)


class RleCodec(Codec):
    """Coords with `scale`, the predicted spread as a fraction of the input; the score is 1 - the mean spread."""

    prediction_type = Coords
    form = NumberForm(4)
    has_score = True
    rescoring: Rescoring = "sum"

    def __init__(self, config: RleConfig, size: Size) -> None:
        self.config = config
        self.size = size
        self.coords = CoordsCodec(CoordsConfig(mirror_shift=config.mirror_shift), size)

    def assemble(self, values: Tensor) -> Coords:
        """Places as they are, spreads through a sigmoid: (B, K, 4) x, y and the spread of each."""
        return Coords(xy=values[..., :2], scale=values[..., 2:].sigmoid())

    def encode(self, xy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Fractions (B, K, 2); keypoints outside the input lose their weight."""
        return self.coords.encode(xy, weight)[0], weight * inside(xy, self.size)

    def decode(self, prediction: Coords) -> Keypoints:
        """Input px; the score is the mean over both axes of 1 - spread, as published."""
        assert prediction.scale is not None
        score = 1 - prediction.scale.float().mean(dim=-1)
        return self.coords.decode(Coords(xy=prediction.xy, score=score))

    def flip(self, prediction: Coords, swap: Tensor) -> Coords:
        """X -> 1 - x - 1/W (or 1 - x), partners swapped."""
        return self.coords.flip(prediction, swap)

    def loss(self, prediction: Coords, target: Tensor, weight: Tensor, helper: nn.Module | None = None) -> Tensor:
        """The negative log-likelihood of the labels: eq. 8 of RLE with a Laplace density as the base."""
        if helper is None or prediction.scale is None:
            raise UserError("the rle codec needs a head that predicts spreads, and the flow that its helper() makes")
        scale = prediction.scale.to(target.dtype)
        error = (prediction.xy.to(target.dtype) - target) / (scale + 1e-9)  # (B, K, 2) in spreads
        log_phi = helper(error.flatten(0, 1)).to(target.dtype).view(*error.shape[:2], 1)  # (B, K, 1)
        # The published code subtracts log phi on each axis, so that it counts twice; kept, since its numbers are.
        residual = scale.log() - log_phi
        base = (2 * scale).log() + error.abs()
        return masked_mean((residual + base).sum(dim=-1), weight, self.config.normalise)

    def distance(self, prediction: Coords, target: Tensor, weight: Tensor) -> Tensor:
        """L1 between the places: another model's places are no samples of the labels' errors."""
        return coords_loss(prediction.xy, target, weight, loss="l1", normalise=self.config.normalise)

    def as_target(self, prediction: Coords) -> Tensor:
        """Its places (B, K, 2)."""
        return prediction.xy

    def helper(self) -> nn.Module:
        """The flow over 2-D errors."""
        return RealNvp()


class RealNvp(nn.Module):
    """Log-density (M,) of points (M, 2): six affine couplings over a standard normal (RealNVP, ICLR 2017)."""

    masks: Tensor

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.register_buffer("masks", torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 3), persistent=False)
        self.scales = nn.ModuleList(_network(hidden, nn.Tanh()) for _ in self.masks)
        self.shifts = nn.ModuleList(_network(hidden) for _ in self.masks)

    def forward(self, points: Tensor) -> Tensor:
        """(M,) the log-density at points (M, 2)."""
        with torch.autocast(points.device.type, enabled=False):  # a density in bf16 has two digits
            points = points.to(self.masks.dtype)
            log_volume = points.new_zeros(len(points))
            for mask, scale, shift in zip(
                reversed(self.masks), reversed(self.scales), reversed(self.shifts), strict=True
            ):
                kept = mask * points
                log_scale, move = scale(kept) * (1 - mask), shift(kept) * (1 - mask)
                points = kept + (1 - mask) * (points - move) * torch.exp(-log_scale)
                log_volume = log_volume - log_scale.sum(dim=-1)
            return log_volume - (points**2).sum(dim=-1) / 2 - math.log(2 * math.pi)


def _network(hidden: int, *last: nn.Module) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(2, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2), *last
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
    return layers
