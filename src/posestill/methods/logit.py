"""Distillers of predictions that others are compared with: heatmaps as FPD mixes them, SimCC logits as DWPose does."""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from posestill.codecs.base import BinForm, MapForm
from posestill.methods.base import MethodConfig, TaughtDistiller
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import HeatmapBridge
from posestill.types import PoseBatch, PoseOutput, SimCC


class HeatmapLogitConfig(MethodConfig):
    """FPD (CVPR 2019) trains a heatmap student on labels mixed with the teacher's heatmaps."""

    share: float = Field(default=0.5, ge=0, le=1)
    """The share of the teacher's heatmaps in the loss; the labels have the rest. At 0 the student learns from the
    labels alone, at 1 from the teacher alone; 0.5 is recalled from the paper, not checked."""


class HeatmapLogits(TaughtDistiller):
    """The task loss, and the squared error to the teacher's heatmaps, on every keypoint that it has."""

    owns_head = True  # it weighs the labels' loss
    origin = "FPD, CVPR 2019, for comparison; the share is recalled, not checked"
    config: HeatmapLogitConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: HeatmapLogitConfig) -> None:
        super().__init__(student, teacher, config)
        if not isinstance(student.codec.form, MapForm):
            raise UserError("method: fpd teaches heatmaps by heatmaps: choose a heatmap student")
        self.form = student.codec.form
        self.bridge = HeatmapBridge(teacher, student)

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """Both terms, by their shares."""
        maps, known = self.bridge.maps(answer.prediction)  # (B, K, h, w), (K,)
        maps = self.bridge.resampled(maps, self.form, batch)
        taught = self.student.codec.loss(output.prediction, maps, known.expand_as(batch.weight))
        return {
            "task": (1 - self.config.share) * self.task_loss(output, batch),
            "heatmaps": self.config.share * taught,
        }


HeatmapLogitConfig.distiller = HeatmapLogits


class SimccLogitConfig(MethodConfig):
    """DWPose (ICCV Workshops 2023) pulls the logits of a SimCC student to the teacher's."""

    weight: NonNegativeFloat = 0.1
    """The weight, at the start of the training, of the divergence of the student's bins from the teacher's; it falls
    linearly to nothing by the end, as published. The larger it is, the more the student follows the teacher. The task
    loss beside it is averaged over the batch; the published code sums that loss, so that 0.1 pulls much harder here."""


class SimccLogits(TaughtDistiller):
    """The task loss, and the divergence of the student's bins from the teacher's, on every keypoint."""

    follows_progress = True
    origin = "the logits of DWPose, ICCV Workshops 2023, for comparison"
    config: SimccLogitConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: SimccLogitConfig) -> None:
        super().__init__(student, teacher, config)
        bins = [(each.x, each.y) if isinstance(each, BinForm) else "none" for each in
                (student.codec.form, teacher.codec.form)]  # fmt: skip
        if bins[0] != bins[1] or "none" in bins:
            raise UserError(
                f"method: simcc_logits compares bin with bin; the student has {bins[0]}, the teacher {bins[1]}: choose "
                "simcc for both, of one input size and split"
            )
        if student.skeleton.names != teacher.skeleton.names:
            raise UserError("method: simcc_logits compares keypoints one by one: both must have the same ones")

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, and the divergence summed over bins and axes, averaged over batch and keypoints."""
        own, taught, form = output.prediction, answer.prediction, self.student.codec.form
        assert isinstance(own, SimCC)
        assert isinstance(taught, SimCC)
        assert isinstance(form, BinForm)
        total = torch.zeros((), device=batch.weight.device)
        for logits, wanted in ((own.x, taught.x), (own.y, taught.y)):
            said, goal = form.beta * logits.float(), form.beta * wanted.float()
            divergence = goal.softmax(-1) * (goal.log_softmax(-1) - said.log_softmax(-1))  # (B, K, bins)
            total = total + divergence.sum(dim=-1).mean()
        return {
            "task": self.task_loss(output, batch),
            "logits": self.config.weight * (1 - progress) * total,
        }


SimccLogitConfig.distiller = SimccLogits
