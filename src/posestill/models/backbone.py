"""Any timm network by name as a backbone: image in, feature maps out, the one that the head reads last."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import Field, PositiveInt
from timm.models import load_state_dict
from torch import Tensor, nn

from posestill.schema import Config, UserError, did_you_mean, table
from posestill.types import Size

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A network from a normalised image (B, 3, H, W) to feature maps, each (B, C_i, h_i, w_i)."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    licence: str = ""
    """of the pretrained weights, where there are any"""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Feature maps; the last one is what the head reads."""
        raise NotImplementedError


class BackboneConfig(Config):
    """These are the settings of a backbone."""

    def build(self, size: Size, *, pretrained: bool = True) -> Backbone:
        """The network for inputs of `size`; with `pretrained=False` no weights are fetched, whatever the settings."""
        raise NotImplementedError


class TimmConfig(BackboneConfig):
    """Any network of timm serves: `backbone: resnet50`, or `backbone: {name: resnet50, pretrained: true}`."""

    model: str
    """The network's name in timm; in YAML it is simply the `name` of the choice."""
    pretrained: bool = False
    """True: the network starts from timm's pretrained weights, of its cache or fetched. False: it starts from random
    ones, unless `weights` names a file."""
    weights: Path | None = None
    """A file with the network's weights (.safetensors or a torch file), for machines without a network. None: no file
    is read."""
    stride: PositiveInt | None = None
    """The input px per px of the map that the head reads; the network is cut after the stage that gives it. A smaller
    stride keeps places finer and leaves out the last stages. None: the whole network is used."""

    def build(self, size: Size, *, pretrained: bool = True) -> Backbone:
        """The network; fails when timm has no such name, or when the size or the weights do not fit it."""
        if not timm.is_model(self.model):
            hint = did_you_mean(self.model, [*timm.list_models(), *table("backbones")])
            raise UserError(f"model.backbone: timm {timm.__version__} has no network '{self.model}'{hint}")
        fetches = self.pretrained and pretrained and self.weights is None
        backbone = TimmBackbone(self.model, size, pretrained=fetches, stride=self.stride)
        if self.weights is not None and pretrained:
            read_backbone_weights(backbone, self.weights)
        return backbone


class TimmBackbone(Backbone):
    """timm's `features_only` networks, with their exceptions absorbed here."""

    def __init__(self, name: str, size: Size, *, pretrained: bool, stride: int | None = None) -> None:
        super().__init__()
        published = timm.get_pretrained_cfg(name)
        options: dict[str, object] = {}
        if published is not None and published.fixed_input_size:
            options["img_size"] = size  # ViT, Swin, MaxViT and others are built for one input size
        if name.startswith("hrnet"):
            options["feature_location"] = ""  # the branches themselves, not their classification widenings
        try:
            if stride is not None:
                options["out_indices"] = _stages(name, stride, options)
            self.network = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
            if stride is not None:
                _leave_out_what_follows(self.network)
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.network.eval()(torch.zeros(1, 3, *size))
        except UserError:
            raise
        except Exception as error:
            if pretrained:
                raise UserError(
                    f"model.backbone: the pretrained weights of '{name}' are not in timm's cache and could not be "
                    f"fetched ({str(error).splitlines()[0]}): check the connection, name a file that you have by "
                    "model.backbone.weights, or set model.backbone.pretrained=false"
                ) from None
            raise UserError(f"model.backbone: timm's '{name}' does not run on an input of {size}: {error}") from None
        self.channels_last = str(getattr(self.network, "output_fmt", "")).endswith("NHWC")
        # HRNet's head reads the finest branch (stride 4), which every stage has refined; elsewhere the last stage.
        self.last = list(self.network.feature_info.reduction()).index(4) if name.startswith("hrnet") else len(found) - 1
        self.network.train()
        if published is not None:
            self.mean, self.std = tuple(published.mean), tuple(published.std)
            self.licence = published.license or "" if pretrained else ""
        if name.startswith("hrnet"):
            self._freeze_what_no_head_reads(size)
        reached = self.network.feature_info.reduction()[self.last]
        if size[0] % reached or size[1] % reached:
            raise UserError(
                f"model.size: input {size} is not a multiple of the stride {reached} of '{name}': "
                f"take {_nearest(size, reached)}"
            )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C_i, h_i, w_i) of each stage up to the one the head reads."""
        maps = self.network(image)
        if self.channels_last:
            maps = [each.permute(0, 3, 1, 2) for each in maps]
        return tuple(maps[: self.last + 1])

    def _freeze_what_no_head_reads(self, size: Size) -> None:
        """The last stage also refines branches that are not returned: data parallel stumbles over idle parameters."""
        self.eval()  # so that no batch norm learns from a black picture
        self(torch.zeros(1, 3, *size))[-1].sum().backward()
        self.train()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None


def read_backbone_weights(backbone: TimmBackbone, path: Path) -> None:
    """Take a timm network's weights from a file; a `UserError` where they are not those of this network."""
    if not path.is_file():
        raise UserError(f"model.backbone.weights: no file {path}")
    try:
        given = load_state_dict(str(path))
    except Exception as error:  # whatever torch or safetensors say of a broken file
        raise UserError(f"model.backbone.weights: {path} cannot be read ({str(error).splitlines()[0]})") from None
    own = backbone.network.state_dict()
    prefix = "model." if all(key.startswith("model.") for key in own) else ""  # some networks are wrapped
    wanted = {key: given.get(key.removeprefix(prefix)) for key in own}
    wrong = [key for key, value in wanted.items() if value is None or value.shape != own[key].shape]
    if wrong:
        raise UserError(
            f"model.backbone.weights: {path.name} does not fit this network: {len(wrong)} of {len(own)} tensors are "
            f"missing or of another shape, such as {wrong[0]}; is it the file of another network?"
        )
    backbone.network.load_state_dict(wanted)


def _stages(name: str, stride: int, options: dict[str, object]) -> tuple[int, ...]:
    """The positions of a network's stages up to the last one of a stride."""
    with torch.device("meta"):  # only the shapes are wanted
        strides = list(timm.create_model(name, features_only=True, **options).feature_info.reduction())
    if stride not in strides:
        raise UserError(f"model.backbone.stride: '{name}' has stages of stride {', '.join(map(str, strides))}")
    return tuple(range(max(position for position, each in enumerate(strides) if each == stride) + 1))


def _leave_out_what_follows(network: Any) -> None:
    """Cut off blocks behind the last stage that is returned, where timm keeps them (as in its EfficientNets)."""
    holder, _, number = str(network.feature_info.module_name()[-1]).partition(".")
    blocks = getattr(network, holder, None)
    if isinstance(blocks, nn.Sequential) and number.isdigit():
        setattr(network, holder, blocks[: int(number) + 1])


def _nearest(size: Size, stride: int) -> Size:
    return (max(stride, round(size[0] / stride) * stride), max(stride, round(size[1] / stride) * stride))


class SmallResNetConfig(BackboneConfig):
    """A residual network is made as narrow as one likes, for small inputs and quick studies on a CPU."""

    channels: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128), min_length=1)
    """The channels of each stage, of which there are as many as numbers; every stage but the first halves the map. More
    channels make the network stronger and slower, more stages make its last map coarser."""
    blocks: PositiveInt = 1
    """The number of residual blocks in each stage. More blocks make the network stronger and slower."""
    max_pool: bool = True
    """True: the map is halved once more after the first convolution, as ResNet does. False: all maps stay twice as
    fine, which costs about four times as much."""

    def build(self, size: Size, *, pretrained: bool = True) -> Backbone:
        """The network; fails when the size is smaller than its stride; odd maps are rounded up."""
        stride = 2 ** len(self.channels) * (2 if self.max_pool else 1)
        if size[0] < stride or size[1] < stride:
            raise UserError(f"model.size: input {size} is smaller than the stride {stride} of small_resnet")
        return SmallResNet(self)


class SmallResNet(Backbone):
    """ResNet's basic blocks (CVPR 2016) at any width."""

    def __init__(self, config: SmallResNetConfig) -> None:
        super().__init__()
        first = config.channels[0]
        pool: list[nn.Module] = [nn.MaxPool2d(3, 2, 1)] if config.max_pool else []
        self.stem = nn.Sequential(*_convolution(3, first, 3, 2), nn.ReLU(inplace=True), *pool)
        stages, previous = [], first
        for position, channels in enumerate(config.channels):
            stride = 1 if position == 0 else 2
            inner = [_Block(previous, channels, stride)]
            inner += [_Block(channels, channels, 1) for _ in range(config.blocks - 1)]
            stages.append(nn.Sequential(*inner))
            previous = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C_i, h_i, w_i) of each stage."""
        maps, current = [], self.stem(image)
        for stage in self.stages:
            current = stage(current)
            maps.append(current)
        return tuple(maps)


class _Block(nn.Module):
    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_convolution(given, channels, 3, stride), nn.ReLU(inplace=True))
        self.second = nn.Sequential(*_convolution(channels, channels, 3, 1))
        changes = stride != 1 or given != channels
        self.shortcut = nn.Sequential(*_convolution(given, channels, 1, stride)) if changes else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(features)) + self.shortcut(features))


def _convolution(given: int, channels: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(given, channels, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(channels)]
