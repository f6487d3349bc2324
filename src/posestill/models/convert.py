"""Published checkpoints as model folders: the same weights under our names.

DistilPose's release (CVPR 2023) has three: students S and L, and their teacher, a
TokenPose head on HRNet-W48.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.schema import UserError, did_you_mean, validate
from posestill.skeletons import COCO_17

STUDENT_CODEC = {
    "name": "coords", "loss": "smooth_l1", "bounded": True, "score": True, "scale": True, "mirror_shift": False,
}  # fmt: skip
TEACHER_CODEC = {"name": "heatmap", "stride": 4, "sigma": 2.0, "flip_shift": "whole"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "distilpose-s": {"backbone": "stemnet", "head": "token", "codec": STUDENT_CODEC},
    "distilpose-l": {"backbone": {"name": "hrnet", "stages": 3}, "head": "token", "codec": STUDENT_CODEC},
    "tokenpose-hr48": {"backbone": "hrnet", "head": "token", "codec": TEACHER_CODEC},
}
"""What each published checkpoint is a model of, at 256x192 with the 17 keypoints of COCO."""

_HEAD_NAMES = (
    (r"keypoint_token", "keypoint_tokens"),
    (r"pos_embedding", "position"),
    (r"patch_to_embedding\.(\w+)", r"embed.\1"),
    (r"transformer\.layers\.(\d+)\.0\.fn\.norm\.(\w+)", r"layers.\1.attention_norm.\2"),
    (r"transformer\.layers\.(\d+)\.0\.fn\.fn\.to_qkv\.weight", r"layers.\1.qkv.weight"),
    (r"transformer\.layers\.(\d+)\.0\.fn\.fn\.to_out\.0\.(\w+)", r"layers.\1.merge.\2"),
    (r"transformer\.layers\.(\d+)\.1\.fn\.norm\.(\w+)", r"layers.\1.mlp_norm.\2"),
    (r"transformer\.layers\.(\d+)\.1\.fn\.fn\.net\.0\.(\w+)", r"layers.\1.mlp.0.\2"),
    (r"transformer\.layers\.(\d+)\.1\.fn\.fn\.net\.3\.(\w+)", r"layers.\1.mlp.2.\2"),
)
_COORDS_OUTPUT = ((r"mlp_head\.0\.(\w+)", r"output.norm.\1"), (r"mlp_head\.1\.(\w+)", r"output.linear.\1"))
_MAPS_OUTPUT = ((r"mlp_head\.(\d)\.(\w+)", r"output.layers.\1.\2"),)


@dataclass(frozen=True)
class Converted:
    """A published checkpoint as a model, and what of the file it does not hold."""

    model: PoseModel
    unused: tuple[str, ...]
    """keys of the file that are no part of the published layout"""


def convert_checkpoint(path: Path | str, layout: str) -> Converted:
    """The model in a published checkpoint: one of `LAYOUTS`. Fails when keys are missing or have other shapes."""
    if layout not in LAYOUTS:
        raise UserError(f"--from {layout}: no such layout{did_you_mean(layout, LAYOUTS)} (known: {', '.join(LAYOUTS)})")
    path = Path(path)
    published = read_checkpoint(path)
    model = PoseModel(validate(ModelConfig, LAYOUTS[layout], where=layout), COCO_17)
    own = model.state_dict()
    named = {key: our_name(key, own) for key in published}
    weights = {name: published[key] for key, name in named.items() if name is not None}
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [
        f"{key} is {tuple(published[key].shape)}, wanted {tuple(own[name].shape)}"
        for key, name in named.items()
        if name is not None and published[key].shape != own[name].shape
    ]
    unused = tuple(key for key, name in named.items() if name is None)
    if problems:
        lines = [*problems[:10], *([f"... and {len(problems) - 10} more"] if len(problems) > 10 else [])]
        if unused:
            lines.append(f"not used: {', '.join(unused[:5])}{', ...' if len(unused) > 5 else ''}")
        raise UserError(f"{path} is no {layout}: {len(problems)} keys do not fit\n  " + "\n  ".join(lines))
    model.load_state_dict(weights)
    model.lineage = {
        "converted_from": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "published_as": f"{layout} of DistilPose, CVPR 2023",
        "licence": "that of the file's publisher",
    }
    return Converted(model=model.eval(), unused=unused)


def our_name(key: str, own: Mapping[str, object]) -> str | None:
    """What a published key is called among a model's `own` keys, or None for a key that is no part of it."""
    if key.startswith("backbone."):
        return key if key in own else None
    is_teacher = "head.output.layers.0.weight" in own
    prefix = "keypoint_head.tokenpose." if is_teacher else "keypoint_head.tokenhead."
    if not key.startswith(prefix):
        return None
    for pattern, replacement in (*_HEAD_NAMES, *(_MAPS_OUTPUT if is_teacher else _COORDS_OUTPUT)):
        if match := re.fullmatch(pattern, key[len(prefix) :]):
            name = f"head.{match.expand(replacement)}"
            return name if name in own else None
    return None


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a torch checkpoint, its `state_dict` where there is one; only weights are read, no code is run."""
    if not Path(path).is_file():
        raise UserError(f"no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as weights ({str(error).splitlines()[0]}): if the file is whole, save its "
            "state_dict alone with the software that wrote it"
        ) from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no state_dict: a checkpoint is a mapping from names to tensors")
    return {key.removeprefix("module."): value for key, value in content.items()}
