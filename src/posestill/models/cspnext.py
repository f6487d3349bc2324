"""CSPNeXt (RTMDet, arXiv 2212.07784), the backbone of RTMPose: residual blocks with wide depthwise convolutions.

    image -> stem (stride 2) -> stage1 (4) -> stage2 (8) -> stage3 (16) -> stage4 (32), each a strided convolution and a
    cross-stage part: one half of the channels passes through blocks, the other around them, attention weighs both

Names are those of the checkpoints that mmpose publishes, whose weights therefore fit.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from posestill.models.backbone import Backbone, BackboneConfig
from posestill.models.stemnet import check_stride
from posestill.types import Size

STRIDE = 32
_CHANNELS = (64, 128, 256, 512, 1024)
"""of the stem and of the four stages at full width"""
_BLOCKS = (3, 6, 6, 3)
"""of the four stages at full depth"""
_POOLS = (5, 9, 13)
"""px of the feature map that the last stage's poolings see, each about its middle"""
_SIZES = {"t": (0.167, 0.375), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
"""shares of the full depth and of the full width, as published"""


class CspNextConfig(BackboneConfig):
    """CSPNeXt is the backbone of RTMPose; its five sizes are published."""

    variant: Literal["t", "s", "m", "l", "x"] = "m"
    """The published size, from `t` (tiny) to `x`. A larger one has more blocks and channels: it is stronger and
    slower."""

    def build(self, size: Size, *, pretrained: bool = True) -> Backbone:
        """The network; fails when its stride does not divide the size. There are no pretrained weights."""
        check_stride(size, "cspnext", STRIDE)
        return CspNext(self)


class CspNext(Backbone):
    """Maps at strides 4, 8, 16 and 32."""

    def __init__(self, config: CspNextConfig) -> None:
        super().__init__()
        depth, width = _SIZES[config.variant]
        channels = [int(each * width) for each in _CHANNELS]
        half = channels[0] // 2
        self.stem = nn.Sequential(
            _convolution(3, half, 3, stride=2), _convolution(half, half, 3), _convolution(half, channels[0], 3)
        )
        for number, (given, found) in enumerate(pairwise(channels), start=1):
            is_last = number == len(_BLOCKS)
            blocks = max(round(_BLOCKS[number - 1] * depth), 1)
            layers: list[nn.Module] = [_convolution(given, found, 3, stride=2)]
            layers += [_Pooling(found)] if is_last else []
            layers += [_CrossStage(found, blocks, adds=not is_last)]
            setattr(self, f"stage{number}", nn.Sequential(*layers))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C_i, H / s, W / s) for the strides 4, 8, 16 and 32."""
        maps, current = [], self.stem(image)
        for number in range(1, len(_BLOCKS) + 1):
            current = getattr(self, f"stage{number}")(current)
            maps.append(current)
        return tuple(maps)


class _Pooling(nn.Module):
    """The map beside its maxima over windows of three widths, mixed by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.conv1 = _convolution(channels, inner, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(width, 1, width // 2) for width in _POOLS)
        self.conv2 = _convolution(inner * (1 + len(_POOLS)), channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.conv1(features)
        mixed: Tensor = self.conv2(torch.cat([inner, *(pool(inner) for pool in self.pools)], dim=1))
        return mixed


class _CrossStage(nn.Module):
    """Half of the channels through blocks, half around them, both weighed by what all places have in common."""

    def __init__(self, channels: int, blocks: int, *, adds: bool) -> None:
        super().__init__()
        half = channels // 2
        self.main_conv, self.short_conv = _convolution(channels, half, 1), _convolution(channels, half, 1)
        self.final_conv = _convolution(2 * half, channels, 1)
        self.blocks = nn.Sequential(*(_Block(half, adds=adds) for _ in range(blocks)))
        self.attention = _ChannelAttention(2 * half)

    def forward(self, features: Tensor) -> Tensor:
        both = torch.cat([self.blocks(self.main_conv(features)), self.short_conv(features)], dim=1)
        found: Tensor = self.final_conv(self.attention(both))
        return found


class _Block(nn.Module):
    """A 3x3 convolution, then a depthwise one of 5x5 with a 1x1, added to what went in unless `adds` is False."""

    def __init__(self, channels: int, *, adds: bool) -> None:
        super().__init__()
        self.adds = adds
        self.conv1 = _convolution(channels, channels, 3)
        self.conv2 = nn.Sequential(
            OrderedDict(
                depthwise_conv=_convolution(channels, channels, 5, groups=channels),
                pointwise_conv=_convolution(channels, channels, 1),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.conv2(self.conv1(features))
        return found + features if self.adds else found


class _ChannelAttention(nn.Module):
    """Each channel times a weight between 0 and 1 that the means of all channels give."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        weights = nn.functional.hardsigmoid(self.fc(features.mean(dim=(2, 3), keepdim=True)))
        return features * weights


def _convolution(given: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm and SiLU, under the names that mmcv gives them."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(given, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            bn=nn.BatchNorm2d(channels),
            activate=nn.SiLU(inplace=True),
        )
    )
