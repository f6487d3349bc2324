"""Networks that torch executes, asked like a file: normalised crops in, raw predictions out.

So `teacher check` also sees whether a model folder, or a network of transformers, is read as it wants to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posestill.deploy.graph import outputs_of
from posestill.deploy.sidecar import FileFacts, layout_of
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError, validate
from posestill.teachers.base import ModelTeacher, Teacher
from posestill.teachers.layouts import LayoutConfig
from posestill.teachers.plain import PlainLayout
from posestill.teachers.runtime import Port, RuntimeNetwork
from posestill.teachers.transformers import TransformersTeacher
from posestill.types import Prediction, Size

INPUT = "image"
_FLOAT = np.dtype("float32")


class TorchNetwork(RuntimeNetwork):
    """A network from normalised crops (B, 3, H, W) to what `outputs_of` makes of its predictions."""

    def __init__(self, path: Path, size: Size, predict: Callable[[Tensor], Prediction]) -> None:
        self.path, self.predict = path, predict
        self.inputs = (Port(INPUT, (None, 3, *size), _FLOAT),)
        found = self._run({INPUT: np.zeros((1, 3, *size), dtype=_FLOAT)})
        self.outputs = tuple(Port(name, (None, *value.shape[1:]), _FLOAT) for name, value in found.items())

    @torch.no_grad()
    def _run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = outputs_of(self.predict(torch.from_numpy(tensors[INPUT])))
        return {name: value.numpy() for name, value in found.items()}


@dataclass(frozen=True)
class OwnNetwork:
    """A teacher's network, and how it is declared to be read."""

    network: RuntimeNetwork
    layout: PlainLayout


def own_network(teacher: Teacher, path: Path) -> OwnNetwork:
    """The network of a teacher that torch executes; a `UserError` for another."""
    if isinstance(teacher, ModelTeacher):
        return _of_model(teacher.model, path)
    if not isinstance(teacher, TransformersTeacher):
        raise UserError(f"teacher check: {path} is a {type(teacher).__name__}, which is asked by its own file")
    network = TorchNetwork(path, teacher.input_size, lambda image: teacher.head(teacher.features_of(image)))
    config = LayoutConfig(
        size=teacher.input_size,
        padding=teacher.padding,
        mean=_moments(teacher.mean),
        std=_moments(teacher.std),
        keypoints=teacher.skeleton.names,
        output={"kind": "maps", "tensor": "maps"},
        codec=teacher.codec_config,
    )
    return OwnNetwork(network, PlainLayout("of transformers", config, network))


def _of_model(model: PoseModel, path: Path) -> OwnNetwork:
    def predict(image: Tensor) -> Prediction:
        prediction = model.read(model.neck(model.backbone(image))).prediction
        assert prediction is not None
        return prediction

    network = TorchNetwork(path, model.config.size, predict)
    outputs = {port.name: [int(size or 0) for size in port.shape[1:]] for port in network.outputs}
    facts = FileFacts("torch", "fp32", "outside", "nchw", INPUT, None, outputs)
    declared = {**layout_of(model, facts), "mean": _moments(model.mean), "std": _moments(model.std)}
    config = validate(LayoutConfig, declared, where=f"{path}: layout")
    return OwnNetwork(network, PlainLayout("of the model", config, network))


def _moments(value: Tensor) -> tuple[float, float, float]:
    """A mean or a spread of colours on the scale of 0 to 255."""
    one, two, three = (255 * value.flatten().double()).tolist()
    return one, two, three
