"""How a published network wants its crops and what its outputs mean: a *layout*, as data wherever that is enough.

A layout says which part of the picture the network sees (size, padding), how pixels become numbers (order, colours,
range, normalisation), which outputs hold the prediction, and which codec reads it. What does not fit this form is a
class of its own: BlazePose (`blazepose.py`) and networks that find several people in a picture (`one_stage.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from pydantic import Field, PositiveFloat
from torch import Tensor

from posestill.codecs.base import Codec, CodecConfig
from posestill.schema import Choice, Config, UserError, did_you_mean, validate
from posestill.skeletons import COCO_17, COCO_WHOLEBODY, Skeleton, from_category
from posestill.teachers.runtime import RuntimeNetwork
from posestill.types import Coords, Heatmaps, Prediction, SimCC, Size

Triple = tuple[float, float, float]
IMAGENET_MEAN: Triple = (123.675, 116.28, 103.53)
IMAGENET_STD: Triple = (58.395, 57.12, 57.375)


class MapsOutput(Config):
    """One map a keypoint."""

    kind: Literal["maps"] = "maps"
    tensor: str | None = None
    """The output that holds the maps; None takes the only one."""
    order: Literal["nchw", "nhwc"] = "nchw"
    """Whether keypoints come before (`nchw`) or after (`nhwc`) rows and columns."""
    logits: bool = False
    """True: a sigmoid turns the numbers into confidences."""


class BinsOutput(Config):
    """The bins of each axis, as SimCC has them."""

    kind: Literal["bins"] = "bins"
    x: str = "simcc_x"
    """The output (N, K, bins) of the x axis."""
    y: str = "simcc_y"
    """The output (N, K, bins) of the y axis."""


class NumbersOutput(Config):
    """Places as numbers, with or without a confidence."""

    kind: Literal["numbers"] = "numbers"
    tensor: str | None = None
    """The output whose last axis holds the numbers of a keypoint; None takes the only one."""
    x: int = 0
    """The position of x among a keypoint's numbers."""
    y: int = 1
    """The position of y among a keypoint's numbers."""
    score: int | None = None
    """The position of the confidence among a keypoint's numbers; None: there is none, and each counts fully."""
    unit: Literal["edges", "centres", "px"] = "centres"
    """What a place is counted in. `edges`: shares of the crop from its left edge (0) to its right edge (1). `centres`:
    shares of width and height, where px centres lie at whole numbers. `px`: input px."""


OutputConfig = Annotated[MapsOutput | BinsOutput | NumbersOutput, Field(discriminator="kind")]


class LayoutConfig(Config):
    """A layout as data; a YAML file of one's own holds the same keys."""

    size: Size | None = None
    """(height, width) of the crop in px; None takes the file's own."""
    padding: PositiveFloat = 1.25
    """How much larger than the person's box the crop is. A larger crop shows more around the person, who is then
    smaller in it; the right value is the one that the network was trained with."""
    order: Literal["nchw", "nhwc"] = "nchw"
    """Whether colours come before (`nchw`) or after (`nhwc`) rows and columns."""
    colours: Literal["rgb", "bgr"] = "rgb"
    """The order of the colours."""
    highest: Literal[1, 255] = 255
    """The number that a fully bright px has before it is normalised."""
    mean: Triple = (0.0, 0.0, 0.0)
    """What is subtracted from each colour, in the order that `colours` says and on the scale of `highest`."""
    std: Triple = (1.0, 1.0, 1.0)
    """What each colour is then divided by."""
    keypoints: str | tuple[str, ...] = "coco"
    """The keypoints in the network's order: the name of a known set (coco, coco-wholebody, halpe26, blazepose) or all
    their names."""
    output: OutputConfig
    """Which outputs hold the prediction and how."""
    codec: Annotated[CodecConfig, Choice("codecs")]
    """How the prediction is read."""


HALPE26 = (
    *COCO_17.names, "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
    "left_heel", "right_heel",
)  # fmt: skip
KEYPOINT_SETS: dict[str, Skeleton] = {
    "coco": COCO_17,
    "coco-wholebody": COCO_WHOLEBODY,
    "halpe26": from_category({"name": "halpe26", "keypoints": HALPE26}),
}
_IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
_BINS: dict[str, Any] = {**_IMAGENET, "output": {"kind": "bins"}}
_MAPS: dict[str, Any] = {**_IMAGENET, "output": {"kind": "maps"}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "movenet": {
        "order": "nhwc", "codec": "coords",
        "output": {"kind": "numbers", "tensor": "keypoints", "x": 1, "y": 0, "score": 2, "unit": "edges"},
    },
    "movenet-maps": {
        "order": "nhwc", "codec": {"name": "heatmap", "stride": 4, "sigma": 1.4, "grid": "cells"},
        "output": {"kind": "maps", "tensor": "heatmaps", "order": "nhwc"},
    },
    "rtmpose": {**_BINS, "codec": "simcc"},
    "rtmpose-384": {**_BINS, "codec": {"name": "simcc", "sigma": [6.0, 6.93]}},
    "rtmw": {**_BINS, "codec": {"name": "simcc", "beta": 1.0}},
    "simcc": {**_BINS, "codec": {"name": "simcc", "sigma": [6.0, 6.0], "beta": 1.0}},
    "hrnet": {**_MAPS, "codec": {"name": "heatmap", "decoder": "quarter", "flip_shift": "whole"}},
    "simple-baselines": {
        **_MAPS, "colours": "bgr", "codec": {"name": "heatmap", "decoder": "quarter", "flip_shift": "whole"},
    },
    "vitpose": {**_MAPS, "codec": {"name": "heatmap", "grid": "udp"}},
    "deeppose": {**_IMAGENET, "codec": "coords", "output": {"kind": "numbers"}},
}  # fmt: skip
"""Published networks by name, as a YAML file would describe them. Colours, ranges and decoders are those of their
authors' code: `simple-baselines` is fed BGR with means in the order of RGB, since its authors trained it so."""


class Layout:
    """How a network is asked about crops of persons."""

    name: str
    size: Size
    """(height, width) of the crops that it is given, px"""
    padding: float
    """how much larger than the box such a crop is"""
    skeleton: Skeleton
    codec: Codec
    """what reads its predictions, for crops of `size`"""

    def ask(self, network: RuntimeNetwork, crops: np.ndarray) -> tuple[Prediction, dict[str, np.ndarray]]:
        """The prediction for crops (B, H, W, 3) uint8 RGB, and every output of the network by name, (B, ...) each."""
        raise NotImplementedError


class PlainLayout(Layout):
    """A layout that is data: crop in, tensor made, output read."""

    def __init__(self, name: str, config: LayoutConfig, network: RuntimeNetwork) -> None:
        """Fails, naming both, where the file's inputs and outputs are not the layout's."""
        self.name, self.config = name, config
        if len(network.inputs) != 1:
            raise UserError(f"teacher.layout: {name} has one input, and {network.path.name} has: {network.describe()}")
        self.port = network.inputs[0]
        self.size = self._size()
        self.padding = config.padding
        self.batch = None if not self.port.shape else self.port.shape[0]
        self.codec = config.codec.build(self.size)
        outputs = {each.name: each for each in network.outputs}
        for wanted in _tensors(config.output):
            if wanted is not None and wanted not in outputs:
                raise UserError(
                    f"teacher.layout: {name} reads the output '{wanted}', and {network.path.name} has: "
                    f"{network.describe()}"
                )
        self.skeleton = _skeleton(config.keypoints, name)

    def _size(self) -> Size:
        shape = self.port.shape
        given = shape[2:4] if self.config.order == "nchw" else shape[1:3]
        colours = shape[1] if self.config.order == "nchw" else shape[-1]
        if len(shape) != 4 or colours not in (3, None):
            raise UserError(
                f"teacher.layout: {self.name} gives a picture of three colours ({self.config.order}), and the file's "
                f"input is {self.port}"
            )
        wanted = self.config.size
        sizes = [one if one is not None else other for one, other in zip(given, wanted or (None, None), strict=True)]
        if None in sizes:
            raise UserError("teacher.layout: the file takes crops of any size: say which by layout.size")
        if wanted is not None and tuple(sizes) != tuple(wanted):
            raise UserError(f"teacher.layout: size {wanted} was asked for, and the file's input is {self.port}")
        return int(sizes[0] or 0), int(sizes[1] or 0)

    def ask(self, network: RuntimeNetwork, crops: np.ndarray) -> tuple[Prediction, dict[str, np.ndarray]]:
        """The prediction for crops (B, H, W, 3) uint8 RGB, and every output of the network by name."""
        tensor = self.tensor(crops)
        if self.batch is None:
            found = network({self.port.name: tensor})
        else:
            parts = [tensor[at : at + self.batch] for at in range(0, len(tensor), self.batch)]
            spare = self.batch - len(parts[-1])
            if spare:  # the last part is filled up with its last crop
                parts[-1] = np.concatenate([parts[-1], parts[-1][-1:].repeat(spare, axis=0)])
            each = [network({self.port.name: part}) for part in parts]
            found = {name: np.concatenate([one[name] for one in each])[: len(crops)] for name in each[0]}
        return self.prediction(found), found

    def tensor(self, crops: np.ndarray) -> np.ndarray:
        """What the network is given for crops (B, H, W, 3) uint8 RGB."""
        config = self.config
        values = crops if config.colours == "rgb" else crops[..., ::-1]
        if np.issubdtype(self.port.dtype, np.integer):
            if config.highest != 255 or config.mean != (0, 0, 0) or config.std != (1, 1, 1):
                raise UserError(f"teacher.layout: the file takes whole numbers ({self.port}), which are not normalised")
            numbers = values.astype(self.port.dtype)
        else:
            mean, std = (np.array(each, dtype=np.float32) for each in (config.mean, config.std))
            scaled = values.astype(np.float32) * np.float32(config.highest / 255)
            numbers = ((scaled - mean) / std).astype(self.port.dtype)
        return np.ascontiguousarray(numbers.transpose(0, 3, 1, 2) if config.order == "nchw" else numbers)

    def prediction(self, found: dict[str, np.ndarray]) -> Prediction:
        """The network's outputs as one of our predictions."""
        output = self.config.output
        if isinstance(output, BinsOutput):
            return SimCC(x=torch.from_numpy(found[output.x]).float(), y=torch.from_numpy(found[output.y]).float())
        name = output.tensor or next(iter(found))
        values = torch.from_numpy(found[name]).float()
        if isinstance(output, MapsOutput):
            maps = values.permute(0, 3, 1, 2) if output.order == "nhwc" else values  # (B, K, h, w)
            return Heatmaps(maps=maps.sigmoid() if output.logits else maps)
        values = values.reshape(len(values), len(self.skeleton), -1)  # (B, K, numbers)
        score = None if output.score is None else values[..., output.score]
        xy = torch.stack([values[..., output.x], values[..., output.y]], dim=-1)
        return Coords(xy=as_fractions(xy, output.unit, self.size), score=score)


def as_fractions(xy: Tensor, unit: str, size: Size) -> Tensor:
    """Places (..., 2) in a layout's unit as shares of the input's (W, H), where px centres lie at whole numbers."""
    extent = xy.new_tensor([size[1], size[0]])
    if unit == "px":
        return xy / extent
    return xy - 0.5 / extent if unit == "edges" else xy


def read_layout(path: Path) -> LayoutConfig:
    """The layout in a YAML file of one's own."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"teacher.layout: {path} cannot be read as YAML ({error})") from None
    return validate(LayoutConfig, content, where=str(path))


def named_layout(name: str) -> LayoutConfig:
    """A layout by its name, or by the path of a YAML file."""
    if name in LAYOUTS:
        return validate(LayoutConfig, LAYOUTS[name], where=f"layout {name}")
    if name.endswith((".yaml", ".yml")):
        return read_layout(Path(name))
    raise UserError(f"teacher.layout: no layout '{name}'{did_you_mean(name, LAYOUTS)} (known: {', '.join(LAYOUTS)})")


def _tensors(output: MapsOutput | BinsOutput | NumbersOutput) -> tuple[str | None, ...]:
    return (output.x, output.y) if isinstance(output, BinsOutput) else (output.tensor,)


def _skeleton(keypoints: str | tuple[str, ...], layout: str) -> Skeleton:
    if isinstance(keypoints, str):
        if keypoints not in KEYPOINT_SETS:
            known = ", ".join(KEYPOINT_SETS)
            raise UserError(f"layout {layout}: no set of keypoints '{keypoints}' (known: {known}); or list their names")
        return KEYPOINT_SETS[keypoints]
    return from_category({"name": layout, "keypoints": keypoints})
