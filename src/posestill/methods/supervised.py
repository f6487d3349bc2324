"""The student alone on the labels: distillation with no teacher."""

from __future__ import annotations

from torch import Tensor

from posestill.methods.base import Distiller, MethodConfig
from posestill.models.pose_model import PoseModel
from posestill.teachers.base import Teacher
from posestill.types import PoseBatch


class SupervisedConfig(MethodConfig):
    """No knobs: the codec has the task loss."""

    def build(self, student: PoseModel, teacher: Teacher | None) -> Supervised:
        """The method around a student; refuses a teacher."""
        return Supervised(student, teacher)


class Supervised(Distiller):
    """The task loss."""

    origin = "no teacher: the student alone on the labels"

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The student's task loss against the labels."""
        return {"task": self.task_loss(self.student(batch.image), batch)}
