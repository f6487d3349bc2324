"""Worker processes that train runs, one at a time each: what kills one of them costs its run and no other."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch

from posestill.cluster.attempts import Failure, failure_of
from posestill.cluster.on_ray import TRIES, RayCluster
from posestill.engine.checkpoint import load_state
from posestill.engine.config import RunConfig, load_plugin
from posestill.engine.fit import fit
from posestill.engine.folder import DESCRIPTION, difference_from, read_description
from posestill.engine.setup import Sources, open_sources
from posestill.engine.surroundings import run_hash, surroundings
from posestill.schema import UserError
from posestill.study.gains import pack_similarity
from posestill.study.jobs import Job, at_hand
from posestill.study.people import keep_people


@dataclass(frozen=True)
class Task:
    """A run to be trained."""

    job: Job
    folders: Mapping[str, Path]
    """of the prepared models, by name"""
    work: Path
    threads: int
    number: int = 1
    """of the try"""

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.work / "runs" / self.job.name


Outcome = dict[str, Any] | Failure


class Crew(Protocol):
    """Somebody to give tasks to."""

    tries: int
    """of a task that fails by what may pass"""
    room: int
    """how many tasks there is room for at a time"""

    @property
    def takes_more(self) -> bool:
        """Whether another task may be given now."""

    @property
    def busy(self) -> int:
        """How many tasks are under way."""

    def start(self, task: Task) -> None:
        """Give a task to somebody."""

    def finished(self) -> Iterator[tuple[Task, Outcome]]:
        """The tasks that have ended when at least one has."""


class CrewOnRay:
    """The nodes of a Ray cluster."""

    tries = TRIES

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster, self.room = cluster, cluster.room

    @property
    def takes_more(self) -> bool:
        """See `Crew.takes_more`."""
        return self._cluster.takes_more

    @property
    def busy(self) -> int:
        """See `Crew.busy`."""
        return self._cluster.busy

    def start(self, task: Task) -> None:
        """See `Crew.start`."""
        self._cluster.start(train_job, task)

    def finished(self) -> Iterator[tuple[Task, Outcome]]:
        """See `Crew.finished`."""
        return self._cluster.ended()


class CrewHere:
    """So many workers, to whom tasks are given; leaving it by an error ends what they do, saved where it can be."""

    tries = 2

    def __init__(self, workers: int, plugins: Sequence[Path]) -> None:
        self.plugins, self.room = plugins, workers
        self._idle = [self._hire() for _ in range(workers)]
        self._busy: dict[Future[dict[str, Any]], tuple[ProcessPoolExecutor, Task]] = {}

    def __enter__(self) -> CrewHere:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for process in multiprocessing.active_children():
                process.terminate()  # or leaving would wait for the runs that are under way
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.shutdown(wait=error is None, cancel_futures=True)

    @property
    def takes_more(self) -> bool:
        """Whether a worker is idle."""
        return bool(self._idle)

    @property
    def busy(self) -> int:
        """How many workers are not."""
        return len(self._busy)

    def start(self, task: Task) -> None:
        """Give a task to an idle worker."""
        worker = self._idle.pop()
        self._busy[worker.submit(train_job, task)] = (worker, task)

    def finished(self) -> Iterator[tuple[Task, Outcome]]:
        """The tasks that have ended when at least one has; their workers are idle again."""
        for future in wait(self._busy, return_when=FIRST_COMPLETED).done:
            worker, task = self._busy.pop(future)
            outcome = outcome_of(future)
            if isinstance(future.exception(), BrokenProcessPool):
                worker.shutdown(wait=False)
                worker = self._hire()
            self._idle.append(worker)
            yield task, outcome

    def _hire(self) -> ProcessPoolExecutor:
        # A pool for each: in a common one the death of a worker would end all. Spawned, not forked: a fork would
        # inherit this process's threads half-way through whatever they do.
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (self.plugins,))


def outcome_of(future: Future[dict[str, Any]]) -> Outcome:
    """The row of a run that has ended, or why it has none."""
    try:
        return future.result()
    except BrokenProcessPool:
        return Failure("its process was killed, by hand or for want of memory", may_pass=True)
    except (Exception, KeyboardInterrupt) as error:  # whatever it is, it is this run's alone
        return failure_of(error, f"\n{error.__cause__}" if error.__cause__ is not None else "")


def train_job(task: Task) -> dict[str, Any]:
    """Train one job in this process, from and by the prepared models, and return its row; its run folder stays."""
    torch.set_num_threads(task.threads)
    job, folder = task.job, task.folder
    config = at_hand(job.config, task.folders)
    if not goes_on(config, folder):
        shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    result = fit(config, folder, resume=True, sources=_sources(config), quiet=True)
    evaluation = result.evaluation
    keep_people(result, task.work, job.name, of_split=f"{job.split}/{job.regime}")
    return {
        "split": job.split,
        "regime": job.regime,
        "arm": job.arm,
        "learning_rate": job.learning_rate,
        "seed": job.seed,
        "metrics": evaluation.metrics,
        "per_keypoint": evaluation.per_keypoint,
        "similarity": pack_similarity(evaluation.similarity),
        "conditions": evaluation.conditions,
        "steps": config.train.steps,
        "training_seconds": result.seconds,
        "seconds": time.monotonic() - began,
        "settings": job.settings,
        "method_version": job.version,
        "settings_hash": run_hash(job.config),
        "surroundings": surroundings(),
    }


def goes_on(config: RunConfig, folder: Path) -> bool:
    """Whether a run folder is that of an earlier try of this very run, by the same version of its method."""
    if not (folder / DESCRIPTION).is_file():
        return False
    try:
        state = load_state(folder / "last")
        known = state is None or state.method_version in (None, config.method.version)
        return known and difference_from(config, read_description(folder / DESCRIPTION)) is None
    except UserError:  # one of them is broken
        return False


def _begin(plugins: Sequence[Path]) -> None:
    end_with_parent()
    for path in plugins:
        load_plugin(path)


def end_with_parent() -> None:
    """A plan that is killed leaves no process behind that would go on writing into the folders of the next one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process: these end without a word
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()  # at once, if it has ended while this process was starting
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_OPEN: dict[str, Sources] = {}


def _sources(config: RunConfig) -> Sources:
    """Open sources are kept for the next run of this process: synthetic people are rendered once."""
    key = json.dumps([config.data.train.model_dump(mode="json"), config.data.val.model_dump(mode="json")])
    if key not in _OPEN:
        _OPEN.clear()
        _OPEN[key] = open_sources(config)
    return _OPEN[key]
