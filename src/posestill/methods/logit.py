"""Distillers of predictions that others are compared with: heatmaps as FPD mixes them, SimCC logits as DWPose does."""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from posestill.codecs.heatmap import HeatmapCodec
from posestill.codecs.simcc import SimccCodec
from posestill.methods.base import Distiller, MethodConfig
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import HeatmapBridge
from posestill.types import Heatmaps, PoseBatch, SimCC


class HeatmapLogitConfig(MethodConfig):
    """FPD (CVPR 2019): labels and the teacher's heatmaps, mixed."""

    share: float = Field(default=0.5, ge=0, le=1)
    """of the teacher's heatmaps; the labels have the rest"""

    def build(self, student: PoseModel, teacher: Teacher | None) -> HeatmapLogits:
        """The method around a heatmap student; needs a heatmap teacher."""
        return HeatmapLogits(student, teacher, self)


class HeatmapLogits(Distiller):
    """The task loss, and the squared error to the teacher's heatmaps, on every keypoint that it has."""

    needs = frozenset({"prediction"})
    origin = "FPD, CVPR 2019, for comparison; the share is recalled, not checked"

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: HeatmapLogitConfig) -> None:
        super().__init__(student, teacher)
        assert self.teacher is not None
        if not isinstance(student.codec, HeatmapCodec):
            raise UserError("method: fpd teaches heatmaps by heatmaps: choose a heatmap student")
        self.codec = student.codec
        self.share = config.share
        self.bridge = HeatmapBridge(self.teacher, student)

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """Both terms, by their shares."""
        assert self.teacher is not None
        maps, known = self.bridge.maps(self.teacher(batch).prediction)  # (B, K, h, w), (K,)
        maps = self.bridge.resampled(maps, self.codec, batch)
        output = self.student(batch.image)
        assert isinstance(output.prediction, Heatmaps)
        return {
            "task": (1 - self.share) * self.task_loss(output, batch),
            "heatmaps": self.share * self.codec.loss(output.prediction, maps, known.expand_as(batch.weight)),
        }


class SimccLogitConfig(MethodConfig):
    """DWPose's logits (ICCV Workshops 2023)."""

    weight: NonNegativeFloat = 0.1
    """of the divergence at the start; it falls to nothing by the end of the training, as published"""

    def build(self, student: PoseModel, teacher: Teacher | None) -> SimccLogits:
        """The method around a SimCC student; needs a SimCC teacher with the same bins."""
        return SimccLogits(student, teacher, self)


class SimccLogits(Distiller):
    """The task loss, and the divergence of the student's bins from the teacher's, on every keypoint."""

    needs = frozenset({"prediction"})
    origin = "the logits of DWPose, ICCV Workshops 2023, for comparison"

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: SimccLogitConfig) -> None:
        super().__init__(student, teacher)
        assert self.teacher is not None
        codec, taught = student.codec, self.teacher.codec
        if not isinstance(codec, SimccCodec) or not isinstance(taught, SimccCodec) or codec.bins != taught.bins:
            bins = [each.bins if isinstance(each, SimccCodec) else "none" for each in (codec, taught)]
            raise UserError(
                f"method: simcc_logits compares bin with bin; the student has {bins[0]}, the teacher {bins[1]}: choose "
                "simcc for both, of one input size and split"
            )
        if student.skeleton.names != self.teacher.skeleton.names:
            raise UserError("method: simcc_logits compares keypoints one by one: both must have the same ones")
        self.config, self.codec = config, codec

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, and the divergence summed over bins and axes, averaged over batch and keypoints."""
        assert self.teacher is not None
        taught = self.teacher(batch).prediction
        output = self.student(batch.image)
        assert isinstance(output.prediction, SimCC)
        assert isinstance(taught, SimCC)
        total = torch.zeros((), device=batch.weight.device)
        for logits, wanted in ((output.prediction.x, taught.x), (output.prediction.y, taught.y)):
            own, other = self.codec.config.beta * logits.float(), self.codec.config.beta * wanted.float()
            divergence = other.softmax(-1) * (other.log_softmax(-1) - own.log_softmax(-1))  # (B, K, bins)
            total = total + divergence.sum(dim=-1).mean()
        return {
            "task": self.task_loss(output, batch),
            "logits": self.config.weight * (1 - progress) * total,
        }
