"""A method: one module that is handed what student and teacher say of a batch and returns named, weighted losses."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from torch import Tensor, nn

from posestill.models.pose_model import PoseModel
from posestill.schema import Config, UserError, did_you_mean
from posestill.teachers.base import Teacher
from posestill.types import Need, PoseBatch, PoseOutput


class Distiller(nn.Module):
    """A student, its losses, and helpers that are dropped after training.

    `forward` runs the student once and, in a `TaughtDistiller`, the teacher once; a method writes `losses`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    """what the teacher must provide; empty: the method has no teacher"""
    trains_score: bool = False
    """True: it trains a confidence that only a teacher's terms reach (`codec.score`); others refuse such students"""
    owns_head: bool = False
    """True: it decides what the student's head reads or how much its labels count, so that no other that does so can
    stand beside it"""
    follows_progress: bool = False
    """True: its losses depend on `progress`, so that a run that has begun cannot be made longer"""
    task_name: ClassVar[str] = "task"
    """which of the losses is the student's own against the labels"""
    origin: ClassVar[str] = ""
    """one line for `list` and model cards: the paper, and whether this is its published code's equal"""
    chosen: str = ""
    """what the method chose by itself, in a sentence for the log"""

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: Any) -> None:
        super().__init__()
        self.student = student
        self.task_helper = student.codec.helper()  # trained beside the student, never deployed
        self.teacher = teacher  # a plain object: nn.Module does not register it
        self.config = config

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """Named losses, already weighted; the loop sums them. `progress` runs from 0 to 1 over the training."""
        answer = self.ask(batch)
        output = self.student(batch.image, self.for_head)
        losses = self.losses(output, answer, batch, progress)
        for name, loss in losses.items():
            if loss.ndim:
                raise UserError(
                    f"{type(self).__name__}: its loss '{name}' is a tensor of shape {tuple(loss.shape)} and must be a "
                    "scalar: return its mean"
                )
        return losses

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The losses of one step by name, the same names at every step.

        `output` is the student's: its prediction, and the features (B, C, h, w) as the backbone and the neck gave them.
        `answer` is the teacher's, with what `needs` names; without a teacher it is empty.
        """
        raise NotImplementedError

    def ask(self, batch: PoseBatch) -> PoseOutput:
        """What the teacher says of a batch; nothing, where there is no teacher."""
        return PoseOutput()

    def for_head(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The student's features as its head shall read them: a method measures or stops gradients there."""
        return features

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


class TaughtDistiller(Distiller):
    """A method with a teacher, who is a guest: no sub-module, never trained, never copied."""

    needs: ClassVar[frozenset[Need]] = frozenset({"prediction"})
    teacher: Teacher

    def __init__(self, student: PoseModel, teacher: Teacher, config: Any) -> None:
        super().__init__(student, teacher, config)
        if lacking := self.needs - teacher.provides:
            raise UserError(
                f"method: {type(self).__name__} needs the teacher's {', '.join(sorted(lacking))}; this one provides "
                f"{', '.join(sorted(teacher.provides))} (a cached teacher provides what its cache keeps)"
            )

    def ask(self, batch: PoseBatch) -> PoseOutput:
        """The teacher's answer: its features alone, without the work of its head, where the method needs no more."""
        if self.needs == {"features"}:
            return PoseOutput(features=self.teacher.features(batch))
        return self.teacher(batch)


class MethodConfig(Config):
    """Each class of settings names its method by one line below it: `MineConfig.distiller = Mine`."""

    distiller: ClassVar[type[Distiller]]
    """the method that these settings are of"""
    version: ClassVar[int] = 1
    """counted up whenever the same settings train otherwise than before: results of two versions are not mixed"""

    @property
    def needs(self) -> frozenset[Need]:
        """What the teacher must provide; empty: the method has no teacher."""
        return self.distiller.needs

    def build(self, student: PoseModel, teacher: Teacher | None) -> Distiller:
        """The method around a student; a `UserError` where student, teacher and method do not suit one another."""
        name = self.distiller.__name__
        for unknown in sorted(self.needs - set(get_args(Need))):
            raise UserError(
                f"method: {name}.needs names '{unknown}', which no teacher provides"
                f"{did_you_mean(unknown, get_args(Need))} (known: {', '.join(get_args(Need))})"
            )
        if self.needs and teacher is None:
            raise UserError(
                f"method: {name} needs a teacher: add `teacher: FOLDER` (or `teacher: bundled`) to the recipe"
            )
        if teacher is not None and not self.needs:
            raise UserError(f"method: {name} has no use for a teacher: remove it, or choose a method that has one")
        distiller = self.distiller_for(student, teacher)(student, teacher, self)
        if student.codec.score_is_taught and not distiller.trains_score:
            raise UserError(
                f"model.codec.score: {name} does not train a confidence, and persons would be ranked by noise: leave "
                "it false (every score is then 1)"
            )
        return distiller

    def distiller_for(self, student: PoseModel, teacher: Teacher | None) -> type[Distiller]:
        """Which class of the method suits student and teacher; for most methods there is one."""
        return self.distiller
