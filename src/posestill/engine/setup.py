"""From a run's settings to its parts, in the one order that keeps arms comparable: the student is built first."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from posestill.data.batches import BatchPlan, choose_people, pictures_of
from posestill.data.crop_pack import PackedCrops
from posestill.data.crops import CropsInMemory
from posestill.data.source import PoseSource
from posestill.data.topdown import Labels, TopDownDataset
from posestill.engine.config import RunConfig
from posestill.engine.log import RunLog
from posestill.engine.pictures import check_confidence, open_pictures
from posestill.engine.sense import refuse_beyond_memory, refuse_large_features, settled, tell_sources
from posestill.geometry import PADDING
from posestill.methods.base import Distiller
from posestill.models.pose_model import PoseModel, build_model
from posestill.schema import UserError
from posestill.teachers.answers import SURE, most_agreed
from posestill.teachers.base import Teacher
from posestill.teachers.cache import CachedTeacher


@dataclass(frozen=True)
class Sources:
    """The persons that a run trains on and those that it is judged by."""

    train: PoseSource
    val: PoseSource
    asked: dict[str, CachedTeacher] = field(default_factory=dict)
    """teachers with `cache: true` that were asked already about these persons: runs that share sources share them"""
    labelled: PoseSource | None = None
    """labelled people in held-out pictures, where the run itself is judged by its teacher's answers"""


@dataclass(frozen=True)
class BuiltRun:
    """A run, built and ready to train."""

    sources: Sources
    labels: Labels
    dataset: TopDownDataset
    batches: BatchPlan
    distiller: Distiller
    total_steps: int
    unit: float
    """steps that one unit of the run's length (epochs or steps) holds"""

    @property
    def people(self) -> int:
        """How many persons are trained on."""
        return len(self.labels.persons) if self.labels.drawn is None else int(self.labels.drawn.sum())

    @property
    def whom(self) -> tuple[list[Any], ...]:
        """Whom it sees, and with which labels: processes that differ in this would see other batches."""
        drawn = [] if self.labels.drawn is None else self.labels.drawn.tolist()
        return self.labels.persons.tolist(), self.labels.shown.tolist(), drawn

    def is_due(self, step: int, every: float | None) -> bool:
        """True after each `every` units, and after the last step."""
        if step == self.total_steps:
            return True
        return every is not None and int(step / (every * self.unit)) > int((step - 1) / (every * self.unit))


def open_sources(config: RunConfig, *, log: RunLog | None = None, device: torch.device | None = None) -> Sources:
    """Both sources; fails when they do not share their keypoints.

    Pictures without labels tell `log` what they hold, and the teacher is asked on `device` about those held out.
    """
    if config.data.has_no_labels:
        opened = open_pictures(config, log=log or RunLog(None, quiet=True), device=device)
        sources = Sources(train=opened.train, val=opened.val, labelled=opened.labelled)
    else:
        sources = Sources(train=config.data.train.build(), val=config.data.val.build())
    one, other = sources.train.skeleton, sources.val.skeleton
    if one.names != other.names:
        hint = ", and data.train.keypoints can name them" if config.data.has_no_labels else ""
        raise UserError(
            f"data: the training source has {len(one)} keypoints ({', '.join(one.names[:3])}, ...) and the validation "
            f"source {len(other)} ({', '.join(other.names[:3])}, ...): they must be the same{hint}"
        )
    tell_sources(config, sources.train, sources.val, log or RunLog(None, quiet=True))
    return sources


def set_up(
    config: RunConfig,
    sources: Sources,
    *,
    device: torch.device,
    world: int,
    log: RunLog,
    first_batch_only: bool = False,
) -> BuiltRun:
    """Build student, teacher, method and batches. Every misfit is found here, before the first step.

    `first_batch_only`: a teacher with a cache is asked about no others.
    """
    refuse_beyond_memory(config, sources.train.skeleton, device)
    if config.train.batch_size % world:
        raise UserError(f"train.batch_size: {config.train.batch_size} persons cannot be shared by {world} processes")
    torch.manual_seed(config.seed)  # before the student, so that its initial weights do not depend on the method
    student = build_model(config.model, sources.train.skeleton)
    refuse_large_features(config, student.feature_shapes, device)
    labels = choose_people(sources.train, config.data)
    if config.teacher is None and not labels.shown.any():
        raise UserError("data: nobody shows labels to learn from, and there is no teacher: add the one or the other")
    batches = _plan_batches(config, sources.train, labels)
    teacher: Teacher | None = None if config.teacher is None else config.teacher.build()
    live, cached = teacher, None
    if live is not None and config.teacher is not None and config.teacher.kept is not None:
        key = _key_of_answers(config, labels)
        cached = sources.asked.get(key) or CachedTeacher(live, size=config.model.size, config=config.teacher.kept)
        cached.check(config.method.needs)
        teacher = cached
    distiller = _build_method(config, student, teacher)
    if live is not None and cached is not None and not cached.was_asked:  # only now: the method might refuse it
        crops = cached.crops_to_ask_about(live, sources.train, labels, config.data.augment)
        wanted = batches.batch(0) if first_batch_only else None
        bar = partial(log.bar, "asking the teacher once")
        cached.ask(live, crops, wanted, device=device, say=log.say, bar=bar, threads=config.train.threads)
        if wanted is None:
            sources.asked[key] = cached
            if config.data.has_no_labels:
                check_confidence(config, cached.score, log=log)
    if cached is not None and cached.config.leave_out and not first_batch_only:
        labels = replace(labels, drawn=_without_doubtful(cached, labels, log))
        batches = _plan_batches(config, sources.train, labels)
    is_asked_at_every_step = live is not None and cached is None and not first_batch_only
    if live is not None and is_asked_at_every_step and (trial := live.choose_threads(config.train.threads)) is not None:
        log.say(f"threads of the teacher: {trial}")
    if teacher is not None:
        teacher.to(device)
    unit = 1.0 if config.train.steps is not None else batches.steps_per_epoch()
    return BuiltRun(
        sources=sources,
        labels=labels,
        dataset=_open_dataset(config, sources, labels, teacher, device, log),
        batches=batches,
        distiller=distiller,
        total_steps=config.train.steps or max(1, round((config.train.epochs or 0) * unit)),
        unit=unit,
    )


def _plan_batches(config: RunConfig, source: PoseSource, labels: Labels) -> BatchPlan:
    return BatchPlan(
        labels,
        batch_size=config.train.batch_size,
        labelled_per_batch=config.data.labelled_per_batch,
        seed=config.seed,
        pictures=pictures_of(source, labels) if config.data.sampler == "by_image" else None,
        buffer=config.data.buffer,
    )


def _without_doubtful(cached: CachedTeacher, labels: Labels, log: RunLog) -> np.ndarray:
    """(N,) bool: who is trained on, where persons without labels are left out whose answers agree least."""
    drawn = labels.shown.copy()
    agreement = cached.agreement[~labels.shown]
    kept = drawn[~labels.shown] = most_agreed(agreement, leave_out=cached.config.leave_out)
    if len(kept) and not kept.any():
        raise UserError(
            f"teacher.cache.leave_out: the teacher is sure of no keypoint of the {len(kept)} people without labels "
            f"(confidence above {SURE}), so that none of them is left: look whether boxes and layout are right, or set "
            "leave_out=0"
        )
    doubtful = int(np.isnan(agreement).sum())
    log.say(
        f"left out: {len(kept) - kept.sum() - doubtful} of {len(kept)} people without labels, on whom the teacher's "
        "answers upright and mirrored agree least"
        + (f"; {doubtful} more, on whom it is sure of no keypoint" if doubtful else "")
        + " (teacher.cache.leave_out)"
    )
    return drawn


def _build_method(config: RunConfig, student: PoseModel, teacher: Teacher | None) -> Distiller:
    """The method; where it refuses a teacher that is asked once, the message says what is kept of it."""
    try:
        return config.method.build(student, teacher)
    except UserError as error:
        if not isinstance(teacher, CachedTeacher):
            raise
        raise UserError(f"{error} (of the teacher's answers teacher.cache keeps the {teacher.config.keep})") from None


def crops_to_pack(config: RunConfig) -> TopDownDataset:
    """Everybody whom a run with these settings may train on, with the views that its student and its teacher see."""
    if config.data.has_no_labels:
        raise UserError(
            "data.train: people in pictures without labels are found anew by each run: write them down first by "
            "`posestill label`, and train on those annotations"
        )
    source = config.data.train.build()
    everybody = config.data.model_copy(update={"people": None, "labelled": None})
    labels = choose_people(source, everybody)
    teacher = None if config.teacher is None or config.teacher.kept is not None else config.teacher.build()
    return TopDownDataset(
        source, size=config.model.size, labels=labels, augment=config.data.augment, passes_over=True,
        teacher_size=None if teacher is None else teacher.input_size,
        teacher_padding=PADDING if teacher is None else teacher.padding,
    )  # fmt: skip


def _open_dataset(
    config: RunConfig, sources: Sources, labels: Labels, teacher: Teacher | None, device: torch.device, log: RunLog
) -> TopDownDataset:
    size, augment, seed = config.model.size, config.data.augment, config.seed
    teacher_size, padding, fixed_views = None, PADDING, None
    if isinstance(teacher, CachedTeacher):  # it was asked already, and looks at no more crops
        fixed_views = teacher.fixed_views
    elif teacher is not None:
        teacher_size, padding = teacher.input_size, teacher.padding
    plain = TopDownDataset(
        sources.train, size=size, labels=labels, augment=augment, seed=seed, teacher_size=teacher_size,
        teacher_padding=padding, fixed_views=fixed_views, passes_over=True,
    )  # fmt: skip
    if config.data.crops is None:
        return plain
    if config.data.crops.file is not None:
        return PackedCrops(plain, config.data.crops.file, density=config.data.crops.density)
    if config.train.workers:
        raise UserError("data.crops: plain pixels are cut by the training process itself: set train.workers=0")
    with log.bar("keeping crops", len(labels.persons)) as bar:
        return CropsInMemory(
            sources.train, size=size, labels=labels, augment=augment, seed=seed, teacher_size=teacher_size,
            teacher_padding=padding, fixed_views=fixed_views, passes_over=True,
            config=config.data.crops, device=device, progress=bar.advance,
        )  # fmt: skip


def try_one_batch(config: RunConfig, sources: Sources, *, log: RunLog) -> dict[str, float]:
    """The losses of a run's first batch: proof that its parts fit, before any time is spent."""
    config = settled(config, sources.train.skeleton, log)
    parts = set_up(config, sources, device=torch.device("cpu"), world=1, log=log, first_batch_only=True)
    batch = parts.dataset.__getitems__(parts.batches.batch(0))
    return {name: value.item() for name, value in parts.distiller(batch, 0.0).items()}


def _key_of_answers(config: RunConfig, labels: Labels) -> str:
    """What a cached teacher's answers depend on."""
    assert config.teacher is not None
    name = type(config.teacher).__qualname__  # two kinds of teacher may have the same settings, such as none
    persons = hashlib.sha256(labels.persons.tobytes()).hexdigest()
    crops = ""
    if config.teacher.kept is not None and config.teacher.kept.views:  # crops of half a body follow the labels shown
        crops = f"{config.data.augment.model_dump_json()} {hashlib.sha256(labels.shown.tobytes()).hexdigest()}"
    return f"{name} {config.teacher.model_dump_json()} {config.model.size} {persons} {crops}"
