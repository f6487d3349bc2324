"""A teacher asked ahead of the training that its kept answers are for: by one machine or by several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from posestill.cluster.on_ray import RayCluster
from posestill.cluster.shards import WHOLE, Shard, lots
from posestill.data.batches import choose_people
from posestill.data.topdown import TopDownDataset
from posestill.engine.config import RunConfig
from posestill.engine.log import RunLog
from posestill.engine.sense import settled
from posestill.engine.setup import open_sources
from posestill.models.device import choose_device
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.cache import CachedTeacher

LOT = 2048
"""persons that a node of a cluster is given at once, about"""


@dataclass(frozen=True)
class Asking:
    """A share of the persons of a run, whose teacher is asked about them."""

    config: RunConfig
    shard: Shard

    def __str__(self) -> str:
        return f"shard {self.shard} of the persons"


@dataclass(frozen=True)
class _Opened:
    teacher: Teacher
    cached: CachedTeacher
    dataset: TopDownDataset
    device: torch.device


def folder_of_answers(config: RunConfig) -> Path:
    """Where a run keeps its teacher's answers; a `UserError` where it keeps none."""
    kept = None if config.teacher is None else config.teacher.kept
    if kept is None or kept.folder is None:
        raise UserError(
            "teacher.cache.folder: this run keeps no answers of a teacher on disk: name a folder, such as --set "
            "teacher.cache.folder=runs/answers"
        )
    return kept.folder


def fill_cache(config: RunConfig, *, shard: Shard = WHOLE, log: RunLog) -> Sequence[int]:
    """Ask a run's teacher about a shard of its persons; returns the numbers of the shards that are still missing."""
    folder_of_answers(config)
    opened = _open(config, log)
    bar, threads = partial(log.bar, "asking the teacher"), config.train.threads
    if shard == WHOLE:
        opened.cached.ask(opened.teacher, opened.dataset, device=opened.device, say=log.say, bar=bar, threads=threads)
        return ()
    return opened.cached.ask_share(
        opened.teacher, opened.dataset, shard, device=opened.device, say=log.say, bar=bar, threads=threads
    )


def fill_cache_on(cluster: RayCluster, config: RunConfig, *, log: RunLog) -> Sequence[int]:
    """The same for all persons, on the nodes of a Ray cluster."""
    folder_of_answers(config)
    opened = _open(config, log)
    shards = Shard(1, lots(len(opened.dataset), of=LOT)).all
    with log.bar("asking the teacher, in shards", len(shards)) as bar:
        cluster.each(
            _fill_quietly, [Asking(config, shard) for shard in shards], say=log.say, told=lambda _, __: bar.advance()
        )
    return opened.cached.ask_share(opened.teacher, opened.dataset, shards[0], device=opened.device, say=log.say)


def _fill_quietly(task: Asking) -> None:
    fill_cache(task.config, shard=task.shard, log=RunLog(None, quiet=True))


def _open(config: RunConfig, log: RunLog) -> _Opened:
    """The teacher with the crops that it is asked about, as a training of this run would ask it."""
    device = choose_device(config.train.device, option="train.device")
    sources = open_sources(config, log=log, device=device)
    config = settled(config, sources.train.skeleton, log)
    assert config.teacher is not None
    assert config.teacher.kept is not None
    teacher = config.teacher.build()
    cached = CachedTeacher(teacher, size=config.model.size, config=config.teacher.kept)
    cached.check(config.method.needs)
    labels = choose_people(sources.train, config.data)
    dataset = cached.crops_to_ask_about(teacher, sources.train, labels, config.data.augment)
    return _Opened(teacher, cached, dataset, device)
