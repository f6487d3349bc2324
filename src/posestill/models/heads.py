"""Heads: from the last feature map to a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import PositiveInt, field_validator
from torch import Tensor, nn

from posestill.codecs.base import BinForm, Codec, MapForm, NumberForm
from posestill.schema import Config, UserError
from posestill.types import Coords, Heatmaps, Prediction, SimCC, Size, Tokens


class Head(nn.Module):
    """A network from feature maps, the last of them (B, C, h, w), to a prediction."""

    gives_tokens: bool = False
    """True: `answer` returns tokens, too"""

    def answer(self, features: tuple[Tensor, ...]) -> tuple[Prediction, Tokens | None]:
        """The prediction for B crops, and the tokens that it was read off, where the head has such."""
        return self(features), None

    def forward(self, features: tuple[Tensor, ...]) -> Prediction:
        """The prediction for B crops."""
        raise NotImplementedError


class HeadConfig(Config):
    """These are the settings of a head."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network for a last feature map of (C, h, w) whose output `codec` reads."""
        raise NotImplementedError


class DeconvConfig(HeadConfig):
    """Simple Baselines' head (ECCV 2018) doubles the map by each deconvolution, then draws one map a keypoint."""

    channels: tuple[PositiveInt, ...] | PositiveInt = (256, 256, 256)
    """The channels of each deconvolution; three of 256 are Simple Baselines'. Each one doubles the map, so that their
    number decides the stride of the heatmaps; more channels make the head stronger and slower. A single number, such as
    64, stands for as many deconvolutions of that width as the codec's maps ask for."""

    @field_validator("channels", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        # Read here, what is wrong is said once and not for each type that it may have.
        several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if any(isinstance(each, bool) or not isinstance(each, int) or each < 1 for each in several):
            raise ValueError(f"a number from 1 on, or a list of such, such as [64, 64]; given: {given!r}")
        return given

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network; its maps are 2**len(channels) times the feature map."""
        channels = self.channels
        if isinstance(channels, int):
            channels = (channels,) * _doublings(feature_shape[1:], codec)
        return DeconvHead(feature_shape[0], channels, num_keypoints)


def _doublings(feature: Size, codec: Codec) -> int:
    """How often a feature map (h, w) must be doubled to give the codec's maps; a `UserError` where it never does."""
    if not isinstance(codec.form, MapForm):
        raise UserError(
            "model: the head returns Heatmaps and the codec reads "
            f"{codec.prediction_type.__name__}: choose a head and a codec of one kind"
        )
    for count in range(8):
        if (feature[0] << count, feature[1] << count) == tuple(codec.form.size):
            return count
    raise UserError(
        f"model.head.channels: the backbone's map of {feature[0]} x {feature[1]}, doubled however often, does not "
        f"become the codec's of {codec.form.size[0]} x {codec.form.size[1]}: change model.size, model.codec.stride or "
        "model.backbone.stride, or set model.head=simcc and model.codec=simcc"
    )


class DeconvHead(Head):
    """Deconvolutions 4x4 stride 2 with batch norm and ReLU, then a 1x1 convolution to K maps."""

    def __init__(self, given: int, channels: tuple[int, ...], num_keypoints: int) -> None:
        super().__init__()
        self.layers = deconvolutions(given, channels)
        self.maps = nn.Conv2d(channels[-1] if channels else given, num_keypoints, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.001)
        nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]

    def forward(self, features: tuple[Tensor, ...]) -> Heatmaps:
        """Maps (B, K, h', w')."""
        return Heatmaps(maps=self.maps(self.layers(features[-1])))


def deconvolutions(given: int, channels: tuple[int, ...]) -> nn.Sequential:
    """(B, given, h, w) to (B, channels[-1], h * 2**n, w * 2**n) for n entries of `channels`."""
    layers: list[nn.Module] = []
    for width in channels:
        layers += [nn.ConvTranspose2d(given, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
        given = width
    return nn.Sequential(*layers)


class ConvMapsConfig(HeadConfig):
    """HRNet's head (CVPR 2019) is a 1x1 convolution on a map that is already fine."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network; its maps have the feature map's size."""
        return DeconvHead(feature_shape[0], (), num_keypoints)


class GapFcConfig(HeadConfig):
    """DeepPose's head pools the map to one vector and predicts coordinates by one linear layer."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network."""
        flatten = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return CoordsHead(flatten, feature_shape[0], num_keypoints, codec)


class FlatFcConfig(HeadConfig):
    """One linear layer over all places of the map, after a 1x1 convolution, sees where things are."""

    channels: PositiveInt = 64
    """The channels to which the 1x1 convolution reduces the map before the linear layer reads all its places. More
    channels tell more about each place; the linear layer grows with them."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network; it is bound to one input size."""
        given, height, width = feature_shape
        squeeze = nn.Sequential(
            nn.Conv2d(given, self.channels, 1, bias=False), nn.BatchNorm2d(self.channels), nn.ReLU(True), nn.Flatten()
        )
        flat = self.channels * height * width
        return CoordsHead(squeeze, flat, num_keypoints, codec)


class CoordsHead(Head):
    """What a coordinate codec reads, from a flat vector: raw coordinates, with or without a spread and a confidence."""

    def __init__(self, flatten: nn.Module, given: int, num_keypoints: int, codec: Codec) -> None:
        super().__init__()
        self.flatten = flatten
        self.num_keypoints = num_keypoints
        self.codec = codec
        self.coordinates = nn.Linear(given, numbers_of(codec) * num_keypoints)
        nn.init.normal_(self.coordinates.weight, std=0.01)
        nn.init.zeros_(self.coordinates.bias)

    def forward(self, features: tuple[Tensor, ...]) -> Coords:
        """Coordinates (B, K, 2)."""
        flat: Tensor = self.flatten(features[-1])
        with torch.autocast(flat.device.type, enabled=False):
            flat = self.coordinates(flat.to(self.coordinates.weight.dtype))
        # Coordinates keep full precision whatever the mixed precision around them: bf16 has 8 bits for 192 pixels.
        coords: Coords = self.codec.assemble(flat.unflatten(1, (self.num_keypoints, -1)))
        return coords


def numbers_of(codec: Codec) -> int:
    """How many numbers a keypoint the codec reads; a `UserError` for one that reads something else."""
    if not isinstance(codec.form, NumberForm):
        raise UserError(
            f"model: the head returns Coords and the codec reads {codec.prediction_type.__name__}: choose a head and a "
            "codec of one kind"
        )
    return codec.form.count


def bins_of(codec: Codec, head: str) -> tuple[int, int]:
    """The bins of x and y that the codec reads; a `UserError`, naming the head, for one that reads something else."""
    if not isinstance(codec.form, BinForm):
        raise UserError(f"model.head: {head} gives bins, which only the simcc codec reads: choose both or neither")
    return codec.form.x, codec.form.y


class SimccHeadConfig(HeadConfig):
    """SimCC's head (ECCV 2022) draws one small map a keypoint and reads each axis off it by one linear layer."""

    kernel: PositiveInt = 1
    """The width of the convolution that draws the maps, in px of the feature map; it is 7 in RTMPose. A wider kernel
    sees more around each place and has more parameters."""
    deconv: tuple[PositiveInt, ...] = ()
    """The channels of deconvolutions before the maps are drawn, each of which doubles the feature map; in mmpose's
    SimCC with a ResNet they are three of 256. Empty: the maps are drawn on the feature map itself. Larger maps make the
    linear layers larger."""
    bias: bool = False
    """True: the linear layers add a number to each bin, as in mmpose's SimCC. False: they add none, as in RTMPose."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> Head:
        """The network; it is bound to one input size. Fails under another codec."""
        return SimccHead(self, feature_shape, num_keypoints, bins_of(codec, "simcc"))


class SimccHead(Head):
    """Logits over the bins of each axis."""

    def __init__(
        self,
        config: SimccHeadConfig,
        feature_shape: tuple[int, int, int],
        num_keypoints: int,
        bins: tuple[int, int],
    ) -> None:
        super().__init__()
        given, height, width = feature_shape
        places = height * width * 4 ** len(config.deconv)
        self.layers = deconvolutions(given, config.deconv)
        drawn_on = config.deconv[-1] if config.deconv else given
        self.maps = nn.Conv2d(drawn_on, num_keypoints, config.kernel, padding=config.kernel // 2)
        self.x, self.y = (nn.Linear(places, count, bias=config.bias) for count in bins)
        for layer in (self.maps, self.x, self.y):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, features: tuple[Tensor, ...]) -> SimCC:
        """Logits (B, K, bins) of x and of y."""
        flat = self.maps(self.layers(features[-1])).flatten(2)  # (B, K, places)
        return SimCC(x=self.x(flat), y=self.y(flat))
