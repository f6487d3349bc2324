"""What published checkpoints are models of, and what their tensors are called here.

DistilPose's release (CVPR 2023) has two students, and their teacher, a TokenPose head on HRNet-W48. mmpose publishes
Simple Baselines, HRNet, DeepPose, RLE, SimCC and RTMPose, all fed RGB by ImageNet's moments; codecs, flip tests and
decoders are those of its configurations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from posestill.types import Size

Settings = dict[str, Any]
Kind = Literal["plain", "dark", "udp"]
"""of heatmaps: Simple Baselines' own, DARK's or UDP's"""
Names = tuple[tuple[str, str], ...]
"""pattern of a published name -> what it is called here; the first that fits the beginning of a name counts"""


@dataclass(frozen=True)
class Published:
    """One published kind of checkpoint."""

    model: Settings
    """the settings of the pose model that it is"""
    names: Names
    source: str
    """where it was published"""
    counted: str
    """a tensor, by its name here, whose size tells the number of keypoints"""
    axis: int = 0
    """along which it does"""
    numbers: int = 1
    """how many entries of that axis a keypoint has"""
    factors: Mapping[str, float] = field(default_factory=dict)
    """what the tensors of a part are multiplied by, by the part's name here"""

    def our_name(self, key: str) -> str | None:
        """What a published tensor is called here; None where it is no part of the model."""
        for pattern, replacement in self.names:
            if match := re.match(rf"{pattern}(?=\.|$)", key):
                return match.expand(replacement) + key[match.end() :]
        return None


def _distilpose(head: str, *output: tuple[str, str]) -> Names:
    layer = rf"keypoint_head\.{head}\.transformer\.layers\.(\d+)\."
    own = rf"keypoint_head\.{head}\."
    return (
        (r"backbone", "backbone"),
        (rf"{own}keypoint_token", "head.keypoint_tokens"),
        (rf"{own}pos_embedding", "head.position"),
        (rf"{own}patch_to_embedding", "head.embed"),
        (rf"{layer}0\.fn\.norm", r"head.layers.\1.attention_norm"),
        (rf"{layer}0\.fn\.fn\.to_qkv", r"head.layers.\1.qkv"),
        (rf"{layer}0\.fn\.fn\.to_out\.0", r"head.layers.\1.merge"),
        (rf"{layer}1\.fn\.norm", r"head.layers.\1.mlp_norm"),
        (rf"{layer}1\.fn\.fn\.net\.0", r"head.layers.\1.mlp.0"),
        (rf"{layer}1\.fn\.fn\.net\.3", r"head.layers.\1.mlp.2"),
        *((rf"{own}{theirs}", ours) for theirs, ours in output),
    )


STUDENT_CODEC = {
    "name": "coords", "loss": "smooth_l1", "bounded": True, "score": True, "scale": True, "mirror_shift": False,
}  # fmt: skip
TEACHER_CODEC = {"name": "heatmap", "stride": 4, "sigma": 2.0, "flip_shift": "whole"}
_STUDENT = _distilpose("tokenhead", (r"mlp_head\.0", "head.output.norm"), (r"mlp_head\.1", "head.output.linear"))
_TOKENPOSE = _distilpose("tokenpose", (r"mlp_head", "head.output.layers"))
_TOKENS: Settings = {"source": "DistilPose, CVPR 2023", "counted": "head.keypoint_tokens", "axis": 1}
DISTILPOSE = {
    "distilpose-s": Published({"backbone": "stemnet", "head": "token", "codec": STUDENT_CODEC}, _STUDENT, **_TOKENS),
    "distilpose-l": Published(
        {"backbone": {"name": "hrnet", "stages": 3}, "head": "token", "codec": STUDENT_CODEC}, _STUDENT, **_TOKENS
    ),
    "tokenpose-hr48": Published({"backbone": "hrnet", "head": "token", "codec": TEACHER_CODEC}, _TOKENPOSE, **_TOKENS),
}

SMALL: Size = (256, 192)
LARGE: Size = (384, 288)
_SIZES = {SMALL: "", LARGE: "-384"}
"""the two sizes that mmpose publishes, and how names end that have them"""
_HEAD = r"(?:keypoint_)?head"  # `keypoint_head` until mmpose 1.0
_RESNET = ((r"backbone", r"backbone.network"),)
_OWN_BACKBONE = ((r"backbone", r"backbone"),)
_MAPS = ((rf"{_HEAD}\.deconv_layers", r"head.layers"), (rf"{_HEAD}\.final_layer", r"head.maps"))
_NUMBERS = ((rf"{_HEAD}\.fc", r"head.coordinates"),)
_SIMCC = (
    (rf"{_HEAD}\.deconv_head\.deconv_layers", r"head.layers"),
    (rf"{_HEAD}\.deconv_head\.final_layer", r"head.maps"),
    (rf"{_HEAD}\.mlp_head_(x|y)", r"head.\1"),
)
_RTMPOSE = (
    (rf"{_HEAD}\.final_layer", r"head.maps"),
    (rf"{_HEAD}\.mlp\.0\.g", r"head.embed.0.scale"),
    (rf"{_HEAD}\.mlp\.1", r"head.embed.1"),
    (rf"{_HEAD}\.gau\.ln\.g", r"head.unit.norm.scale"),
    (rf"{_HEAD}\.gau\.uv", r"head.unit.expand"),
    (rf"{_HEAD}\.gau\.o", r"head.unit.merge"),
    (rf"{_HEAD}\.gau\.gamma", r"head.unit.scale"),
    (rf"{_HEAD}\.gau\.beta", r"head.unit.shift"),
    (rf"{_HEAD}\.gau\.res_scale\.scale", r"head.unit.kept"),
    (rf"{_HEAD}\.cls_(x|y)", r"head.\1"),
)
_DEPTHS = (50, 101, 152)
_RESNET_KINDS: tuple[Kind, ...] = ("plain", "dark")
_HRNET_KINDS: tuple[Kind, ...] = ("plain", "dark", "udp")
_SPREAD = {SMALL: 2.0, LARGE: 3.0}
"""of the Gaussians of heatmaps, map px"""
_BIN_SPREAD = {SMALL: (4.9, 5.66), LARGE: (6.0, 6.93)}
"""of RTMPose's Gaussians in bins, for (x, y)"""
_BETA = 10.0


def _heatmaps(kind: Kind, size: Size) -> Settings:
    """The codec of mmpose's top-down heatmaps."""
    codec = {"name": "heatmap", "stride": 4, "sigma": _SPREAD[size]}
    if kind == "udp":
        return {**codec, "grid": "udp", "flip_shift": "none"}
    if kind == "dark":
        return {**codec, "flip_shift": "whole"}
    return {**codec, "target": "plain", "decoder": "quarter", "flip_shift": "whole"}


def _simple_baseline(depth: int, kind: Kind, size: Size) -> Published:
    model = {"size": size, "backbone": f"resnet{depth}", "head": "deconv", "codec": _heatmaps(kind, size)}
    return Published(model, (*_RESNET, *_MAPS), "mmpose", counted="head.maps.weight")


def _hrnet(width: int, kind: Kind, size: Size) -> Published:
    backbone = {"name": "hrnet", "width": width}
    model = {"size": size, "backbone": backbone, "head": "conv_maps", "codec": _heatmaps(kind, size)}
    return Published(model, (*_OWN_BACKBONE, *_MAPS), "mmpose", counted="head.maps.weight")


def _regression(depth: int, codec: str | Settings, numbers: int, size: Size = SMALL) -> Published:
    """DeepPose with two numbers a keypoint, RLE with four."""
    model = {"size": size, "backbone": f"resnet{depth}", "head": "gap_fc", "codec": codec}
    return Published(model, (*_RESNET, *_NUMBERS), "mmpose", counted="head.coordinates.bias", numbers=numbers)


def _bins(spread: tuple[float, float]) -> Settings:
    return {"name": "simcc", "sigma": spread, "beta": _BETA, "flip_exact": False}


def _simcc(size: Size) -> Published:
    """It was trained on Gaussians of 6 bins and of sum 1, without a beta.

    Logits over beta have the same probabilities under that beta, where a Gaussian of height 1 and 18.1 bins has that
    peak.
    """
    head = {"name": "simcc", "deconv": (256, 256, 256), "bias": True}
    model = {"size": size, "backbone": "resnet50", "head": head, "codec": _bins((18.1, 18.1))}
    factors = {"head.x": 1 / _BETA, "head.y": 1 / _BETA}
    return Published(model, (*_RESNET, *_SIMCC), "mmpose", counted="head.maps.weight", factors=factors)


def _rtmpose(variant: str, size: Size) -> Published:
    backbone = {"name": "cspnext", "variant": variant}
    model = {"size": size, "backbone": backbone, "head": "gau", "codec": _bins(_BIN_SPREAD[size])}
    return Published(model, (*_OWN_BACKBONE, *_RTMPOSE), "mmpose", counted="head.maps.weight")


_MMPOSE = {
    **{
        f"simplebaseline-r{depth}{'' if kind == 'plain' else f'-{kind}'}{ending}": _simple_baseline(depth, kind, size)
        for kind in _RESNET_KINDS
        for size, ending in _SIZES.items()
        for depth in _DEPTHS
    },
    **{
        f"hrnet-w{width}{'' if kind == 'plain' else f'-{kind}'}{ending}": _hrnet(width, kind, size)
        for kind in _HRNET_KINDS
        for size, ending in _SIZES.items()
        for width in (32, 48)
    },
    **{f"deeppose-r{depth}": _regression(depth, {"name": "coords", "loss": "smooth_l1"}, 2) for depth in _DEPTHS},
    **{f"rle-r{depth}": _regression(depth, "rle", 4) for depth in _DEPTHS},
    "rle-r152-384": _regression(152, "rle", 4, LARGE),
    **{f"simcc-r50{ending}": _simcc(size) for size, ending in _SIZES.items()},
    **{f"rtmpose-{variant}": _rtmpose(variant, SMALL) for variant in ("t", "s", "m", "l")},
    **{f"rtmpose-{variant}-384": _rtmpose(variant, LARGE) for variant in ("m", "l")},
}
PUBLISHED: dict[str, Published] = {**DISTILPOSE, **_MMPOSE}
"""by the name that `posestill convert --from` takes; without a size at the end the input is 256x192"""
