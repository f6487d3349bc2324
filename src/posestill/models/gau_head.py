"""RTMPose's head (arXiv 2303.07399): one map a keypoint as a vector, a gated attention unit among them, then bins.

    features -> convolution -> (B, K, h w) -> ScaleNorm, linear -> (B, K, hidden) -> attention -> logits of x and of y

The unit is FLASH's (ICML 2022): queries and keys share one projection, and weights are squared ReLUs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from posestill.codecs.base import Codec
from posestill.models.heads import Head, HeadConfig, bins_of
from posestill.schema import UserError
from posestill.types import SimCC


class GauConfig(HeadConfig):
    """RTMPose's head turns each keypoint's map into a vector, and attention relates them; its sizes are published."""

    kernel: PositiveInt = 7
    """The width of the convolution that draws one map a keypoint, in px of the feature map and odd; 7 is published. A
    wider kernel sees more around each place; 1 saves most of the head's parameters where there are many keypoints."""
    hidden: PositiveInt = 256
    """The channels of the vector that each keypoint's map becomes; 256 is published. More channels make the head
    stronger and larger."""
    shared: PositiveInt = 128
    """The channels of the queries and keys by which keypoints attend to one another; 128 is published. More channels
    compare the keypoints in more detail and cost more."""
    expansion: PositiveInt = 2
    """The channels inside the attention unit, as a multiple of `hidden`; 2 is published. More channels make the head
    stronger and larger."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network; it is bound to one input size. Fails under another codec and for an even kernel."""
        bins = bins_of(codec, "gau")
        if self.kernel % 2 == 0:
            raise UserError(f"model.head.kernel: {self.kernel} is even: a kernel has a middle, take {self.kernel + 1}")
        return GauHead(self, feature_shape, num_keypoints, bins)


class GauHead(Head):
    """Logits over the bins of each axis."""

    def __init__(
        self, config: GauConfig, feature_shape: tuple[int, int, int], num_keypoints: int, bins: tuple[int, int]
    ) -> None:
        super().__init__()
        given, height, width = feature_shape
        self.maps = nn.Conv2d(given, num_keypoints, config.kernel, padding=config.kernel // 2)
        self.embed = nn.Sequential(ScaleNorm(height * width), nn.Linear(height * width, config.hidden, bias=False))
        self.unit = GatedAttentionUnit(config)
        self.x, self.y = (nn.Linear(config.hidden, count, bias=False) for count in bins)
        nn.init.normal_(self.maps.weight, std=0.001)
        nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]
        for layer in (self.embed[1], self.x, self.y):
            nn.init.normal_(layer.weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, features: tuple[Tensor, ...]) -> SimCC:
        """Logits (B, K, bins) of x and of y."""
        flat = self.maps(features[-1]).flatten(2)  # (B, K, h w)
        mixed = self.unit(self.embed(flat))  # (B, K, hidden)
        return SimCC(x=self.x(mixed), y=self.y(mixed))


class GatedAttentionUnit(nn.Module):
    """(B, K, hidden) -> (B, K, hidden), what went in added with a learnt scale."""

    def __init__(self, config: GauConfig) -> None:
        super().__init__()
        inner = config.hidden * config.expansion
        self.split = (inner, inner, config.shared)
        self.norm = ScaleNorm(config.hidden)
        self.expand = nn.Linear(config.hidden, sum(self.split), bias=False)
        self.scale = nn.Parameter(torch.rand(2, config.shared))  # of query and key, which share their base
        self.shift = nn.Parameter(torch.rand(2, config.shared))
        self.merge = nn.Linear(inner, config.hidden, bias=False)
        self.kept = nn.Parameter(torch.ones(config.hidden))

    def forward(self, tokens: Tensor) -> Tensor:
        """Each keypoint's vector (B, K, hidden), having looked at the others'."""
        gate, value, base = F.silu(self.expand(self.norm(tokens))).split(self.split, dim=-1)
        query, key = (base[:, :, None] * self.scale + self.shift).unbind(dim=2)  # (B, K, shared) each
        weights = F.relu(query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])).square()  # (B, K, K)
        return self.kept * tokens + self.merge(gate * (weights @ value))


class ScaleNorm(nn.Module):
    """Vectors over their length, times one learnt number (arXiv 1910.05895)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.unit = dim**-0.5
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Of the same shape."""
        length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True) * self.unit
        return tokens / length.clamp(min=1e-5) * self.scale
