"""Published checkpoints as model folders: the same weights under our names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.models.published import PUBLISHED, Published
from posestill.schema import UserError, did_you_mean, validate
from posestill.skeletons import COCO_17, COCO_WHOLEBODY, Skeleton

_NESTED = ("state_dict", "ema_state_dict", "state_dict_ema", "model_ema", "model", "ema")
"""where checkpoints keep their weights. mmengine puts averaged ones, where there are any, into `state_dict`"""
_WRAPPERS = re.compile(r"^(?:(?:module|model|ema_model|ema)\.)+")
_ONLY_FOR_TRAINING = re.compile(
    r"ema_.*"  # mmcv's copies of what is averaged, dots as underscores: the weights themselves are the averaged ones
    r"|steps"  # mmengine's count of averagings
    r"|data_preprocessor\..*"
    r"|(?:keypoint_)?head\.loss(?:_module)?\..*"  # RLE's flow
)


@dataclass(frozen=True)
class Converted:
    """A published checkpoint as a model, and what of the file it does not hold."""

    model: PoseModel
    unused: tuple[str, ...]
    """keys of the file that are no part of the published layout"""


def known_skeleton(count: int) -> Skeleton:
    """The skeleton of COCO or of COCO-WholeBody, whichever has so many keypoints; else a `UserError`."""
    found = next((each for each in (COCO_17, COCO_WHOLEBODY) if len(each) == count), None)
    if found is None:
        raise UserError(f"no known skeleton has {count} keypoints")
    return found


def convert_checkpoint(
    path: Path | str,
    layout: str,
    *,
    keypoints: Callable[[int], Skeleton] = known_skeleton,
    also: Sequence[str] = (),
) -> Converted:
    """The model in a published checkpoint of one of the kinds in `PUBLISHED`.

    `keypoints` says which skeleton has as many keypoints as the file, `also` names layouts that others read, for the
    message about an unknown one. A `UserError` names tensors that are missing or of another shape.
    """
    if layout not in PUBLISHED:
        known = [*PUBLISHED, *also]
        raise UserError(f"--from {layout}: no such layout{did_you_mean(layout, known)} (known: {', '.join(known)})")
    path, published = Path(path), PUBLISHED[layout]
    given = read_checkpoint(path)
    named = {key: published.our_name(key) for key in given}
    weights = {name: given[key] for key, name in named.items() if name is not None}
    model = PoseModel(
        validate(ModelConfig, published.model, where=layout), keypoints(_count(weights, published, path, layout))
    )
    own = model.state_dict()
    unused = tuple(key for key, name in named.items() if name not in own)
    shapes = {name: (key, given[key].shape) for key, name in named.items() if name in own}
    problems = [f"missing {name}" for name in own if name not in shapes]
    problems += [
        f"{key} is {tuple(shape)}, wanted {tuple(own[name].shape)}"
        for name, (key, shape) in shapes.items()
        if shape != own[name].shape
    ]
    if problems:
        raise UserError(_misfit(path, layout, problems, unused))
    model.load_state_dict({name: _scaled(name, weights[name], published) for name in own})
    model.lineage = {
        "converted_from": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "published_as": f"{layout} of {published.source}",
        "licence": "that of the file's publisher",
    }
    return Converted(model=model.eval(), unused=unused)


def read_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a torch checkpoint, wherever it keeps them, without the names of what wrapped the model.

    Averaged weights are taken where there are any, and what only training needs is left out. Only weights are read; no
    code is run.
    """
    if not Path(path).is_file():
        raise UserError(f"no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch, pickle and zipfile say of a broken file
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{path} cannot be read as weights ({said}): if the file is whole, save its "
            "state_dict alone with the software that wrote it"
        ) from None
    if isinstance(content, dict):
        content = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)
    named = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if not named or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no state_dict: a checkpoint is a mapping from names to tensors")
    unwrapped: dict[str, Any] = {_WRAPPERS.sub("", key): value for key, value in content.items()}
    return {key: value for key, value in unwrapped.items() if not _ONLY_FOR_TRAINING.fullmatch(key)}


def _count(weights: Mapping[str, Tensor], published: Published, path: Path, layout: str) -> int:
    """How many keypoints a checkpoint knows."""
    tensor = weights.get(published.counted)
    if tensor is None or tensor.ndim <= published.axis or tensor.shape[published.axis] % published.numbers:
        found = "is not there" if tensor is None else f"is {tuple(tensor.shape)}"
        raise UserError(
            f"{path} is no {layout}: what tells the number of its keypoints ({published.counted} here) {found}"
        )
    return tensor.shape[published.axis] // published.numbers


def _scaled(name: str, value: Tensor, published: Published) -> Tensor:
    return value * published.factors.get(name.rpartition(".")[0], 1) if published.factors else value


def _misfit(path: Path, layout: str, problems: list[str], unused: tuple[str, ...]) -> str:
    lines = [*problems[:10], *([f"... and {len(problems) - 10} more"] if len(problems) > 10 else [])]
    if unused:
        lines.append(f"not used: {', '.join(unused[:5])}{', ...' if len(unused) > 5 else ''}")
    return f"{path} is no {layout}: {len(problems)} keys do not fit\n  " + "\n  ".join(lines)
