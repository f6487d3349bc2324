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
from typing import Any

import torch

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


@dataclass(frozen=True)
class Failure:
    """Why a run has no row."""

    reason: str
    may_pass: bool
    """True: another try may fare better"""
    trace: str = ""
    """of an error that is not the user's"""


Outcome = dict[str, Any] | Failure


class Crew:
    """So many workers, to whom tasks are given; leaving it by an error ends what they do, saved where it can be."""

    def __init__(self, workers: int, plugins: Sequence[Path]) -> None:
        self.plugins = plugins
        self.idle = [self._hire() for _ in range(workers)]
        self.busy: dict[Future[dict[str, Any]], tuple[ProcessPoolExecutor, Task]] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for process in multiprocessing.active_children():
                process.terminate()  # or leaving would wait for the runs that are under way
        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            worker.shutdown(wait=error is None, cancel_futures=True)

    def start(self, task: Task) -> None:
        """Give a task to an idle worker."""
        worker = self.idle.pop()
        self.busy[worker.submit(train_job, task)] = (worker, task)

    def finished(self) -> Iterator[tuple[Task, Outcome]]:
        """The tasks that have ended when at least one has; their workers are idle again."""
        for future in wait(self.busy, return_when=FIRST_COMPLETED).done:
            worker, task = self.busy.pop(future)
            outcome = outcome_of(future)
            if isinstance(future.exception(), BrokenProcessPool):
                worker.shutdown(wait=False)
                worker = self._hire()
            self.idle.append(worker)
            yield task, outcome

    def _hire(self) -> ProcessPoolExecutor:
        # A pool for each: in a common one the death of a worker would end all. Spawned, not forked: a fork would
        # inherit this process's threads half-way through whatever they do.
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (self.plugins,))


def outcome_of(future: Future[dict[str, Any]]) -> Outcome:
    """The row of a run that has ended, or why it has none."""
    try:
        return future.result()
    except UserError as error:
        return Failure(str(error), may_pass=False)
    except BrokenProcessPool:
        return Failure("its process was killed, by hand or for want of memory", may_pass=True)
    except KeyboardInterrupt as error:
        return Failure(str(error) or "its process was interrupted", may_pass=True)
    except Exception as error:  # whatever it is, it is this run's alone
        trace = f"\n{error.__cause__}" if error.__cause__ is not None else ""
        return Failure(f"{type(error).__name__}: {' '.join(str(error).split())}", may_pass=True, trace=trace)


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
