"""A method: one module whose forward returns named, already weighted losses, the same keys at every step."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from posestill.codecs.coords import CoordsCodec
from posestill.models.pose_model import PoseModel
from posestill.schema import Config, UserError
from posestill.teachers.base import Teacher
from posestill.types import Need, PoseBatch, PoseOutput


class Distiller(nn.Module):
    """A student, a teacher who is a guest, and helpers that are dropped after training."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    """what the teacher must provide; empty: the method has no teacher"""
    trains_score: ClassVar[bool] = False
    """True: it teaches coordinate students a confidence (`codec.score`); others refuse such students"""
    origin: ClassVar[str] = ""
    """one line for `list` and model cards: the paper, and whether this is its published code's equal"""
    chosen: str = ""
    """what the method chose by itself, in a sentence for the log"""

    def __init__(self, student: PoseModel, teacher: Teacher | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        if self.needs and teacher is None:
            raise UserError(
                f"method: {name} needs a teacher: add `teacher: FOLDER` (or `teacher: bundled`) to the recipe"
            )
        if teacher is not None and not self.needs:
            raise UserError(f"method: {name} has no use for a teacher: remove it, or choose a method that has one")
        if teacher is not None and (lacking := self.needs - teacher.provides):
            raise UserError(
                f"method: {name} needs the teacher's {', '.join(sorted(lacking))}; this one provides "
                f"{', '.join(sorted(teacher.provides))} (a cached teacher provides its prediction only)"
            )
        if isinstance(student.codec, CoordsCodec) and student.codec.has_score and not self.trains_score:
            raise UserError(
                f"model.codec.score: {name} does not train a confidence, and persons would be ranked by noise: leave "
                "it false (every score is then 1)"
            )
        self.student = student
        self.task_helper = student.codec.helper()  # trained beside the student, never deployed
        self.teacher = teacher  # a plain object: nn.Module does not register it

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """Named losses, already weighted; the loop sums them. `progress` runs from 0 to 1 over the training."""
        raise NotImplementedError

    def task_loss(self, output: PoseOutput, batch: PoseBatch) -> Tensor:
        """The student's task loss against the labels."""
        return self.student.task_loss(output, batch, self.task_helper)

    def after_step(self) -> None:
        """Called after each optimiser step that was taken."""

    def watch(self) -> dict[str, float]:
        """What the method adjusts by itself and one would like to see over the steps; logged beside the losses."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, as optimiser groups."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def deployable(self) -> PoseModel:
        """What ships."""
        return self.student


class MethodConfig(Config):
    """Settings of a method."""

    def build(self, student: PoseModel, teacher: Teacher | None) -> Distiller:
        """The method around a student. Fails when the teacher does not provide what it needs."""
        raise NotImplementedError
