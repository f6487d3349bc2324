"""What a teacher is: a guest of the distiller. It is no sub-module, never trains and is never copied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from posestill.codecs.base import Codec
from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.schema import Config, UserError
from posestill.skeletons import Skeleton
from posestill.types import FeatureShape, Need, PoseBatch, PoseOutput, Prediction, Size


class Teacher:
    """Answers a batch without gradients. A plain class: not in parameters(), not in state_dict()."""

    codec: Codec
    skeleton: Skeleton
    input_size: Size
    provides: frozenset[Need]
    lineage: dict[str, Any]
    feature_shapes: tuple[FeatureShape, ...] = ()
    """(C, h, w) of each feature map, where it provides features; its head reads the last one"""
    token_shape: tuple[int, ...] | None = None
    """(P, D) of its visual tokens, where it provides tokens"""

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """What the teacher sees in `teacher_image`, or in `image` where the sizes are equal."""
        raise NotImplementedError

    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        """(B, C_i, h_i, w_i) of each stage, without the work of its head where that can be saved."""
        return self(batch).features

    def head(self, features: tuple[Tensor, ...]) -> Prediction:
        """The teacher's head on somebody's features, differentiable in them."""
        raise UserError(f"{type(self).__name__} has no head to lend")

    def to(self, device: torch.device) -> Teacher:
        """The teacher itself, moved."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self  # an EMA of the distiller must not double the teacher


class TeacherConfig(Config):
    """Settings of a teacher."""

    cache: bool = False
    """ask the teacher once for every person, upright and flip-tested, and replay its keypoints under the augmentation:
    a step then costs what it costs without a teacher, and only its keypoints are to be had"""

    def build(self) -> Teacher:
        """The teacher, in eval mode. Fails with a message that names the file."""
        raise NotImplementedError


class ModelTeacher(Teacher):
    """A pose model of ours as a teacher, its batch norms folded: it never trains."""

    def __init__(self, model: PoseModel) -> None:
        self.model = folded(model)
        own: set[Need] = {"prediction", "features", "head"}
        self.provides = frozenset(own | {"tokens"} if model.head.gives_tokens else own)
        self.codec = model.codec
        self.skeleton = model.skeleton
        self.input_size = model.config.size
        self.lineage = model.lineage
        self.feature_shapes = model.feature_shapes
        self.token_shape = model.token_shape

    @torch.no_grad()
    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """Prediction, features and, from a token head, tokens."""
        output: PoseOutput = self.model(_seen(batch))
        return output

    @torch.no_grad()
    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        """Of the backbone and the neck alone: a deconvolution head is a quarter of a ResNet-50's work."""
        return self.model.features(_seen(batch))

    def head(self, features: tuple[Tensor, ...]) -> Prediction:
        """The model's head on somebody's features."""
        prediction: Prediction = self.model.head(features)
        return prediction

    def to(self, device: torch.device) -> Teacher:
        """The same teacher on `device`."""
        self.model.to(device)
        return self


def _seen(batch: PoseBatch) -> Tensor:
    return batch.image if batch.teacher_image is None else batch.teacher_image
