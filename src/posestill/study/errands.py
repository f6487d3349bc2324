"""What a plan needs beside its runs: prepared models, measured lengths, measured teachers, here or on a node."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from posestill.cluster.publish import check_writable
from posestill.engine.config import RunConfig, load_run
from posestill.engine.differences import first_difference
from posestill.engine.fit import fit
from posestill.engine.log import RunLog
from posestill.engine.surroundings import surroundings
from posestill.evaluation.evaluate import Share, evaluate_model
from posestill.schema import UserError
from posestill.study.division import Division
from posestill.study.gains import pack_similarity
from posestill.study.jobs import Asked, Job, Resolver, at_hand
from posestill.study.lines import Row
from posestill.study.plan import Plan
from posestill.study.pool import Workshop
from posestill.study.results import Results
from posestill.study.step_time import measure_steps
from posestill.teachers.base import ModelTeacher


@dataclass(frozen=True)
class Preparing:
    """A prepared model to be trained."""

    name: str
    config: RunConfig
    folder: Path
    quiet: bool

    def __str__(self) -> str:
        return f"preparing {self.name}"


@dataclass(frozen=True)
class Timing:
    """Steps of a method to be timed beside those of a control."""

    method: RunConfig
    control: RunConfig

    def __str__(self) -> str:
        return "timing steps"


@dataclass(frozen=True)
class Measuring:
    """A regime's teacher to be evaluated."""

    regime: str
    config: RunConfig
    """of one of its runs, with the folders of prepared models"""

    def __str__(self) -> str:
        return f"measuring the teacher of {self.regime}"


def prepare(
    plan: Plan, jobs: Sequence[Job], shop: Workshop, results: Results, log: RunLog, division: Division, *,
    own: Sequence[Job],
) -> None:  # fmt: skip
    """Train this shard's share of the models that jobs start from or learn from; return when its `own` have theirs."""
    folders, names = shop.folders_of(plan), list(plan.prepare)

    def missing(wanted: Sequence[str]) -> dict[str, int]:
        return {name: division.shard.owner(names.index(name)) for name in wanted if name not in results.prepared}

    def train(name: str) -> None:
        wanted = load_run(plan.prepare[name].recipe, plan.prepare[name].set)
        refuse_another_model(name, wanted, results.prepared.get(name))
        if folders[name].is_dir() and name in results.prepared:
            return
        division.wait_for("the prepared model", lambda: missing(_named_in(plan, plan.prepare[name].set)))
        check_writable(shop.results)
        check_writable(shop.work)
        log.say(f"preparing {name} ({plan.prepare[name].recipe}) ...")
        task = Preparing(name, at_hand(wanted, folders), folders[name].parent, quiet=shop.cluster is not None)
        found = shop.do(_train_prepared, task, log)
        results.add_prepared(name, {**found, "settings": wanted.model_dump(mode="json")})

    for name in _needed(plan, jobs):
        if division.shard.has(names.index(name)):
            train(name)
    needed = _needed(plan, own)
    division.wait_for("the prepared model", lambda: missing(needed))
    for name in needed:  # one that lies on another machine's disk alone is trained anew
        train(name)


def measure_lengths(
    plan: Plan, asked: Sequence[Asked], shop: Workshop, results: Results, log: RunLog, division: Division
) -> None:
    """Measure how long the arms are that get another's time, once: a step of the other beside one of their own."""
    wanted = {(each.regime, each.arm): each for each in asked if plan.arms[each.arm].as_long_as is not None}
    owners = {key: division.shard.owner(position) for position, key in enumerate(wanted)}
    for (regime, arm), each in wanted.items():
        other = plan.arms[arm].as_long_as
        assert other is not None
        if (regime, arm) in results.lengths:
            if (before := results.lengths[regime, arm]["as_long_as"]) != other:
                raise UserError(
                    f"arms.{arm}.as_long_as is {other}, and its length in {regime} was measured beside {before}: a "
                    "changed plan gets a name and a results folder of its own"
                )
            continue
        # With any length at all: only a step of it is timed.
        own = Resolver(plan, {(regime, arm): {"ratio": 1.0}})
        jobs = own.jobs([replace(each, arm=other), each])
        mine = owners[regime, arm] == division.shard.number
        prepare(plan, jobs, shop, results, log, division, own=jobs if mine else ())
        if not mine:
            continue
        log.say(f"timing steps of {other} and {arm} in {regime} ...")
        method, control = (at_hand(job.config, shop.folders_of(plan)) for job in jobs)
        found = shop.do(_time_steps, Timing(method, control), log)
        measured = results.add_length(regime, arm, {"as_long_as": other, **found})
        log.say(f"a step of {other} takes {measured['ratio']:.2f} times as long: so long is {arm} trained")
    division.wait_for(
        "the measured length of",
        lambda: {f"{arm} in {regime}": owner for (regime, arm), owner in owners.items()
                 if (regime, arm) not in results.lengths},
    )  # fmt: skip


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
            log.say(f"measuring the teacher of {regime} on {split} ...")
            found = shop.do(_evaluate_teacher, Measuring(regime, at_hand(asked, folders)), log)
        except UserError as error:
            log.say(f"the teacher of {regime} is not measured on {split}: {error}")
            continue
        if found is None:
            log.say(
                f"the teacher of {regime} is not measured on {split}: it has other keypoints, or is not one of ours"
            )
            continue
        results.add_teacher(split, regime, {"teacher": asked.teacher.model_dump(mode="json"), **found})


def refuse_another_model(name: str, wanted: RunConfig, row: Row | None) -> None:
    """A `UserError` where a prepared model was trained with other settings than the plan now gives it.

    Rows that are older than their settings are believed.
    """
    if row is None or "settings" not in row:
        return
    now, chosen = wanted.model_dump(mode="json"), wanted.model_dump(mode="json", exclude_defaults=True)
    if (difference := first_difference(row["settings"], now, chosen)) is not None:
        raise UserError(f"prepare.{name}: {difference}. A changed plan gets a name and a results folder of its own")


def _needed(plan: Plan, jobs: Sequence[Job]) -> list[str]:
    """The prepared models that jobs name, with those that these need, each behind what it needs."""
    wanted = _named_in(plan, [json.dumps([job.settings for job in jobs], ensure_ascii=False)])
    needed: list[str] = []
    for name in reversed(plan.prepare):  # a prepared run may need those before it
        if name in wanted or any(name in _named_in(plan, plan.prepare[other].set) for other in needed):
            needed.insert(0, name)
    return needed


def _named_in(plan: Plan, texts: Sequence[str]) -> list[str]:
    return [name for name in plan.prepare if any(f"<{name}>" in text for text in texts)]


def _train_prepared(task: Preparing) -> Row:
    """Train a prepared model, or go on with it, and return its evaluation."""
    fit(task.config, task.folder, resume=(task.folder / "config.yaml").is_file(), quiet=task.quiet)
    found: Mapping[str, Any] = json.loads((task.folder / "eval.json").read_text(encoding="utf-8"))
    return found


def _time_steps(task: Timing) -> Row:
    return measure_steps(task.method, task.control)


def _evaluate_teacher(task: Measuring) -> Row | None:
    """A teacher's figures; None where it is no pose model, or has other keypoints than the persons."""
    assert task.config.teacher is not None
    teacher = task.config.teacher.model_copy(update={"cache": False}).build()
    source = task.config.data.val.build()
    if not isinstance(teacher, ModelTeacher) or teacher.skeleton.names != source.skeleton.names:
        return None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = evaluate_model(teacher.model.to(device), source, task.config.evaluate, Share(device=device))
    return {
        "metrics": found.metrics,
        "similarity": pack_similarity(found.similarity),
        "conditions": found.conditions,
        "surroundings": surroundings(),
    }
