"""Teachers that are files: a published network that a runtime executes, with the layout that says how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posestill.schema import UserError
from posestill.teachers.base import Teacher, TeacherConfig, crops_of
from posestill.teachers.blazepose import BlazePose
from posestill.teachers.layouts import LAYOUTS, Layout, LayoutConfig, PlainLayout, named_layout
from posestill.teachers.one_stage import ONE_STAGE
from posestill.teachers.recognise import recognised
from posestill.teachers.runtime import RuntimeNetwork, file_hash, open_network
from posestill.types import FeatureShape, Need, PoseBatch, PoseOutput


class FileConfig(TeacherConfig):
    """A network in a file (.onnx, .tflite, OpenVINO's .xml): `teacher: {name: file, path: movenet-thunder.onnx}`."""

    path: Path
    """The file. ONNX Runtime executes .onnx; OpenVINO executes .tflite and .xml."""
    layout: str | LayoutConfig | None = None
    """How the network wants its crops and what its outputs mean: a name that `posestill list layouts` shows, the path
    of a YAML file of your own, or the keys of such a file. None recognises known networks by inputs and outputs."""
    features: str | None = None
    """An inner tensor of an .onnx file, which methods that need a teacher's features learn from. None: it has none."""
    licence: str | None = None
    """The licence of the file, which is kept with the student. A non-commercial one is warned of."""

    def open(self) -> FileTeacher:
        """The teacher; a `UserError` says what is wrong with the file, the layout or the tensor."""
        network = open_network(self.path, also=() if self.features is None else (self.features,))
        layout = open_layout(network, self.layout)
        return FileTeacher(network, layout, features=self.features, licence=self.licence)


def open_layout(network: RuntimeNetwork, wanted: str | LayoutConfig | None = None) -> Layout:
    """The layout of a network: the one wanted, or the one that its inputs and outputs tell."""
    if isinstance(wanted, LayoutConfig):
        return PlainLayout("your own", wanted, network)
    name = recognised(network) if wanted is None else wanted
    if name == "blazepose":
        return BlazePose(network)
    if name == "blazepose-upright":
        return BlazePose(network, turns=False)
    if name in ONE_STAGE:
        return ONE_STAGE[name](network)
    return PlainLayout(name, named_layout(name), network)


def layout_names() -> list[str]:
    """Every layout that has a name."""
    return sorted([*LAYOUTS, "blazepose", "blazepose-upright", *ONE_STAGE])


class FileTeacher(Teacher):
    """A file's network as a teacher. It lends no head: a runtime has no gradients."""

    def __init__(
        self, network: RuntimeNetwork, layout: Layout, *, features: str | None = None, licence: str | None = None
    ) -> None:
        self.network, self.layout, self.feature_name = network, layout, features
        self.codec, self.skeleton, self.input_size = layout.codec, layout.skeleton, layout.size
        self.padding = layout.padding
        own: set[Need] = {"prediction"}
        if features is not None:
            self.feature_shapes = (self._shape_of(features),)
            own.add("features")
        self.provides = frozenset(own)
        self.lineage: dict[str, Any] = {
            "file": network.path.name,
            "sha256": file_hash(network.path),
            "layout": layout.name,
            "licence": licence,
        }

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """The prediction and, where an inner tensor was named, that feature map."""
        crops = crops_of(batch)  # (B, 3, H, W)
        if crops.dtype != torch.uint8:
            crops = (crops * 255).round().clamp(0, 255).to(torch.uint8)
        prediction, found = self.layout.ask(self.network, crops.permute(0, 2, 3, 1).contiguous().cpu().numpy())
        features: tuple[Tensor, ...] = ()
        if self.feature_name is not None:
            features = (torch.from_numpy(found[self.feature_name]).float().to(crops.device),)
        return PoseOutput(prediction=_moved(prediction, crops.device), features=features)

    def _shape_of(self, name: str) -> FeatureShape:
        """(C, h, w) of an inner tensor, from one blank crop."""
        blank = np.zeros((1, *self.layout.size, 3), dtype=np.uint8)
        _, found = self.layout.ask(self.network, blank)
        shape = found[name].shape
        if len(shape) != 4:
            raise UserError(
                f"teacher.features: {name} is {shape}, and a feature map is (batch, channels, rows, columns)"
            )
        return int(shape[1]), int(shape[2]), int(shape[3])


def _moved(prediction: Any, device: torch.device) -> Any:
    fields = {name: value.to(device) for name, value in vars(prediction).items() if value is not None}
    return type(prediction)(**fields)
