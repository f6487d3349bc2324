"""StemNet: the first layers of HRNet as a backbone of their own, the one under DistilPose-S (CVPR 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from posestill.models.backbone import Backbone, BackboneConfig
from posestill.schema import UserError
from posestill.types import Size

STRIDE = 4


class StemNetConfig(BackboneConfig):
    """HRNet's first layers, two strided convolutions and four bottlenecks, give 256 channels at stride 4."""

    def build(self, size: Size, *, pretrained: bool = True) -> Backbone:
        """The network; fails when the stride does not divide the size. There are no pretrained weights."""
        check_stride(size, "stemnet")
        return StemNet()


class StemNet(Backbone):
    """conv1, conv2 and layer1 of HRNet; every name as in the published checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Bottleneck(64), *(Bottleneck(256) for _ in range(3)))
        initialise_convolutions(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """One map (B, 256, H / 4, W / 4)."""
        return (self.stem(image),)

    def stem(self, image: Tensor) -> Tensor:
        """(B, 256, H / 4, W / 4)."""
        features = self.relu(self.bn1(self.conv1(image)))  # (B, 64, H / 2, W / 2)
        features = self.relu(self.bn2(self.conv2(features)))  # (B, 64, H / 4, W / 4)
        refined: Tensor = self.layer1(features)
        return refined


class Bottleneck(nn.Module):
    """ResNet's bottleneck (CVPR 2016), 64 channels inside and 256 outside."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, 64, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 256, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(256)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if given != 256:
            self.downsample = nn.Sequential(nn.Conv2d(given, 256, 1, bias=False), nn.BatchNorm2d(256))

    def forward(self, features: Tensor) -> Tensor:
        """(B, 256, h, w)."""
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        refined: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.downsample(features))
        return refined


def initialise_convolutions(network: nn.Module) -> None:
    """Normal weights of spread 0.001, as published for StemNet and for HRNet without ImageNet weights."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.001)


def check_stride(size: Size, name: str, stride: int = STRIDE) -> None:
    """Fail, naming both, when `stride` does not divide an input of `size`."""
    if size[0] % stride or size[1] % stride:
        raise UserError(f"model.size: input {size} is not a multiple of the stride {stride} of {name}")
