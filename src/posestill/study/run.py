"""Running a plan: what is finished is skipped, what is not is trained, and the tables are made from the rows alone.

A plan that was stopped goes on where it was, and a plan that grew runs what is new. A plan that is `finished` runs
nothing: its tables are those of the plan and the rows in `runs.jsonl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Literal

from posestill.cluster.shards import WHOLE
from posestill.engine.differences import first_difference
from posestill.engine.folder import LOCK
from posestill.engine.log import RunLog
from posestill.files import refuse_taken
from posestill.schema import UserError, validate
from posestill.study.agreement import agreement
from posestill.study.division import Division
from posestill.study.errands import measure_lengths, measure_teachers, prepare
from posestill.study.gains import compare_rows
from posestill.study.jobs import Asked, Job, Resolver, chosen_rates, confirming, screening, tuning
from posestill.study.lines import Row
from posestill.study.page import said_of_test, write_comparison
from posestill.study.plan import Plan, load_plan
from posestill.study.pool import Workshop, is_finished, run_jobs
from posestill.study.rehearse import rehearse
from posestill.study.results import GATHERED, LOOSE, Results
from posestill.teachers.lock import claimed, held

Stage = Literal["tune", "screen", "confirm"]
STAGES: tuple[Stage, ...] = ("tune", "screen", "confirm")
_TABLES_LOCK = ".lock-tables"


def run_and_write(path: Path, shop: Workshop, *, stages: Sequence[str] = STAGES) -> Path | None:
    """Run the plan in a file as far as `stages` go, and write its tables and pictures; returns the path of the page.

    None, and no table, where other shards have not finished theirs.
    """
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
    with ExitStack() as kept:
        if plan.finished is not None:
            _need_all_gathered(path, plan.finished, results)
        else:
            if wanted:
                kept.enter_context(_at_work_in(shop))
            if left := run_plan(plan, shop, results, log, stages=wanted).left():
                log.say(left)
                return None
            if shop.shard != WHOLE:  # two may find that they are the last
                kept.enter_context(held(shop.work / _TABLES_LOCK, say=log.say, meanwhile="the tables are written by"))
                results.refresh()
            _gather(path, plan, shop, results, log, wanted)
        return _write_tables(path, plan, shop, results, log, wanted)


def _gather(path: Path, plan: Plan, shop: Workshop, results: Results, log: RunLog, wanted: Sequence[Stage]) -> None:
    """Put all that is finished into `runs.jsonl`."""
    if not results.rows:
        raise UserError(f"nothing is finished in {shop.results}: run the plan first")
    measure_teachers(plan, shop, results, log)
    ran = {"name": path.name, "command": _command(path, shop), "plan": plan.model_dump(mode="json")}
    # Tables alone leave the plan as it was when the rows were run: else nobody could tell that it has changed.
    results.compact(ran if wanted or results.plan is None else results.plan)


def _write_tables(
    path: Path, plan: Plan, shop: Workshop, results: Results, log: RunLog, wanted: Sequence[Stage]
) -> Path:
    """Tables, pictures and page; returns the path of the page."""
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


def _at_work_in(shop: Workshop) -> AbstractContextManager[None]:
    """Within it no other process runs the plan, or the same shard of it, in this folder."""
    work, shard = shop.work, shop.shard
    work.mkdir(parents=True, exist_ok=True)
    return claimed(
        work / (LOCK if shard == WHOLE else f"{LOCK}-{shard.file_name}"),
        refusal=lambda holder: (
            f"{work} is in use by process {holder}, which runs a plan in it: wait until that has ended, or give this "
            "one a folder of its own by --work"
        ),
    )


def run_plan(
    plan: Plan, shop: Workshop, results: Results, log: RunLog, *, stages: Sequence[Stage] = STAGES
) -> Division:
    """Run what the stages ask for and has no row yet, as far as it is this shard's; returns how it was divided."""
    rehearse(plan, _unfinished(plan, results, stages), shop.folders_of(plan))
    division = Division(plan, shop, results, log)
    for stage in stages:
        if stage != "tune":
            division.await_choices()
        asked = tuning(plan) if stage == "tune" else _at_chosen_rates(stage, plan, results)
        if asked:
            measure_lengths(plan, asked, shop, results, log, division)
            jobs = Resolver(plan, results.lengths).jobs(asked)
            own = division.own(jobs)
            unfinished = [job for job in jobs if not is_finished(job, results)]
            prepare(plan, unfinished, shop, results, log, division, own=[job for job in unfinished if job in own])
            run_jobs(stage, own, plan, shop, results, log)
    return division


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
