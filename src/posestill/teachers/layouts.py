"""How a published network wants its crops and what its outputs mean: a *layout*, as data wherever that is enough.

A layout says which part of the picture the network sees (size, padding), how pixels become numbers (order, colours,
range, normalisation), which outputs hold the prediction, and which codec reads it. What does not fit this form is a
class of its own: BlazePose (`blazepose.py`) and networks that find several people in a picture (`one_stage.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from posestill.codecs.base import CodecConfig
from posestill.documents.parse import read_yaml
from posestill.schema import Choice, Config, UserError, did_you_mean, validate

Triple = tuple[float, float, float]
PositiveTriple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
IMAGENET_MEAN: Triple = (123.675, 116.28, 103.53)
IMAGENET_STD: Triple = (58.395, 57.12, 57.375)
EXPORTED = "posestill-export"
"""the `format` of what stands beside a file that posestill exported"""


class MapsOutput(Config):
    """One map a keypoint."""

    kind: Literal["maps"] = "maps"
    """The word `maps` says that the output holds one heatmap a keypoint."""
    tensor: str | None = None
    """The name of the output that holds the maps. None: the only one that has four axes and as many keypoints."""
    order: Literal["nchw", "nhwc"] = "nchw"
    """Whether keypoints come before (`nchw`) or after (`nhwc`) rows and columns."""
    logits: bool = False
    """True: a sigmoid turns the numbers into confidences. False: they are confidences as they are."""


class BinsOutput(Config):
    """The bins of each axis, as SimCC has them."""

    kind: Literal["bins"] = "bins"
    """The word `bins` says that two outputs hold the bins of the two axes."""
    x: str = "simcc_x"
    """The name of the output (N, K, bins) of the x axis."""
    y: str = "simcc_y"
    """The name of the output (N, K, bins) of the y axis."""
    factor: PositiveFloat = 1.0
    """What the numbers are multiplied by before the codec reads them. The codec then multiplies by its `beta`: of a
    network that was trained without one, 1 / beta makes its own probabilities of them. A larger factor makes every
    answer look surer."""


class NumbersOutput(Config):
    """Places as numbers, with or without a confidence."""

    kind: Literal["numbers"] = "numbers"
    """The word `numbers` says that the output holds the coordinates themselves."""
    tensor: str | None = None
    """The name of the output whose last axis holds the numbers of a keypoint, or that has them all in a row. None: the
    only one that has that form."""
    x: NonNegativeInt = 0
    """The position of x among a keypoint's numbers, counted from 0."""
    y: NonNegativeInt = 1
    """The position of y among a keypoint's numbers, counted from 0."""
    score: NonNegativeInt | None = None
    """The position of the confidence among a keypoint's numbers. None: there is none, and every keypoint counts
    fully."""
    unit: Literal["edges", "centres", "px"] = "centres"
    """What a place is counted in. `edges`: shares of the crop from its left edge (0) to its right edge (1). `centres`:
    shares of width and height, where px centres lie at whole numbers. `px`: input px, with centres at whole numbers."""


OutputConfig = Annotated[MapsOutput | BinsOutput | NumbersOutput, Field(discriminator="kind")]


class LayoutConfig(Config):
    """A layout as data; a YAML file of one's own holds the same keys."""

    size: tuple[PositiveInt, PositiveInt] | None = None
    """The (height, width) of the crop in px, for a file that takes any size. None: the file's own."""
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
    std: PositiveTriple = (1.0, 1.0, 1.0)
    """What each colour is then divided by."""
    keypoints: str | tuple[str, ...] | None = None
    """The keypoints in the network's order: the name of a known set (coco, halpe26, blazepose, coco-wholebody, sapiens)
    or all their names. None: the known set of as many as the file gives."""
    flip_pairs: tuple[tuple[int, int], ...] | None = None
    """The pairs of keypoints that are mirror partners, as positions from 0. None: those of the known set, or by the
    sides in the names; where these tell none, the network is not asked about mirrored crops."""
    partners_known: bool = True
    """False: nothing tells which keypoints are mirror partners, whatever their names say, so that the network is not
    asked about mirrored crops."""
    sigmas: tuple[PositiveFloat, ...] | None = None
    """The spread of each keypoint for OKS. None: those of the known set, or COCO's for the same part of the body."""
    output: OutputConfig
    """Which outputs hold the prediction, and how: `kind` is `maps`, `bins` or `numbers`."""
    codec: Annotated[CodecConfig, Choice("codecs")]
    """How the prediction is read: `heatmap` with its stride and grid, `simcc` with its split, or `coords`."""

    @property
    def told_of_keypoints(self) -> dict[str, Any]:
        """What it says of its keypoints beside their names, in the keys of a metainfo file."""
        told = {"flip_pairs": self.flip_pairs, "sigmas": self.sigmas}
        known = {} if self.partners_known else {"partners_known": False}
        return {**{key: each for key, each in told.items() if each is not None}, **known}

    @property
    def normalises(self) -> bool:
        """True where px become other numbers than 0..255."""
        plain = {"highest": 255, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        return any(getattr(self, name) != value for name, value in plain.items())


_IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
_BINS: dict[str, Any] = {**_IMAGENET, "output": {"kind": "bins"}}
_BINS_BETA_1: dict[str, Any] = {**_IMAGENET, "output": {"kind": "bins", "factor": 0.1}}
_MAPS: dict[str, Any] = {**_IMAGENET, "output": {"kind": "maps"}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "movenet": {
        "order": "nhwc", "keypoints": "coco", "codec": "coords",
        "output": {"kind": "numbers", "x": 1, "y": 0, "score": 2, "unit": "edges"},
    },
    "movenet-maps": {
        "order": "nhwc", "keypoints": "coco",
        "codec": {"name": "heatmap", "stride": 4, "sigma": 1.4, "grid": "cells"},
        "output": {"kind": "maps", "order": "nhwc"},
    },
    "rtmpose": {**_BINS, "codec": "simcc"},
    "rtmpose-384": {**_BINS, "codec": {"name": "simcc", "sigma": [6.0, 6.93]}},
    "rtmw": {**_BINS_BETA_1, "codec": "simcc"},
    "rtmw-384": {**_BINS_BETA_1, "codec": {"name": "simcc", "sigma": [6.0, 6.93]}},
    # Trained on Gaussians of 6 bins and of sum 1: at beta 10 one of height 1 and 18.1 bins has that peak.
    "simcc": {**_BINS_BETA_1, "codec": {"name": "simcc", "sigma": [18.1, 18.1]}},
    "hrnet": {**_MAPS, "codec": {"name": "heatmap", "decoder": "quarter", "flip_shift": "whole"}},
    "simple-baselines": {
        **_MAPS, "colours": "bgr", "codec": {"name": "heatmap", "decoder": "quarter", "flip_shift": "whole"},
    },
    "vitpose": {**_MAPS, "codec": {"name": "heatmap", "grid": "udp"}},
    "deeppose": {**_IMAGENET, "codec": "coords", "output": {"kind": "numbers"}},
}  # fmt: skip
"""Published networks by name, as a YAML file would describe them. Colours, ranges and decoders are those of their
authors' code: `simple-baselines` is fed BGR with means in the order of RGB, since its authors trained it so. Networks
whose bins were trained without a beta have their logits divided by the codec's 10."""


def read_layout(path: Path) -> LayoutConfig:
    """The layout in a YAML file of one's own."""
    if not path.is_file():
        raise UserError(f"teacher.layout: no file {path}")
    try:
        return validate(LayoutConfig, read_yaml(path, what="layout"), where=str(path))
    except UserError as error:
        raise UserError(f"teacher.layout: {error}") from None


def named_layout(name: str) -> LayoutConfig:
    """A layout by its name, or by the path of a YAML file."""
    if name in LAYOUTS:
        return validate(LayoutConfig, LAYOUTS[name], where=f"layout {name}")
    if name.endswith((".yaml", ".yml")):
        return read_layout(Path(name))
    raise UserError(f"teacher.layout: no layout '{name}'{did_you_mean(name, LAYOUTS)} (known: {', '.join(LAYOUTS)})")


def layout_beside(network: Path) -> LayoutConfig | None:
    """The layout in `NETWORK.json` beside a file that posestill exported; None where it is somebody else's file."""
    path = network.with_name(f"{network.name}.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (ValueError, OSError):
        return None
    if not isinstance(content, dict) or content.get("format") != EXPORTED:
        return None
    return validate(LayoutConfig, content.get("layout"), where=f"{path}: layout")
