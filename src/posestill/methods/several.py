"""Several methods at once: each adds its losses to one step of one student, taught by one teacher.

student once, teacher once -+-> tcd -> head, heatmap
+-> pkd -> features
'-> the labels' loss, counted once
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from posestill.methods.base import Distiller, MethodConfig
from posestill.models.pose_model import PoseModel
from posestill.schema import Choice, UserError, table, validate
from posestill.teachers.base import Teacher
from posestill.types import Need, PoseBatch, PoseOutput


class SeveralConfig(MethodConfig):
    """Several methods teach one student at once, as in `method: {name: several, of: [tcd, {name: pkd, weight: 5}]}`."""

    of: Annotated[tuple[Annotated[MethodConfig, Choice("methods")], ...], Field(min_length=2)] = Field(
        default_factory=lambda: _usual()
    )
    """The methods, two or more, each with its own settings and weights and none of them twice; by default `tcd` and
    `pkd`. Their losses are added up, and the labels' loss is counted once."""

    @property
    def version(self) -> int:  # type: ignore[override]
        """Its own version and those of its methods, added up: it changes with any of them."""
        return 1 + sum(each.version for each in self.of)

    @property
    def needs(self) -> frozenset[Need]:
        """Whatever one of them needs of the teacher."""
        return frozenset().union(*(each.needs for each in self.of))


class Several(Distiller):
    """The losses of each method under its name (`pkd.features`), and the labels' loss once."""

    origin = "several of these methods on one student"
    config: SeveralConfig

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: SeveralConfig) -> None:
        super().__init__(student, teacher, config)
        members = {_name(each): _member(each, student, teacher) for each in config.of}
        if len(members) < len(config.of):
            raise UserError(f"method.of: each method once, not {', '.join(_name(each) for each in config.of)}")
        owners = [name for name, member in members.items() if member.owns_head]
        if len(owners) > 1:
            raise UserError(
                f"method.of: {' and '.join(owners)} both decide how the student's head is trained: keep one of them"
            )
        self.task_of = owners[0] if owners else next(iter(members))
        self.trains_score = any(member.trains_score for member in members.values())
        self.follows_progress = any(member.follows_progress for member in members.values())
        self.chosen = "; ".join(member.chosen for member in members.values() if member.chosen)
        for member in members.values():
            # The student and its task helper are registered here, once: a state or an average must not hold them twice.
            for shared in ("student", "task_helper"):
                member._modules.pop(shared, None)
                member.__dict__[shared] = getattr(self, shared)
        self.members = nn.ModuleDict(members)

    def ask(self, batch: PoseBatch) -> PoseOutput:
        """The teacher's whole answer, once for all."""
        return PoseOutput() if self.teacher is None else self.teacher(batch)

    def for_head(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features as each method in turn hands them on."""
        for member in self._each():
            features = member.for_head(features)
        return features

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The labels' loss as the one says that decides about the head, and what each adds beside it."""
        found: dict[str, Tensor] = {}
        for name, member in zip(self.members, self._each(), strict=True):
            own = member.losses(output, answer, batch, progress)
            task = own.pop(member.task_name)
            if name == self.task_of:
                found["task"] = task
            found |= {f"{name}.{loss}": value for loss, value in own.items()}
        return found

    def after_step(self) -> None:
        """Whatever each does after a step."""
        for member in self._each():
            member.after_step()

    def watch(self) -> dict[str, float]:
        """What each adjusts, under its name."""
        watched = zip(self.members, self._each(), strict=True)
        return {f"{name}.{what}": value for name, member in watched for what, value in member.watch().items()}

    def _each(self) -> list[Distiller]:
        return [member for member in self.members.values() if isinstance(member, Distiller)]


SeveralConfig.distiller = Several


def _member(config: MethodConfig, student: PoseModel, teacher: Teacher | None) -> Distiller:
    if isinstance(config, SeveralConfig):
        raise UserError("method.of: several cannot be one of several: list its methods themselves")
    given = teacher if config.needs else None
    return config.distiller_for(student, given)(student, given, config)


def _name(config: MethodConfig) -> str:
    return next(name for name, entry in table("methods").items() if entry is type(config))


def _usual() -> tuple[MethodConfig, ...]:
    methods = table("methods")
    return tuple(validate(MethodConfig, methods[name](), where="method.of") for name in ("tcd", "pkd"))
