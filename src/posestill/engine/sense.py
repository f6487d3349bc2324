"""What would make a run's figures meaningless: settled, refused or said before the run trains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from posestill.data.source import PoseSource, count_people, notes_of
from posestill.engine.config import RunConfig
from posestill.engine.log import RunLog
from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.types import FeatureShape

_LARGE = 1024
"""a number in the settings of a model from which on its size is worked out before it is built"""
_LARGEST = 10**8
_COPIES = 4
"""of the weights, that training holds: themselves, their gradients and what Adam keeps"""


def settled(config: RunConfig, skeleton: Skeleton, log: RunLog) -> RunConfig:
    """The run without mirroring where nothing tells which keypoints are mirror partners; it says so."""
    mirrors = config.data.augment.flip > 0 or config.evaluate.flip_test
    if skeleton.partners_known or not mirrors:
        return config
    log.say(
        "Nothing tells which keypoints are mirror partners, and mirrored persons would be labelled wrongly: "
        "data.augment.flip and evaluate.flip_test are switched off. Sides in the names (left_, right_) or flip_pairs "
        "(flip_idx) tell them; flip_pairs: [] says that there are none."
    )
    data = config.data.model_copy(update={"augment": config.data.augment.model_copy(update={"flip": 0.0})})
    evaluate = config.evaluate.model_copy(update={"flip_test": False})
    return config.model_copy(update={"data": data, "evaluate": evaluate})


def tell_sources(config: RunConfig, train: PoseSource, val: PoseSource, log: RunLog) -> None:
    """Count everybody, and say what is odd about the labels as a whole."""
    alike = config.data.train == config.data.val
    for name, source in (("data.train and data.val", train),) if alike else (("data.train", train), ("data.val", val)):
        log.say(f"{name}: {count_people(source.people)}")
        for note in notes_of(source):
            log.say(f"  {note}")


def told_of(source: PoseSource) -> dict[str, Any]:
    """What a run's figures say of the persons that it was trained on."""
    return {"persons": vars(count_people(source.people)), "notes": notes_of(source)}


def refuse_beyond_memory(config: RunConfig, skeleton: Skeleton, device: torch.device) -> None:
    """A `UserError` where the batch, the crops or the network of a run cannot fit into the memory of its device."""
    most = memory_of(device)
    height, width = config.model.size
    crops = 4.0 * 3 * height * width * config.train.batch_size  # float32, three colours
    if crops > most:
        raise UserError(
            f"train.batch_size: {config.train.batch_size} crops of {height} x {width} px take {_in_words(crops)}, and "
            f"there are {_in_words(most)} of memory: lower train.batch_size or model.size"
        )
    if max(_numbers_in(config.model.model_dump(mode="json"))) < _LARGE:
        return
    largest = max(_numbers_in(config.model.model_dump(mode="json")))
    if largest > _LARGEST:
        raise UserError(f"model: {largest:.3g} among its settings is more than any network has: correct it")
    shape = _outline(config.model, skeleton)
    weights = 4.0 * _COPIES * sum(each.numel() for each in shape.parameters())
    if weights > most:
        raise UserError(
            f"model: its weights take {_in_words(weights)} while they are trained, and there are {_in_words(most)} of "
            "memory: take fewer channels or a smaller model.size"
        )
    if isinstance(shape, PoseModel):
        refuse_large_features(config, shape.feature_shapes, device)


def refuse_large_features(config: RunConfig, shapes: tuple[FeatureShape, ...], device: torch.device) -> None:
    """A `UserError` where the feature maps of one batch and their gradients cannot fit into the memory."""
    maps = 2 * 4.0 * config.train.batch_size * sum(channels * height * width for channels, height, width in shapes)
    if maps > memory_of(device):
        raise UserError(
            f"train.batch_size: the feature maps of {config.train.batch_size} persons take {_in_words(maps)}, and "
            f"there are {_in_words(memory_of(device))} of memory: lower train.batch_size, model.size or the channels"
        )


def memory_of(device: torch.device) -> float:
    """The bytes of memory that a device has, or that this process may have of the machine's."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        machine = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # a system that does not tell
        return 64.0 * 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(machine, float(allowed)) if allowed.isdigit() else machine


def _outline(config: ModelConfig, skeleton: Skeleton) -> nn.Module:
    """The model without memory for its weights; its backbone or nothing where the rest cannot be built like that."""
    builds = (
        lambda: PoseModel(config, skeleton, pretrained=False),
        lambda: config.backbone.build(config.size, pretrained=False),
    )
    for build in builds:
        with suppress(Exception), torch.device("meta"), torch.random.fork_rng(devices=[]):
            return build()
    return nn.Identity()  # what is wrong with the settings is said where the model itself is built


def _numbers_in(value: Any) -> Iterator[float]:
    yield 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _numbers_in(each)


def _in_words(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count < 2**50 else f"{count / 2**30:.3g} GiB"
