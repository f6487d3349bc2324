"""Teachers that are files: a published network that a runtime executes, with the layout that says how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor

from posestill.models.threads import ThreadTrial
from posestill.schema import UserError, did_you_mean
from posestill.teachers.base import Teacher, TeacherConfig, crops_of
from posestill.teachers.blazepose import BlazePose
from posestill.teachers.layouts import LAYOUTS, LayoutConfig, layout_beside, named_layout
from posestill.teachers.one_stage import ONE_STAGE
from posestill.teachers.plain import Layout, PlainLayout
from posestill.teachers.recognise import recognised
from posestill.teachers.runtime import RuntimeNetwork, file_hash, open_network
from posestill.teachers.threads import CROPS, fastest
from posestill.types import FeatureShape, Need, PoseBatch, PoseOutput, Prediction

ABOUT_LAYOUTS = {
    "movenet": "MoveNet SinglePose, Lightning or Thunder: 17 keypoints as coordinates.",
    "movenet-maps": "MoveNet SinglePose, where the file gives its heatmaps, too.",
    "movenet-multipose": "MoveNet MultiPose: up to six people in a picture, also a detector.",
    "blazepose": "BlazePose (MediaPipe Pose): 33 keypoints, from crops turned so that the person stands upright.",
    "blazepose-upright": "BlazePose asked once, about the upright crop: twice as fast, and less exact.",
    "rtmpose": "RTMPose and DWPose with 17, 26 or 133 keypoints: bins for crops of 256x192.",
    "rtmpose-384": "RTMPose and DWPose: bins for crops of 384x288.",
    "rtmw": "RTMW, 133 keypoints: bins that were trained without a beta, for crops of 256x192.",
    "rtmw-384": "RTMW, 133 keypoints: bins that were trained without a beta, for crops of 384x288.",
    "simcc": "SimCC with a ResNet, as mmpose trains it: bins of normalised Gaussians.",
    "hrnet": "HRNet, and whatever mmpose trains on top-down heatmaps without UDP.",
    "simple-baselines": "Simple Baselines by its authors' code, which was fed BGR.",
    "vitpose": "ViTPose: heatmaps on the UDP grid.",
    "deeppose": "DeepPose as mmpose trains it: coordinates.",
    "rtmo": "RTMO: everybody in a picture.",
    "yolo-pose": "YOLOv8, YOLO11 and YOLO26 pose: everybody in a picture.",
    "rf-detr": "RF-DETR with keypoints: everybody in a picture.",
}
"""Every layout that has a name, in a sentence."""


class FileConfig(TeacherConfig):
    """A network in a file (.onnx, .tflite, .xml) is the teacher: `teacher: movenet-thunder.onnx`."""

    path: Path
    """The file. ONNX Runtime executes .onnx; OpenVINO executes .tflite and .xml."""
    layout: str | LayoutConfig | None = None
    """How the network wants its crops and what its outputs mean: a name that `posestill list layouts` shows, the path
    of a YAML file of your own, or the keys of such a file. None recognises known networks by inputs and outputs."""
    features: str | None = None
    """An inner tensor of an .onnx file, which methods that need a teacher's features learn from. None: it has none."""
    licence: str | None = None
    """The licence of the file, which is kept with the student. A non-commercial one is warned of."""

    @field_validator("layout", mode="before")
    @classmethod
    def _read_layout(cls, given: Any) -> Any:
        # Read here, a wrong key in the mapping is named by its own path and not once for each type that it may have.
        if isinstance(given, Mapping):
            return LayoutConfig.model_validate(given)
        if given is not None and not isinstance(given, str | LayoutConfig):
            raise ValueError(f"a name, the path of a YAML file, or a mapping of {', '.join(LayoutConfig.model_fields)}")
        return given

    def open(self) -> FileTeacher:
        """The teacher; a `UserError` says what is wrong with the file, the layout or the tensor."""
        network = open_network(self.path, also=() if self.features is None else (self.features,))
        layout = open_layout(network, self.layout)
        return FileTeacher(network, layout, features=self.features, licence=self.licence)


def open_layout(network: RuntimeNetwork, wanted: str | LayoutConfig | None = None) -> Layout:
    """The layout of a network: the one wanted, the one that stands beside a file of ours, or what the file tells."""
    if wanted is None and (beside := layout_beside(network.path)) is not None:
        return PlainLayout("exported", beside, network)
    if isinstance(wanted, LayoutConfig):
        return PlainLayout("your own", wanted, network)
    name = recognised(network) if wanted is None else wanted
    if name == "blazepose":
        return BlazePose(network)
    if name == "blazepose-upright":
        return BlazePose(network, turns=False)
    if name in ONE_STAGE:
        return ONE_STAGE[name](network)
    if name not in LAYOUTS and not name.endswith((".yaml", ".yml")):
        raise UserError(
            f"teacher.layout: no layout '{name}'{did_you_mean(name, ABOUT_LAYOUTS)} (known: "
            f"{', '.join(ABOUT_LAYOUTS)}; a file of your own ends in .yaml)"
        )
    return PlainLayout(name, named_layout(name), network)


class FileTeacher(Teacher):
    """A file's network as a teacher. It lends no head: a runtime has no gradients."""

    has_own_threads = True

    def __init__(
        self, network: RuntimeNetwork, layout: Layout, *, features: str | None = None, licence: str | None = None
    ) -> None:
        """`features` names an inner tensor that `network` was opened with."""
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
            "layout": _told(layout),
            "licence": licence,
        }
        if features is not None:  # answers that are kept for one tensor are no answers of another
            self.lineage["features"] = features

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """The prediction and, where an inner tensor was named, that feature map."""
        crops = crops_of(batch)  # (B, 3, H, W)
        if crops.dtype != torch.uint8:
            crops = (crops * 255).round().clamp(0, 255).to(torch.uint8)
        found = self.layout.look(self.network, crops.permute(0, 2, 3, 1).contiguous().cpu().numpy())
        features: tuple[Tensor, ...] = ()
        if self.feature_name is not None:
            features = (torch.from_numpy(found[self.feature_name]).float().to(crops.device),)
        return PoseOutput(prediction=_moved(self.layout.prediction(found), crops.device), features=features)

    def choose_threads(self, threads: int | None = None) -> ThreadTrial | None:
        """Take so many threads or, None, those with which it answers fastest about some black crops."""
        if threads is not None:
            self.network = self.network.with_threads(threads)
            return None
        crops = np.zeros((CROPS, *self.layout.size, 3), dtype=np.uint8)
        found = fastest(self.network, lambda network: self.layout.look(network, crops))
        self.network = found.network
        return found.trial

    def _shape_of(self, name: str) -> FeatureShape:
        """(C, h, w) of an inner tensor, from one blank crop."""
        if not self.layout.keeps_crop:
            raise UserError(
                f"teacher.features: the layout {self.layout.name} shows the network another part of the picture than "
                "the crop, on which its features do not lie: leave `features` out"
            )
        shape = self.layout.look(self.network, np.zeros((1, *self.layout.size, 3), dtype=np.uint8))[name].shape
        if len(shape) != 4:
            raise UserError(
                f"teacher.features: {name} is {shape}, and a feature map is (batch, channels, rows, columns)"
            )
        return int(shape[1]), int(shape[2]), int(shape[3])


def _told(layout: Layout) -> Any:
    """A layout as a student's lineage has it: its name, or all that it says where it has none in the package."""
    if isinstance(layout, PlainLayout) and layout.name not in LAYOUTS:
        return layout.config.model_dump(mode="json", exclude_defaults=True)
    return layout.name


def _moved(prediction: Prediction, device: torch.device) -> Prediction:
    told: dict[str, Any] = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
    return type(prediction)(**{name: value.to(device) for name, value in told.items() if value is not None})
