"""From a run's settings to its parts, in the one order that keeps arms comparable: the student is built first."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from posestill.config import RunConfig
from posestill.data.batches import BatchPlan, choose_people
from posestill.data.source import PoseSource
from posestill.data.topdown import Labels, TopDownDataset
from posestill.engine.log import RunLog
from posestill.methods.base import Distiller
from posestill.models.pose_model import build_model
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.cache import CachedTeacher


@dataclass(frozen=True)
class Sources:
    """The persons that a run trains on and those that it is judged by."""

    train: PoseSource
    val: PoseSource


@dataclass(frozen=True)
class Parts:
    """A run, built and ready to train."""

    sources: Sources
    labels: Labels
    dataset: TopDownDataset
    batches: BatchPlan
    distiller: Distiller
    total_steps: int
    unit: float
    """steps that one unit of the run's length (epochs or steps) holds"""

    def is_due(self, step: int, every: float | None) -> bool:
        """True after each `every` units, and after the last step."""
        if step == self.total_steps:
            return True
        return every is not None and int(step / (every * self.unit)) > int((step - 1) / (every * self.unit))


def open_sources(config: RunConfig) -> Sources:
    """Both sources; fails when they do not share their keypoints."""
    sources = Sources(train=config.data.train.build(), val=config.data.val.build())
    one, other = sources.train.skeleton, sources.val.skeleton
    if one.names != other.names:
        raise UserError(
            f"data: the training source has {len(one)} keypoints ({', '.join(one.names[:3])}, ...) and the validation "
            f"source {len(other)} ({', '.join(other.names[:3])}, ...): they must be the same"
        )
    return sources


def set_up(config: RunConfig, sources: Sources, *, device: torch.device, world: int, log: RunLog) -> Parts:
    """Build student, teacher, method and batches. Every misfit is found here, before the first step."""
    if config.train.batch_size % world:
        raise UserError(f"train.batch_size: {config.train.batch_size} persons cannot be shared by {world} processes")
    torch.manual_seed(config.seed)  # before the student, so that its initial weights do not depend on the method
    student = build_model(config.model, sources.train.skeleton)
    labels = choose_people(sources.train, config.data)
    batches = BatchPlan(
        labels,
        batch_size=config.train.batch_size,
        labelled_per_batch=config.data.labelled_per_batch,
        seed=config.seed,
    )
    teacher = None
    if config.teacher is not None:
        teacher = config.teacher.build().to(device)
        if config.teacher.cache:
            teacher = _ask_once(teacher, config, sources, labels, device, log)
    unit = 1.0 if config.train.steps is not None else batches.steps_per_epoch()
    return Parts(
        sources=sources,
        labels=labels,
        dataset=TopDownDataset(
            sources.train,
            size=config.model.size,
            labels=labels,
            augment=config.data.augment,
            seed=config.seed,
            teacher_size=None if teacher is None else teacher.input_size,
        ),
        batches=batches,
        distiller=config.method.build(student, teacher),
        total_steps=config.train.steps or max(1, round((config.train.epochs or 0) * unit)),
        unit=unit,
    )


def try_one_batch(config: RunConfig, sources: Sources, *, log: RunLog) -> dict[str, float]:
    """The losses of a run's first batch: proof that its parts fit, before any time is spent."""
    if config.teacher is not None:  # one batch needs no cache of everyone
        config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"cache": False})})
    parts = set_up(config, sources, device=torch.device("cpu"), world=1, log=log)
    batch = parts.dataset.__getitems__(parts.batches.batch(0))
    return {name: value.item() for name, value in parts.distiller(batch, 0.0).items()}


def _ask_once(
    teacher: Teacher, config: RunConfig, sources: Sources, labels: Labels, device: torch.device, log: RunLog
) -> Teacher:
    upright = TopDownDataset(sources.train, size=config.model.size, labels=labels, teacher_size=teacher.input_size)
    with log.bar("asking the teacher once", len(upright)) as bar:
        return CachedTeacher(teacher, upright, size=config.model.size, device=device, progress=bar.advance)
