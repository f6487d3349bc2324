"""HRNet (CVPR 2019) that returns its finest branch, with three stages or four: the backbone of DistilPose-L and its
teacher. Nothing that the head does not read is built: the last module of the last stage fuses into branch 0 only.

    stem -> layer1 -+-> branch 0: stride 4 ---+---- ... ----+-> features
                    +-> branch 1: stride 8 ---+---- ... ----+
                              +-> branch 2: stride 16 ---- ... (every module ends with all branches added to each)

Names are those of the published checkpoints (mmpose, timm), whose weights therefore fit.
"""

from __future__ import annotations

from typing import Literal

import timm
from torch import Tensor, nn

from posestill.models.backbone import Backbone, BackboneConfig
from posestill.models.stemnet import StemNet, check_stride, initialise_convolutions
from posestill.schema import UserError
from posestill.types import Size

BLOCKS = 4
"""basic blocks a branch and module"""
MODULES = {2: 1, 3: 4, 4: 3}
"""modules of each stage"""


class HRNetConfig(BackboneConfig):
    """HRNet gives its finest branch; with three stages instead of four it is the backbone of DistilPose-L."""

    width: Literal[18, 30, 32, 40, 44, 48, 64] = 48
    """The channels of the finest branch; each coarser one has twice as many as the last. A wider network is stronger
    and slower."""
    stages: Literal[3, 4] = 4
    """The number of stages. 4: those of HRNet. 3: without the last stage and its coarsest branch, as in
    DistilPose-L."""
    pretrained: bool = False
    """True: the network starts from timm's ImageNet weights, which are fetched. False: it starts from random ones."""

    def build(self, size: Size, *, pretrained: bool = True) -> Backbone:
        """The network; fails when the stride of its coarsest branch does not divide the size."""
        check_stride(size, f"hrnet with {self.stages} stages", 2 ** (self.stages + 1))
        network = HRNet(self.width, self.stages)
        if self.pretrained and pretrained:
            network.load_imagenet()
        return network


class HRNet(StemNet):
    """One map (B, width, H / 4, W / 4), refined beside coarser ones."""

    def __init__(self, width: int, stages: int) -> None:
        super().__init__()
        self.width = width
        self.stages = stages
        given = [256]
        for stage in range(2, stages + 1):
            channels = [width * 2**branch for branch in range(stage)]
            modules = [_Module(channels) for _ in range(MODULES[stage])]
            if stage == stages:
                modules[-1] = _Module(channels, fused=1)
            setattr(self, f"transition{stage - 1}", _transition(given, channels))
            setattr(self, f"stage{stage}", nn.Sequential(*modules))
            given = channels
        initialise_convolutions(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, width, H / 4, W / 4), alone in its tuple."""
        branches = [self.stem(image)]
        for stage in range(2, self.stages + 1):
            transition = getattr(self, f"transition{stage - 1}")
            # A new branch grows from the coarsest one there is.
            branches = [
                change(branches[min(position, len(branches) - 1)]) for position, change in enumerate(transition)
            ]
            branches = getattr(self, f"stage{stage}")(branches)
        return (branches[0],)

    def load_imagenet(self) -> None:
        """Take over timm's ImageNet weights; fails when they cannot be had."""
        name = f"hrnet_w{self.width}"
        try:
            published = timm.create_model(name, pretrained=True)
        except Exception as error:
            raise UserError(
                f"model.backbone: the pretrained weights of '{name}' could not be loaded ({error}): check the "
                "connection, or set model.backbone.pretrained=false"
            ) from None
        self.take_over(published.state_dict())
        self.licence = published.pretrained_cfg.get("license") or ""

    def take_over(self, weights: dict[str, Tensor]) -> None:
        """Load what this network has of a larger one's weights; every tensor of its own must be there."""
        own = self.state_dict()
        self.load_state_dict({name: value for name, value in weights.items() if name in own})


def _transition(given: list[int], wanted: list[int]) -> nn.ModuleList:
    """From the branches of one stage to those of the next: another width where it changes, and a coarser branch."""
    changes: list[nn.Module] = []
    for position, channels in enumerate(wanted):
        if position >= len(given):
            changes.append(nn.Sequential(nn.Sequential(*_convolution(given[-1], channels, stride=2), nn.ReLU(True))))
        elif given[position] != channels:
            changes.append(nn.Sequential(*_convolution(given[position], channels), nn.ReLU(True)))
        else:
            changes.append(nn.Identity())
    return nn.ModuleList(changes)


class _Module(nn.Module):
    """Basic blocks on every branch, then every branch added to each of the `fused` finest ones."""

    def __init__(self, channels: list[int], fused: int | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(_BasicBlock(each) for _ in range(BLOCKS))) for each in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fusion(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels) if fused is None else fused)
        )
        self.relu = nn.ReLU(inplace=False)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        refined = [blocks(branch) for blocks, branch in zip(self.branches, branches, strict=True)]
        mixed = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            parts = [fuse(branch) for fuse, branch in zip(row, refined, strict=True)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            mixed.append(self.relu(total))
        return mixed


def _fusion(channels: list[int], source: int, target: int) -> nn.Module:
    if source == target:
        return nn.Identity()
    if source > target:
        larger = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*_convolution(channels[source], channels[target], kernel=1), larger)
    steps: list[nn.Module] = []
    for _ in range(target - source - 1):
        steps.append(nn.Sequential(*_convolution(channels[source], channels[source], stride=2), nn.ReLU(True)))
    steps.append(nn.Sequential(*_convolution(channels[source], channels[target], stride=2)))
    return nn.Sequential(*steps)


class _BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(channels, channels)
        self.conv2, self.bn2 = _convolution(channels, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(features)))
        refined: Tensor = self.relu(self.bn2(self.conv2(inner)) + features)
        return refined


def _convolution(given: int, channels: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(given, channels, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]
