"""Running a plan: what is finished is skipped, what is not is trained by several one-thread processes.

One JSON a run, written when the run ends: a plan that was stopped goes on where it was, a plan that grew runs what is
new, and tables are made from the files alone.
"""

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
from typing import Any, Literal

import torch

from posestill.engine.config import RunConfig, dump_run, load_plugin, load_run
from posestill.engine.fit import fit
from posestill.engine.log import Bar, RunLog
from posestill.engine.setup import Sources, open_sources
from posestill.engine.surroundings import surroundings
from posestill.evaluation.evaluate import Share, evaluate_model
from posestill.files import write_json
from posestill.schema import UserError
from posestill.study.gains import pack_similarity, read_rows
from posestill.study.page import write_comparison
from posestill.study.plan import (
    Job,
    Plan,
    chosen_rates,
    confirming_jobs,
    filled,
    load_plan,
    make_job,
    screening_jobs,
    tuning_jobs,
)
from posestill.teachers.base import ModelTeacher

Stage = Literal["tune", "screen", "confirm"]
STAGES: tuple[Stage, ...] = ("tune", "screen", "confirm")


@dataclass(frozen=True)
class Workshop:
    """Where a plan's runs happen and what they may use."""

    results: Path
    """one JSON a run: what is committed"""
    work: Path
    """run folders and crops: what can be thrown away"""
    processes: int | None = None
    """runs at a time, one a process; None: one a core on a CPU, one on a GPU"""
    plugins: tuple[Path, ...] = ()
    """Python files that every process loads, for arms that name parts of one's own"""
    keep_runs: bool = False
    """leave the run folders, with their models, in `work`"""


def run_and_write(path: Path, shop: Workshop, *, stages: Sequence[str] = STAGES) -> Path:
    """Run the plan in a file as far as `stages` go, and write its tables and pictures; returns the path of the page."""
    unknown = set(stages) - {*STAGES, "none"}
    if unknown:
        raise UserError(f"no stage '{unknown.pop()}': tune, screen, confirm, or none for tables of what is finished")
    plan, log = load_plan(path), RunLog(None)
    rows = run_plan(plan, shop, log, stages=[stage for stage in STAGES if stage in stages])
    if not rows:
        raise UserError(f"nothing is finished in {shop.results}: run the plan first")
    measure_teachers(plan, rows, shop, log)
    command = " ".join(["posestill compare", str(path), *(f"--plugin {each}" for each in shop.plugins)])
    report = write_comparison(plan, rows, chosen_rates(plan, rows), shop.results, name=path.name, command=command)
    log.say((shop.results / "table.md").read_text())
    return report


def run_plan(plan: Plan, shop: Workshop, log: RunLog, *, stages: Sequence[Stage] = STAGES) -> list[dict[str, Any]]:
    """Run what the stages ask for and is not finished; returns the rows of every finished run of the plan."""
    folders = {name: shop.work / "prepared" / name / "best" for name in plan.prepare}
    for stage in stages:
        if stage == "tune" and len(plan.learning_rates) == 1:
            continue
        if stage == "tune":
            jobs = tuning_jobs(plan, folders)
        else:
            rates = chosen_rates(plan, read_rows(shop.results))
            ask = screening_jobs if stage == "screen" else confirming_jobs
            jobs = ask(plan, folders, rates)
        prepare(plan, [job for job in jobs if not _is_finished(job, shop.results)], folders, shop, log)
        run_jobs(stage, jobs, shop, log, protocol=plan.protocol_hash())
    return read_rows(shop.results)


def prepare(plan: Plan, jobs: Sequence[Job], folders: Mapping[str, Path], shop: Workshop, log: RunLog) -> None:
    """Train the models that these jobs start from or learn from, where they are not there yet."""
    wanted = " ".join(dump_run(job.config) for job in jobs)
    needed: list[str] = []
    for name in reversed(plan.prepare):  # a prepared run may need those before it
        asked = [change for other in needed for change in plan.prepare[other].set]
        if str(folders[name]) in wanted or any(f"<{name}>" in change for change in asked):
            needed.insert(0, name)
    for name in needed:
        if folders[name].is_dir() and (shop.results / "prepared" / f"{name}.json").is_file():
            continue
        log.say(f"preparing {name} ({plan.prepare[name].recipe}) ...")
        changes = [filled(change, folders) for change in plan.prepare[name].set]
        folder = folders[name].parent
        fit(load_run(plan.prepare[name].recipe, changes), folder, resume=(folder / "config.yaml").is_file())
        write_json(shop.results / "prepared" / f"{name}.json", json.loads((folder / "eval.json").read_text()))


def measure_teachers(plan: Plan, rows: Sequence[Mapping[str, Any]], shop: Workshop, log: RunLog) -> None:
    """Evaluate each regime's teacher on the very persons of its runs, once: the gap that its students may close.

    One JSON a split and regime below `teachers`. A teacher that is not at hand, has another skeleton or is no pose
    model of ours is passed over.
    """
    folders = {name: shop.work / "prepared" / name / "best" for name in plan.prepare}
    for split, regime in dict.fromkeys((row["split"], row["regime"]) for row in rows if row["regime"] in plan.regimes):
        path = shop.results / "teachers" / split / f"{regime}.json"
        if path.is_file() or "pseudo_label" not in plan.arms_of(regime):
            continue
        asked = make_job(plan, split=split, regime=regime, arm="pseudo_label", learning_rate=1.0, seed=0,
                         folders=folders).config  # fmt: skip
        try:
            assert asked.teacher is not None
            teacher = asked.teacher.model_copy(update={"cache": False}).build()
        except UserError as error:
            log.say(f"the teacher of {regime} is not measured on {split}: {error}")
            continue
        source = asked.data.val.build()
        if not isinstance(teacher, ModelTeacher) or teacher.skeleton.names != source.skeleton.names:
            continue
        log.say(f"measuring the teacher of {regime} on {split} ...")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        found = evaluate_model(teacher.model.to(device), source, asked.evaluate, Share(device=device))
        write_json(
            path,
            {
                "teacher": asked.teacher.model_dump(mode="json"),
                "metrics": found.metrics,
                "similarity": pack_similarity(found.similarity),
                "conditions": found.conditions,
                "surroundings": surroundings(),
            },
        )


def run_jobs(what: str, jobs: Sequence[Job], shop: Workshop, log: RunLog, *, protocol: str = "") -> None:
    """Train the jobs that have no result yet and write one JSON each."""
    waiting, twins = _apart([job for job in _once(jobs) if not _is_finished(job, shop.results)], shop.results)
    shared = sum(map(len, twins.values()))
    log.say(
        f"{what}: {len(jobs)} runs, {len(jobs) - len(waiting) - shared} finished already"
        + (f", {shared} are the same as others" if shared else "")
    )
    if not waiting:
        return
    workers = min(shop.processes or (1 if torch.cuda.is_available() else os.cpu_count() or 1), len(waiting))
    clock = _Clock(waiting, workers, read_rows(shop.results))
    # Spawned, not forked: a fork would inherit this process's threads half-way through whatever they do.
    with (
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (shop.plugins,)) as pool,
        log.bar(what, len(waiting)) as bar,
    ):
        running: dict[Future[dict[str, Any]], Job] = {}
        queue = iter(waiting)
        try:
            while _top_up(running, queue, workers, pool, shop):
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    row = {**_outcome(future, job), "protocol": protocol}
                    write_json(shop.results / f"{job.name}.json", row)
                    _share(row, job.name, twins.get(job.settings_hash, ()), shop.results)
                    _tell(bar, clock, job, row)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # or leaving the pool would wait for the runs that are under way
            raise


def train_job(job: Job, work: Path, threads: int, keep: bool) -> dict[str, Any]:
    """Train one job in this process and return its row."""
    torch.set_num_threads(threads)
    folder = work / "runs" / job.name
    described = folder / "config.yaml"
    if described.is_file() and described.read_text() != dump_run(job.config):
        shutil.rmtree(folder)
    began = time.monotonic()
    result = fit(job.config, folder, resume=described.is_file(), sources=_sources(job.config), quiet=True)
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
        "steps": job.config.train.steps,
        "training_seconds": result.seconds,
        "seconds": time.monotonic() - began,
        "settings_hash": job.settings_hash,
        "surroundings": surroundings(),
    }
    if not keep:
        shutil.rmtree(folder)
    return row


class _Clock:
    """How long the rest will take, by what the same arms took so far."""

    def __init__(self, jobs: Sequence[Job], workers: int, rows: Sequence[Mapping[str, Any]]) -> None:
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


def _tell(bar: Bar, clock: _Clock, job: Job, row: Mapping[str, Any]) -> None:
    left = clock.finished(job, row["seconds"])
    bar.advance(1, f"{job.name}: mean OKS {100 * row['metrics']['mean_oks']:.1f} · about {left / 60:.0f} min left")


def _once(jobs: Sequence[Job]) -> list[Job]:
    return list({job.name: job for job in jobs}.values())


def _apart(jobs: Sequence[Job], results: Path) -> tuple[list[Job], dict[str, list[Job]]]:
    """The jobs to be trained, and by their settings those that are the very same run under another name.

    Regimes that differ in the teacher alone have one student alone between them. What is finished is shared at once.
    """
    finished = {row["settings_hash"]: row for row in read_rows(results)}
    trained: dict[str, Job] = {}
    twins: dict[str, list[Job]] = {}
    for job in jobs:
        if (row := finished.get(job.settings_hash)) is not None:
            _share(row, f"{row['split']}/{row['regime']}/{row['arm']}", [job], results)
        elif job.settings_hash in trained:
            twins.setdefault(job.settings_hash, []).append(job)
        else:
            trained[job.settings_hash] = job
    return list(trained.values()), twins


def _share(row: Mapping[str, Any], name: str, twins: Sequence[Job], results: Path) -> None:
    for job in twins:
        named = {"split": job.split, "regime": job.regime, "arm": job.arm, "same_run_as": name}
        write_json(results / f"{job.name}.json", {**row, **named})


def _is_finished(job: Job, results: Path) -> bool:
    path = results / f"{job.name}.json"
    if not path.is_file():
        return False
    if (found := json.loads(path.read_text())["settings_hash"]) != job.settings_hash:
        raise UserError(
            f"{path} was measured with other settings ({found}, now {job.settings_hash}): a changed plan gets its own "
            "results folder, or remove that file to measure again"
        )
    return True


def _top_up(
    running: dict[Future[dict[str, Any]], Job], queue: Iterator[Job], workers: int, pool: ProcessPoolExecutor,
    shop: Workshop,
) -> bool:  # fmt: skip
    """Hand out as many jobs as there are idle workers; False when nothing runs any more."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    while len(running) < workers and (job := next(queue, None)) is not None:
        running[pool.submit(train_job, job, shop.work, threads, shop.keep_runs)] = job
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
