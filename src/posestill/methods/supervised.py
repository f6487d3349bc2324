"""The student alone on the labels: distillation with no teacher."""

from __future__ import annotations

from torch import Tensor

from posestill.methods.base import Distiller, MethodConfig
from posestill.types import PoseBatch, PoseOutput


class SupervisedConfig(MethodConfig):
    """There is nothing to set: the codec has the task loss."""


class Supervised(Distiller):
    """The task loss."""

    origin = "no teacher: the student alone on the labels"

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The student's task loss against the labels."""
        return {"task": self.task_loss(output, batch)}


SupervisedConfig.distiller = Supervised
