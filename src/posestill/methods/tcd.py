"""Teacher-aided cross-representation distillation, in its simplest form (TCD, ECCV Workshops 2024; reconstructed).

The paper is known by its abstract: a pretrained heatmap teacher distils a student of another representation. This is
the part that any teacher allows: its keypoints, weighted by its confidence, taught beside the labels.
"""

from __future__ import annotations

from pydantic import NonNegativeFloat
from torch import Tensor

from posestill.methods.base import Distiller, MethodConfig
from posestill.models.pose_model import PoseModel
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import Bridge
from posestill.types import PoseBatch


class TcdConfig(MethodConfig):
    """How much the teacher counts, and from which confidence on."""

    weight: NonNegativeFloat = 1.0
    """of the teacher's term beside the labels'"""
    threshold: float = 0.2
    """the teacher's confidence below which its keypoint counts nothing; above, it counts by its confidence"""

    def build(self, student: PoseModel, teacher: Teacher | None) -> Tcd:
        """The method around a student; needs a teacher."""
        return Tcd(student, teacher, self)


class Tcd(Distiller):
    """The task loss on the labels and, for every keypoint, on what the teacher is sure of."""

    needs = frozenset({"prediction"})
    origin = "TCD, ECCV Workshops 2024, simplest form; reconstructed from the abstract"

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: TcdConfig) -> None:
        super().__init__(student, teacher)
        assert self.teacher is not None
        self.config = config
        self.bridge = Bridge(self.teacher, student)

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss twice: against labels, and against the teacher's keypoints by confidence."""
        taught = self.bridge.keypoints(batch)
        output = self.student(batch.image)
        confidence = taught.score.clamp(0, 1) * (taught.score > self.config.threshold)  # (B, K)
        codec = self.student.codec
        target, weight = codec.encode(taught.xy, confidence)
        return {
            "task": self.task_loss(output, batch),
            "teacher": self.config.weight * codec.loss(output.prediction, target, weight, self.task_helper),
        }
