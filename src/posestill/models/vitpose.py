"""ViTPose (NeurIPS 2022), a plain vision transformer, with the experts of ViTPose++ (arXiv 2212.04246).

    image -> patches of 16 px -> tokens (B, P, C), places added -> layers -> norm -> map (B, C, H / 16, W / 16)

What transformers saves of a VitPose reads into this network, and what is trained here is saved for transformers
(`vitpose_format.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from posestill.codecs.base import Codec
from posestill.models.backbone import Backbone, BackboneConfig
from posestill.models.heads import Head, HeadConfig
from posestill.models.stemnet import check_stride
from posestill.schema import UserError
from posestill.types import Heatmaps, Size

PATCH = 16
"""input px along each side of a patch"""
_MARGIN = 2
"""px of zeros around the normalised image, as published: the first patches overhang it on the left and at the top"""
_INITIAL_SPREAD = 0.02


class VitPoseConfig(BackboneConfig):
    """ViTPose's plain vision transformer; the defaults are ViTPose-S, and `width: 768` is ViTPose-B."""

    width: PositiveInt = 384
    """The channels of each token: 384 in ViTPose-S, 768 in B, 1024 in L, 1280 in H. More channels make the network
    stronger and slower."""
    depth: PositiveInt = 12
    """The number of layers: 12 in ViTPose-S and B, 24 in L, 32 in H. More layers make the network stronger and
    slower."""
    attention_heads: PositiveInt = 12
    """The heads of each attention, which share the width: 12 in ViTPose-S and B, 16 in L and H. More heads look at more
    relations, each in fewer channels."""
    mlp_ratio: PositiveInt = 4
    """The hidden channels of each layer's perceptron, as a multiple of `width`. More channels make the network stronger
    and slower."""
    experts: PositiveInt = 1
    """The experts of each layer, one for each dataset of ViTPose++, which has six. 1: there are none, as in ViTPose."""
    expert_width: PositiveInt = 96
    """The channels of a token that the expert gives, where there are experts: a quarter of the width in ViTPose++. The
    other channels are shared by all datasets."""
    dataset_index: NonNegativeInt = 0
    """The expert that is used and trained, of those that there are. ViTPose++ has 0 COCO, 1 AI Challenger, 2 MPII, 3
    AP-10K, 4 APT-36K and 5 COCO-WholeBody; the others stay as they are."""
    norm_eps: PositiveFloat = 1e-12
    """What keeps the norms of tokens from dividing by zero; 1e-12 is that of the files of transformers."""

    def build(self, size: Size, *, pretrained: bool = True) -> Backbone:
        """The network for inputs of `size`; fails where the numbers do not fit one another."""
        check_stride(size, "vitpose", PATCH)
        if self.width % self.attention_heads:
            raise UserError(
                f"model.backbone.attention_heads: {self.attention_heads} heads cannot share a width of {self.width}: "
                "take a divisor"
            )
        if self.dataset_index >= self.experts:
            raise UserError(
                f"model.backbone.dataset_index: {self.dataset_index}, and the experts are 0 to {self.experts - 1}"
            )
        if self.experts > 1 and self.expert_width >= self.width:
            raise UserError(
                f"model.backbone.expert_width: {self.expert_width} of a width of {self.width} leaves nothing that is "
                "shared: take fewer channels"
            )
        return VitPose(self, size)


class VitPose(Backbone):
    """One map (B, width, H / 16, W / 16)."""

    def __init__(self, config: VitPoseConfig, size: Size) -> None:
        super().__init__()
        self.cells = (size[0] // PATCH, size[1] // PATCH)
        self.patches = nn.Conv2d(3, config.width, PATCH, PATCH, _MARGIN)
        # The first place is that of a class token that ViTPose does without: it is added to every patch.
        self.position = nn.Parameter(torch.zeros(1, 1 + self.cells[0] * self.cells[1], config.width))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        nn.init.trunc_normal_(self.position, std=_INITIAL_SPREAD)
        _initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, width, H / 16, W / 16), alone in its tuple."""
        tokens = self.patches(image).flatten(2).transpose(1, 2)  # (B, P, C)
        tokens = tokens + self.position[:, 1:] + self.position[:, :1]
        for layer in self.layers:
            tokens = layer(tokens)
        return (self.norm(tokens).transpose(1, 2).unflatten(2, self.cells),)


class _Layer(nn.Module):
    """Tokens (B, P, C) that looked at one another, then a perceptron on each, both added to what went in."""

    def __init__(self, config: VitPoseConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        own = config.expert_width if config.experts > 1 else 0
        self.attention_heads, self.expert = config.attention_heads, config.dataset_index
        self.attention_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width) for _ in range(4))
        self.mlp_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.expand = nn.Linear(width, hidden)
        self.shrink = nn.Linear(hidden, width - own)
        self.experts = nn.ModuleList(nn.Linear(hidden, own) for _ in range(config.experts if own else 0))
        for position, expert in enumerate(self.experts):
            expert.requires_grad_(position == self.expert)  # data parallel stumbles over idle parameters

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attend(self.attention_norm(tokens))
        hidden = F.gelu(self.expand(self.mlp_norm(tokens)))
        changed = self.shrink(hidden)
        if self.experts:
            changed = torch.cat([changed, self.experts[self.expert](hidden)], dim=-1)
        return tokens + changed

    def _attend(self, tokens: Tensor) -> Tensor:
        split = [each(tokens).unflatten(-1, (self.attention_heads, -1)).transpose(1, 2)
                 for each in (self.query, self.key, self.value)]  # fmt: skip
        seen = F.scaled_dot_product_attention(*split)  # (B, heads, P, C / heads)
        merged: Tensor = self.merge(seen.transpose(1, 2).flatten(2))
        return merged


class VitPoseHeadConfig(HeadConfig):
    """ViTPose's simple head enlarges the map and draws one map a keypoint by one 3x3 convolution."""

    scale: PositiveInt = 4
    """How many times larger than the feature map the heatmaps are; 4 is published. Larger maps place keypoints more
    exactly and cost more."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network; its maps are `scale` times the feature map."""
        return VitPoseHead(feature_shape[0], self.scale, num_keypoints)


class VitPoseHead(Head):
    """ReLU, bilinear enlargement and a 3x3 convolution to K maps."""

    def __init__(self, given: int, scale: int, num_keypoints: int) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)
        self.maps = nn.Conv2d(given, num_keypoints, 3, padding=1)
        _initialise(self)

    def forward(self, features: tuple[Tensor, ...]) -> Heatmaps:
        """Maps (B, K, h', w')."""
        return Heatmaps(maps=self.maps(self.enlarge(features[-1].relu())))


def _initialise(network: nn.Module) -> None:
    """Truncated normal weights without biases, as transformers begins with."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=_INITIAL_SPREAD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
