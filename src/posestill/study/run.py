"""Running a plan: what is finished is skipped, what is not is trained, and the tables are made from the rows alone.

A plan that was stopped goes on where it was, and a plan that grew runs what is new. A plan that is `finished` runs
nothing: its tables are those of the plan and the rows in `runs.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from posestill.engine.config import load_run
from posestill.engine.differences import first_difference
from posestill.engine.fit import fit
from posestill.engine.folder import LOCK
from posestill.engine.log import RunLog
from posestill.engine.surroundings import surroundings
from posestill.evaluation.evaluate import Share, evaluate_model
from posestill.files import refuse_taken
from posestill.schema import UserError, validate
from posestill.study.agreement import agreement
from posestill.study.gains import compare_rows, pack_similarity
from posestill.study.jobs import Asked, Job, Resolver, at_hand, chosen_rates, confirming, screening, tuning
from posestill.study.lines import Row
from posestill.study.page import said_of_test, write_comparison
from posestill.study.plan import Plan, load_plan
from posestill.study.pool import Workshop, is_finished, run_jobs
from posestill.study.publish import check_writable
from posestill.study.rehearse import rehearse
from posestill.study.results import GATHERED, LOOSE, Results
from posestill.study.step_time import measure_steps
from posestill.teachers.base import ModelTeacher
from posestill.teachers.lock import claimed

Stage = Literal["tune", "screen", "confirm"]
STAGES: tuple[Stage, ...] = ("tune", "screen", "confirm")


def run_and_write(path: Path, shop: Workshop, *, stages: Sequence[str] = STAGES) -> Path:
    """Run the plan in a file as far as `stages` go, and write its tables and pictures; returns the path of the page."""
    unknown = set(stages) - {*STAGES, "none"}
    if unknown:
        raise UserError(f"no stage '{unknown.pop()}': tune, screen, confirm, or none for tables of what is finished")
    wanted = [stage for stage in STAGES if stage in stages]
    plan, log = load_plan(path), RunLog(None)
    if plan.finished is not None and wanted:
        raise UserError(
            f"{path}: this study was finished at the tag {plan.finished}, and none of its runs is done again. "
            "`--stage none` draws its tables; a copy of the plan under another name, without `finished`, starts a new "
            "study"
        )
    if not any((shop.results / name).exists() for name in (GATHERED, LOOSE)):
        refuse_taken(shop.results, ("table.md", "summary.json"), what="--results")
        if not (shop.work / "runs").is_dir():
            refuse_taken(shop.work, ("report.html",), what="--work")
    results = Results.read(shop.results)
    if plan.finished is not None:
        _need_all_gathered(path, plan.finished, results)
    else:
        with ExitStack() as held:
            if wanted:
                held.enter_context(_at_work_in(shop.work))
            run_plan(plan, shop, results, log, stages=wanted)
        if not results.rows:
            raise UserError(f"nothing is finished in {shop.results}: run the plan first")
        measure_teachers(plan, shop, results, log)
        ran = {"name": path.name, "command": _command(path, shop), "plan": plan.model_dump(mode="json")}
        # Tables alone leave the plan as it was when the rows were run: else nobody could tell that it has changed.
        results.compact(ran if wanted or results.plan is None else results.plan)
    if not wanted:
        _tell_agreement(path, plan, results, log)
    told: Row = {"name": path.name, "command": _command(path, shop)}
    if plan.finished is not None:
        assert results.plan is not None
        told, plan = results.plan, plan_as_run(results)
    confirmed = compare_rows(plan, results.rows, "test", chosen_rates(plan, results.rows))
    if warning := said_of_test(plan, confirmed):
        log.say(warning)
    report = write_comparison(plan, results, chosen_rates(plan, results.rows), name=told["name"],
                              command=told["command"], report=shop.work / "report.html")  # fmt: skip
    log.say((shop.results / "table.md").read_text(encoding="utf-8"))
    return report


def _at_work_in(work: Path) -> AbstractContextManager[None]:
    """Within it no other process runs a plan in this folder."""
    work.mkdir(parents=True, exist_ok=True)
    return claimed(
        work / LOCK,
        refusal=lambda holder: (
            f"{work} is in use by process {holder}, which runs a plan in it: wait until that has ended, or give this "
            "one a folder of its own by --work"
        ),
    )


def run_plan(plan: Plan, shop: Workshop, results: Results, log: RunLog, *, stages: Sequence[Stage] = STAGES) -> None:
    """Run what the stages ask for and has no row yet."""
    rehearse(plan, _unfinished(plan, results, stages), shop.folders_of(plan))
    for stage in stages:
        asked = tuning(plan) if stage == "tune" else _at_chosen_rates(stage, plan, results)
        if asked:
            measure_lengths(plan, asked, shop, results, log)
            jobs = Resolver(plan, results.lengths).jobs(asked)
            prepare(plan, [job for job in jobs if not is_finished(job, results)], shop, results, log)
            run_jobs(stage, jobs, plan, shop, results, log)


def _unfinished(plan: Plan, results: Results, stages: Sequence[Stage]) -> list[Job]:
    """A job for each run of the stages that may be missing, at the first learning rate where none is chosen yet.

    Lengths that are not measured yet count as 1.
    """
    lengths = {(regime, arm): {"ratio": 1.0} for regime in plan.regimes for arm in plan.arms_of(regime)}
    resolver = Resolver(plan, {**lengths, **results.lengths})
    rates = {(regime, arm): plan.learning_rates[0] for regime in plan.regimes for arm in plan.arms_of(regime)}
    asked = [
        *(tuning(plan) if "tune" in stages else []),
        *(screening(plan, rates) if "screen" in stages else []),
        *(confirming(plan, rates) if "confirm" in stages else []),
    ]
    jobs = {(each.split, each.regime, each.arm): each for each in resolver.jobs(asked)}
    return [job for job in jobs.values() if results.run(job.name) is None]


def prepare(plan: Plan, jobs: Sequence[Job], shop: Workshop, results: Results, log: RunLog) -> None:
    """Train the models that these jobs start from or learn from, where they are not there yet."""
    folders, wanted = shop.folders_of(plan), json.dumps([job.settings for job in jobs], ensure_ascii=False)
    needed: list[str] = []
    for name in reversed(plan.prepare):  # a prepared run may need those before it
        asked = [change for other in needed for change in plan.prepare[other].set]
        if any(f"<{name}>" in text for text in (wanted, *asked)):
            needed.insert(0, name)
    for name in needed:
        if folders[name].is_dir() and name in results.prepared:
            continue
        check_writable(shop.results)
        check_writable(shop.work)
        log.say(f"preparing {name} ({plan.prepare[name].recipe}) ...")
        folder = folders[name].parent
        config = at_hand(load_run(plan.prepare[name].recipe, plan.prepare[name].set), folders)
        fit(config, folder, resume=(folder / "config.yaml").is_file())
        results.add_prepared(name, json.loads((folder / "eval.json").read_text(encoding="utf-8")))


def measure_lengths(plan: Plan, asked: Sequence[Asked], shop: Workshop, results: Results, log: RunLog) -> None:
    """Measure how long the arms are that get another's time, once: a step of the other beside one of their own."""
    wanted = {(each.regime, each.arm): each for each in asked if plan.arms[each.arm].as_long_as is not None}
    for (regime, arm), each in wanted.items():
        if (regime, arm) in results.lengths:
            continue
        other = plan.arms[arm].as_long_as
        assert other is not None
        # With any length at all: only a step of it is timed.
        own = Resolver(plan, {(regime, arm): {"ratio": 1.0}})
        jobs = own.jobs([replace(each, arm=other), each])
        prepare(plan, jobs, shop, results, log)
        log.say(f"timing steps of {other} and {arm} in {regime} ...")
        method, control = (at_hand(job.config, shop.folders_of(plan)) for job in jobs)
        measured = results.add_length(regime, arm, {"as_long_as": other, **measure_steps(method, control)})
        log.say(f"a step of {other} takes {measured['ratio']:.2f} times as long: so long is {arm} trained")


def measure_teachers(plan: Plan, shop: Workshop, results: Results, log: RunLog) -> None:
    """Evaluate each regime's teacher on the very persons of its runs, once: the gap that its students may close.

    A teacher that is not at hand, has another skeleton or is no pose model of ours is passed over.
    """
    resolver, folders = Resolver(plan, results.lengths), shop.folders_of(plan)
    ran = {(row["split"], row["regime"], row["arm"]) for row in results.rows}
    places = dict.fromkeys((split, regime) for split, regime, _ in sorted(ran) if regime in plan.regimes)
    for split, regime in places:
        if (split, regime) in results.teachers:
            continue
        arms = (
            resolver.job(Asked(split, regime, arm, learning_rate=1.0, seed=0)).config
            for arm in plan.arms_of(regime)
            if (split, regime, arm) in ran
        )
        asked = next((config for config in arms if config.teacher is not None), None)
        if asked is None:
            continue
        assert asked.teacher is not None
        try:
            at_work = at_hand(asked, folders).teacher
            assert at_work is not None
            teacher = at_work.model_copy(update={"cache": False}).build()
        except UserError as error:
            log.say(f"the teacher of {regime} is not measured on {split}: {error}")
            continue
        source = asked.data.val.build()
        if not isinstance(teacher, ModelTeacher) or teacher.skeleton.names != source.skeleton.names:
            continue
        log.say(f"measuring the teacher of {regime} on {split} ...")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        found = evaluate_model(teacher.model.to(device), source, asked.evaluate, Share(device=device))
        figures = {
            "teacher": asked.teacher.model_dump(mode="json"),
            "metrics": found.metrics,
            "similarity": pack_similarity(found.similarity),
            "conditions": found.conditions,
            "surroundings": surroundings(),
        }
        results.add_teacher(split, regime, figures)


def plan_as_run(results: Results) -> Plan:
    """The plan that the rows were run by, as `runs.jsonl` holds it."""
    where = results.folder / GATHERED
    if results.plan is None:
        raise UserError(f"{where} is not there: run the plan first, or take the file from version control")
    return validate(Plan, results.plan["plan"], where=f"{where}, line 1, plan")


def _at_chosen_rates(stage: Stage, plan: Plan, results: Results) -> list[Asked]:
    rates = chosen_rates(plan, results.rows)
    return screening(plan, rates) if stage == "screen" else confirming(plan, rates)


def _need_all_gathered(path: Path, tag: str, results: Results) -> None:
    """A finished study is what is committed of it: `runs.jsonl`."""
    if results.plan is None:
        raise UserError(
            f"{path} says that its study was finished at the tag {tag}, but there is no "
            f"{results.folder / GATHERED}: take that file from version control"
        )
    if results.loose:
        raise UserError(
            f"{path} says that its study was finished at the tag {tag}, but {results.loose[0]} is not yet in "
            f"{results.folder / GATHERED}: gather it by `--stage none` without `finished` in the plan, or remove it"
        )


def _tell_agreement(path: Path, plan: Plan, results: Results, log: RunLog) -> None:
    """Say whether plan and rows still belong together; never an error, for the tables hold what was measured."""
    assert results.plan is not None
    verdict = agreement(plan, results.rows, results.lengths)
    for sentence in verdict.sentences():
        log.say(sentence)
    if verdict.unresolved:
        log.say(f"The rows were run by `{results.plan['command']}`.")
    was, now = ({**side, "finished": None} for side in (results.plan["plan"], plan.model_dump(mode="json")))
    found = first_difference(was, now, plan.model_dump(mode="json", exclude_defaults=True))
    told = f"differ: {found}" if found else "are the same"
    log.say(f"The plan in {results.folder / GATHERED} and {path} {told}.")


def _command(path: Path, shop: Workshop) -> str:
    return " ".join(["posestill compare", str(path), *(f"--plugin {each}" for each in shop.plugins)])
