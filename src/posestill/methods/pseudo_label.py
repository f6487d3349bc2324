"""The teacher's keypoints as if they were labels: the control that every method with a teacher must beat."""

from __future__ import annotations

from torch import Tensor

from posestill.methods.base import MethodConfig, TaughtDistiller
from posestill.models.pose_model import PoseModel
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import Bridge
from posestill.types import PoseBatch, PoseOutput


class PseudoLabelConfig(MethodConfig):
    """One setting says which of the teacher's keypoints count as labels."""

    threshold: float = 0.3
    """The confidence that a keypoint of the teacher must exceed to be taken as a label where there is none. A lower
    threshold gives more such labels, and more wrong ones; a higher one gives fewer and better ones."""


class PseudoLabel(TaughtDistiller):
    """The task loss on labels where there are any, and on the teacher's keypoints where there are none."""

    origin = "control: the teacher's keypoints as plain labels"
    config: PseudoLabelConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: PseudoLabelConfig) -> None:
        super().__init__(student, teacher, config)
        self.bridge = Bridge(teacher, student)

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss twice: against labels, and against confident keypoints of the teacher elsewhere."""
        taught = self.bridge.keypoints(answer, batch)
        confident = (taught.score > self.config.threshold).to(batch.weight.dtype)
        codec = self.student.codec
        target, weight = codec.encode(taught.xy, confident * (1 - batch.weight))
        return {
            "task": self.task_loss(output, batch),
            "pseudo_label": codec.loss(output.prediction, target, weight, self.task_helper),
        }


PseudoLabelConfig.distiller = PseudoLabel
