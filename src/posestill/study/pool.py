"""Training the runs of a plan that have no row yet, each of which may fail without the others."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from posestill.cluster.attempts import Failure
from posestill.cluster.on_ray import RayCluster
from posestill.cluster.publish import check_writable
from posestill.cluster.shards import WHOLE, Shard
from posestill.engine.log import Bar, RunLog
from posestill.schema import UserError
from posestill.study.agreement import difference_of
from posestill.study.crew import Crew, CrewHere, CrewOnRay, Task
from posestill.study.jobs import Job
from posestill.study.lines import Row, name_of
from posestill.study.plan import Plan
from posestill.study.results import Results

Given = TypeVar("Given")
Result = TypeVar("Result")


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
    shard: Shard = WHOLE
    """the share of the plan that is run here; 1/1 is all of it"""
    waits: bool = False
    """wait for other shards where the plan cannot go on without them"""
    cluster: RayCluster | None = None
    """where runs are trained; None: on this machine"""

    def do(self, function: Callable[[Given], Result], given: Given, log: RunLog) -> Result:
        """The result of a function, called in this process or on a node of the cluster."""
        return function(given) if self.cluster is None else self.cluster.call(function, given, say=log.say)

    @contextmanager
    def crew(self, tasks: int) -> Iterator[Crew]:
        """Who trains so many runs."""
        if self.cluster is not None:
            yield CrewOnRay(self.cluster)
            return
        at_once = self.processes or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
        with CrewHere(min(at_once, tasks), self.plugins) as crew:
            yield crew

    def threads(self, crew: Crew) -> int:
        """Of each run."""
        return 1 if self.cluster is not None else max(1, (os.cpu_count() or 1) // crew.room)

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
    check_writable(shop.results)
    check_writable(shop.work)
    failed: dict[str, str] = {}
    with shop.crew(len(waiting)) as crew, log.bar(what, len(waiting)) as bar:
        clock, folders = _Clock(waiting, crew.room, results.rows), shop.folders_of(plan)
        queue = deque(Task(job, folders, shop.work, shop.threads(crew)) for job in waiting)
        while queue or crew.busy:
            while queue and crew.takes_more:
                crew.start(queue.popleft())
            for task, outcome in crew.finished():
                job = task.job
                if isinstance(outcome, Failure):
                    if outcome.may_pass and task.number < crew.tries:
                        log.say(f"{job.name}: {outcome.reason}; it is tried once more")
                        queue.append(replace(task, number=task.number + 1))
                    else:
                        log.say(f"{job.name} FAILED: {outcome.reason}{outcome.trace}")
                        failed[job.name] = outcome.reason
                        bar.advance(1, f"{job.name} failed")
                    continue
                row = _publish({**outcome, "protocol": plan.protocol_hash()}, task, results)
                if not shop.keep_runs:
                    shutil.rmtree(task.folder, ignore_errors=shop.cluster is not None)  # it may lie on a node's disk
                is_finished(job, results)  # where another process was first, its row must be of the same run
                _share(row, twins.get(job.identity, ()), results)
                _tell(bar, clock, job, row)
    if failed:
        name, reason = next(iter(failed.items()))
        raise UserError(
            f"{what}: {len(failed)} of {len(waiting)} runs failed, the first of them {name}: {reason}. The others are "
            "kept, and the same command runs those that failed again; a learning rate at which an arm's loss is not "
            "finite has to leave the plan"
        )


def _publish(row: Row, task: Task, results: Results) -> Row:
    """Publish a run's row, which counts; where that cannot be done, the run folder stays and nothing is lost."""
    try:
        return results.add_run(row)
    except OSError as error:
        raise UserError(
            f"{task.job.name} is finished, but its row could not be written to {results.folder} "
            f"({error.strerror or error}). {task.folder} is kept: make room, and the same command writes the row "
            "without training it again"
        ) from None


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
