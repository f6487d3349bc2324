"""What a run's crops cost beside its training step: which stage is the limit, and which settings change that."""

from __future__ import annotations

import cProfile
import math
import os
import pstats
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from posestill.data.batches import JoinedBatches, PlannedBatches, pictures_of
from posestill.data.crops import CropsConfig, bytes_kept
from posestill.data.topdown import TopDownDataset
from posestill.engine.config import RunConfig
from posestill.engine.log import RunLog
from posestill.engine.optim import build_optimiser
from posestill.engine.sense import memory_of, settled
from posestill.engine.setup import open_sources, set_up
from posestill.methods.base import Distiller
from posestill.models.device import choose_device
from posestill.types import PoseBatch

STAGES = {
    "decode": ("read", "kept_crop"),
    "warp": ("warp", "unwarp", "_sample"),
    "colour": ("change_colour",),
    "collate": ("put", "four_channels"),
}
"""which functions of posestill.data do what; what is left of a batch is drawing: the augmentation and the affines"""
_NEGLIGIBLE = 0.1
"""the share of a step's time below which loading without workers is not worth a change"""
_SHARED = 1.5
"""persons a picture from which on it pays to decode a picture once for all of them"""


@dataclass(frozen=True)
class LoaderCost:
    """Where the time of a run's crops goes, and what its training step takes."""

    stages: Mapping[str, float]
    """microseconds of one core a person, by stage"""
    encode: float
    """microseconds a person of making targets from keypoints, which is a part of the step"""
    step: float
    """microseconds a person of a training step on a batch that lies ready"""
    persons_per_picture: float
    plain_pixels: int
    """bytes that the crops would take as plain pixels in memory"""
    memory: int
    """bytes of this machine"""

    @property
    def loading(self) -> float:
        """Microseconds of one core a person."""
        return sum(self.stages.values())

    @property
    def slowest(self) -> str:
        """The stage that takes the most."""
        return max(self.stages, key=lambda name: self.stages[name])

    def loads(self, workers: int) -> float:
        """Persons a second that so many processes cut; without any the training process does."""
        return 1e6 * max(1, workers) / self.loading

    def trains(self, workers: int) -> float:
        """Persons a second that the whole run would see: without workers it cuts and steps by turns."""
        return min(self.loads(workers), 1e6 / self.step) if workers else 1e6 / (self.loading + self.step)


def measure_loader(config: RunConfig, *, batches: int, log: RunLog) -> LoaderCost:
    """Cut some batches of a run and take some of its steps, on its own device."""
    device = choose_device(config.train.device, option="train.device")
    sources = open_sources(config, log=log, device=device)
    config = settled(config, sources.train.skeleton, log)
    built = set_up(config, sources, device=device, world=1, log=log, first_batch_only=True)
    plan = built.batches
    planned = PlannedBatches(plan, start=0, stop=batches * plan.steps_together, rank=0, world=1)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as the processes that cut crops have it
    with log.bar("cutting crops", len(planned)) as bar:
        stages = _stages(built.dataset, planned, bar.advance)
    cv2.setNumThreads(threads)
    batch = built.dataset.__getitems__(plan.batch(0)).to(device)
    codec = built.distiller.student.codec
    count = len(batch)
    return LoaderCost(
        stages=stages,
        encode=1e6 * _seconds(lambda: codec.encode(batch.keypoints, batch.weight), device) / count,
        step=1e6 * _seconds(_step_of(config, built.distiller.to(device), batch), device) / count,
        persons_per_picture=len(built.dataset) / len(np.unique(pictures_of(sources.train, built.labels))),
        plain_pixels=bytes_kept(built.dataset, CropsConfig().density),
        memory=int(memory_of(torch.device("cpu"))),
    )


def _stages(dataset: TopDownDataset, planned: PlannedBatches, progress: Callable[[int], None]) -> dict[str, float]:
    """Microseconds a person, by stage; the first batch warms up."""
    profile, persons = cProfile.Profile(time.process_time), 0
    for number, pairs in enumerate(JoinedBatches(planned)):
        if number == 0:
            dataset.__getitems__(pairs)
        profile.runcall(dataset.__getitems__, pairs)
        persons += len(pairs)
        progress(len(pairs) // planned.plan.batch_size)
    return stages_of(profile, persons)


def stages_of(profile: cProfile.Profile, persons: int) -> dict[str, float]:
    """Microseconds a person, by stage, of a profile of some batches."""
    took: dict[str, float] = {}
    for (file, _, name), (_, _, _, seconds, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if Path(file).parent.name == "data":
            took[name] = took.get(name, 0.0) + seconds
    found = {stage: sum(took.get(name, 0.0) for name in names) for stage, names in STAGES.items()}
    found["collate"] -= found["colour"]  # which is called on the way into the batch
    return {
        "draw": 1e6 * max(0.0, took["__getitems__"] - sum(found.values())) / persons,
        **{stage: 1e6 * max(0.0, seconds) / persons for stage, seconds in found.items()},
    }


def _step_of(config: RunConfig, distiller: Distiller, batch: PoseBatch) -> Callable[[], None]:
    optimiser = build_optimiser(config.train.optimiser, distiller, distiller.parameter_groups())
    distiller.train()

    def step() -> None:
        torch.stack(list(distiller(batch, 0.5).values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        distiller.after_step()

    return step


def _seconds(work: Callable[[], object], device: torch.device, *, turns: int = 3) -> float:
    """The median time of a piece of work, a first turn left out."""
    took = []
    for _ in range(turns + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


def advice(cost: LoaderCost, config: RunConfig, *, cores: int | None = None) -> list[str]:
    """What is the limit of a run, and what to change, in a sentence each."""
    workers, cores = config.train.workers, cores or os.cpu_count() or 1
    if (workers and cost.loads(workers) >= 1e6 / cost.step) or (cost.loading < _NEGLIGIBLE * cost.step):
        times = cost.loads(workers) * cost.step / 1e6
        return [f"The training step is the limit: crops come {times:.1f} times as fast as it takes them."]
    share = 100 * cost.stages[cost.slowest] / cost.loading
    lines = [f"Loading is the limit, and {cost.slowest} is its slowest stage ({share:.0f} %)."]
    wanted = math.ceil(cost.loading / cost.step)
    plain = config.data.crops is not None and config.data.crops.file is None
    if wanted > workers and cores > workers and not plain:
        enough = "" if wanted <= cores else f"; {wanted} would keep up with the step, and there are {cores} cores"
        lines.append(
            f"train.workers={min(wanted, cores)}: processes of their own cut crops beside the training{enough}."
        )
    if cost.slowest == "decode" and config.data.crops is None:
        lines += _other_decoding(cost, config)
    if cost.slowest == "decode" and config.data.crops is not None:
        lines.append("Pack again with a lower data.crops.density or --quality: smaller JPEGs, less detail.")
    if cost.slowest == "colour":
        lines.append("data.augment.colour=0: colours stay as they are, as in the published recipes.")
    if cost.slowest in ("warp", "draw", "collate") and len(lines) == 1:
        lines.append("These stages have no cheaper way: take a machine with more cores, or a smaller model.size.")
    return lines


def _other_decoding(cost: LoaderCost, config: RunConfig) -> list[str]:
    lines = []
    if config.data.sampler == "by_person" and cost.persons_per_picture >= _SHARED:
        lines.append(
            f"data.sampler=by_image: a picture is decoded once for its {cost.persons_per_picture:.1f} persons, who are "
            "then seen soon after one another."
        )
    lines.append(
        "`posestill data pack RECIPE --crops --out FILE`, then data.crops.file=FILE: smaller JPEGs are decoded, with "
        "the same draws."
    )
    if cost.plain_pixels < cost.memory / 2:
        lines.append(f"data.crops={{}}: plain pixels are kept in memory ({cost.plain_pixels / 1e9:.1f} GB).")
    return lines
