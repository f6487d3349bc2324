"""Training the runs of a plan that have no row yet, by several one-thread processes."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from posestill.engine.config import RunConfig, dump_run, load_plugin
from posestill.engine.fit import fit
from posestill.engine.log import Bar, RunLog
from posestill.engine.setup import Sources, open_sources
from posestill.engine.surroundings import run_hash, surroundings
from posestill.schema import UserError
from posestill.study.agreement import difference_of
from posestill.study.gains import pack_similarity
from posestill.study.jobs import Job, at_hand
from posestill.study.lines import Row, name_of
from posestill.study.plan import Plan
from posestill.study.results import Results


@dataclass(frozen=True)
class Workshop:
    """Where a plan's runs happen and what they may use."""

    results: Path
    """the rows of all runs, the table, the summary and a few pictures: what is committed"""
    work: Path
    """run folders, prepared models and the report: what can be thrown away"""
    processes: int | None = None
    """runs at a time, one a process; None: one a core on a CPU, one on a GPU"""
    plugins: tuple[Path, ...] = ()
    """Python files that every process loads, for arms that name parts of one's own"""
    keep_runs: bool = False
    """leave the run folders, with their models, in `work`"""

    def folders_of(self, plan: Plan) -> dict[str, Path]:
        """Where each prepared model of a plan lies, or will lie, by its name."""
        return {name: self.work / "prepared" / name / "best" for name in plan.prepare}


def run_jobs(what: str, jobs: Sequence[Job], plan: Plan, shop: Workshop, results: Results, log: RunLog) -> None:
    """Train the jobs that have no row yet and publish a row for each."""
    unfinished = [job for job in {job.name: job for job in jobs}.values() if not is_finished(job, results)]
    waiting, twins = _apart(unfinished, results)
    shared = sum(map(len, twins.values()))
    log.say(
        f"{what}: {len(jobs)} runs, {len(jobs) - len(waiting) - shared} finished already"
        + (f", {shared} are the same as others" if shared else "")
    )
    if not waiting:
        return
    workers = min(shop.processes or (1 if torch.cuda.is_available() else os.cpu_count() or 1), len(waiting))
    clock, folders = _Clock(waiting, workers, results.rows), shop.folders_of(plan)
    # Spawned, not forked: a fork would inherit this process's threads half-way through whatever they do.
    with (
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (shop.plugins,)) as pool,
        log.bar(what, len(waiting)) as bar,
    ):
        running: dict[Future[dict[str, Any]], Job] = {}
        queue = iter(waiting)
        try:
            while _top_up(running, queue, workers, pool, shop, folders):
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    row = results.add_run({**_outcome(future, job), "protocol": plan.protocol_hash()})
                    is_finished(job, results)  # where another process was first, its row must be of the same run
                    _share(row, twins.get(job.identity, ()), results)
                    _tell(bar, clock, job, row)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # or leaving the pool would wait for the runs that are under way
            raise


def is_finished(job: Job, results: Results) -> bool:
    """Whether the job has its row; a `UserError` names the first difference where that was run with other settings."""
    if (row := results.run(job.name)) is None:
        return False
    if (difference := difference_of(row, job)) is not None:
        raise UserError(
            f"{job.name}: {difference}. A changed plan gets a name and a results folder of its own; to run this one "
            f"again, remove {results.place_of(job.name)}"
        )
    return True


def train_job(job: Job, folders: Mapping[str, Path], work: Path, threads: int, keep: bool) -> dict[str, Any]:
    """Train one job in this process, from and by the prepared models in `folders`, and return its row."""
    torch.set_num_threads(threads)
    config, folder = at_hand(job.config, folders), work / "runs" / job.name
    described = folder / "config.yaml"
    if described.is_file() and described.read_text() != dump_run(config):
        shutil.rmtree(folder)
    began = time.monotonic()
    result = fit(config, folder, resume=described.is_file(), sources=_sources(config), quiet=True)
    evaluation = result.evaluation
    row = {
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
    if not keep:
        shutil.rmtree(folder)
    return row


class _Clock:
    """How long the rest will take, by what the same arms took so far."""

    def __init__(self, jobs: Sequence[Job], workers: int, rows: Sequence[Row]) -> None:
        self.left, self.workers = list(jobs), workers
        self.taken = [((row["regime"], row["arm"]), row["seconds"]) for row in rows]

    def finished(self, job: Job, seconds: float) -> float:
        """Seconds that are left after this job."""
        self.left.remove(job)
        self.taken.append(((job.regime, job.arm), seconds))
        return sum(self._expected(each) for each in self.left) / self.workers

    def _expected(self, job: Job) -> float:
        for alike in ((job.regime, job.arm), (job.regime, None), (None, job.arm), (None, None)):
            same = [
                seconds
                for (regime, arm), seconds in self.taken
                if alike[0] in (None, regime) and alike[1] in (None, arm)
            ]
            if same:
                return sum(same) / len(same)
        return 0.0


def _tell(bar: Bar, clock: _Clock, job: Job, row: Row) -> None:
    left = clock.finished(job, row["seconds"])
    bar.advance(1, f"{job.name}: mean OKS {100 * row['metrics']['mean_oks']:.1f} · about {left / 60:.0f} min left")


def _apart(jobs: Sequence[Job], results: Results) -> tuple[list[Job], dict[str, list[Job]]]:
    """The jobs to be trained, and by their identity those that are the very same run under another name.

    Regimes that differ in the teacher alone have one student alone between them. What is finished is shared at once.
    """
    rows = results.rows
    trained: dict[str, Job] = {}
    twins: dict[str, list[Job]] = {}
    for job in jobs:
        if (row := next((each for each in rows if difference_of(each, job) is None), None)) is not None:
            _share(row, [job], results)
        elif job.identity in trained:
            twins.setdefault(job.identity, []).append(job)
        else:
            trained[job.identity] = job
    return list(trained.values()), twins


def _share(row: Row, twins: Sequence[Job], results: Results) -> None:
    for job in twins:
        named = {"split": job.split, "regime": job.regime, "arm": job.arm, "same_run_as": name_of(row)}
        results.add_run({**row, **named})


def _top_up(
    running: dict[Future[dict[str, Any]], Job], queue: Iterator[Job], workers: int, pool: ProcessPoolExecutor,
    shop: Workshop, folders: Mapping[str, Path],
) -> bool:  # fmt: skip
    """Hand out as many jobs as there are idle workers; False when nothing runs any more."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    while len(running) < workers and (job := next(queue, None)) is not None:
        running[pool.submit(train_job, job, folders, shop.work, threads, shop.keep_runs)] = job
    return bool(running)


def _begin(plugins: Sequence[Path]) -> None:
    for path in plugins:
        load_plugin(path)
    end_with_parent()


def end_with_parent() -> None:
    """A plan that is killed leaves no process behind that would go on writing into the folders of the next one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process: these end without a word
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()  # at once, if it has ended while this process was starting
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _outcome(future: Future[dict[str, Any]], job: Job) -> dict[str, Any]:
    try:
        return future.result()
    except UserError as error:
        raise UserError(f"{job.name}: {error}") from None


_OPEN: dict[str, Sources] = {}


def _sources(config: RunConfig) -> Sources:
    """Open sources are kept for the next run of this process: synthetic people are rendered once."""
    key = json.dumps([config.data.train.model_dump(mode="json"), config.data.val.model_dump(mode="json")])
    if key not in _OPEN:
        _OPEN.clear()
        _OPEN[key] = open_sources(config)
    return _OPEN[key]
