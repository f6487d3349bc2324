"""Which runs a plan asks for, stage by stage, and each of them resolved to the settings that it is known by.

Three stages. Tuning: every arm at the same few learning rates, judged on tune. Screening: all arms in all regimes at
the chosen rates, still on tune. Confirmation: few arms in few regimes, many seeds, opened once on test.

A resolved run names the folder of a prepared model as the plan does, by `<name>`: so its settings are the same wherever
the models lie (`--work`), and are compared and kept in this form. `at_hand` puts the folders in for the training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from types import MappingProxyType
from typing import Any, Literal

from posestill.engine.config import RunConfig, change_run, load_run
from posestill.schema import UserError, validate
from posestill.study.lines import Row, run_name
from posestill.study.plan import Plan, as_control, lengthened

Split = Literal["tune", "test"]


@dataclass(frozen=True)
class Asked:
    """One run that a plan asks for, by its place in the plan."""

    split: Split
    regime: str
    arm: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """What its row is called."""
        return run_name(split=self.split, regime=self.regime, arm=self.arm, learning_rate=self.learning_rate,
                        seed=self.seed)  # fmt: skip


@dataclass(frozen=True)
class Job(Asked):
    """The same run with its settings."""

    config: RunConfig
    """resolved, with `<name>` for the folder of a prepared model"""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings, defaults included, as JSON."""
        return self.config.model_dump(mode="json")

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """Those settings that are not at their defaults."""
        return self.config.model_dump(mode="json", exclude_defaults=True)

    @property
    def version(self) -> int:
        """Of the method: the same settings under another version are another run."""
        return self.config.method.version

    @property
    def identity(self) -> str:
        """What it has in common with a run that is the same under another name, and with no other."""
        return json.dumps([self.version, self.settings], sort_keys=True)


class Resolver:
    """The jobs of one plan: each arm of a regime is resolved once, for all learning rates and seeds."""

    def __init__(self, plan: Plan, lengths: Mapping[tuple[str, str], Row] = MappingProxyType({})) -> None:
        """`lengths` are those that were measured, by regime and arm."""
        self.plan, self.lengths = plan, lengths
        self._known: dict[tuple[str, str, str], RunConfig] = {}

    def job(self, asked: Asked) -> Job:
        """The job; a `UserError` where the recipe, a setting or the method is not to be had."""
        config = self._arm(asked.split, asked.regime, asked.arm)
        optimiser = config.train.optimiser.model_copy(update={"learning_rate": asked.learning_rate})
        train = config.train.model_copy(update={"optimiser": optimiser})
        return Job(asked.split, asked.regime, asked.arm, asked.learning_rate, asked.seed,
                   config.model_copy(update={"seed": asked.seed, "train": train}))  # fmt: skip

    def jobs(self, asked: Sequence[Asked]) -> list[Job]:
        """The jobs in the order that they are asked for."""
        return [self.job(each) for each in asked]

    def _arm(self, split: str, regime: str, arm: str) -> RunConfig:
        if (split, regime, arm) not in self._known:
            place, way = self.plan.regimes[regime], self.plan.arms[arm]
            config = load_run(place.recipe, place.set)
            if way.control is not None:
                config = as_control(config, way.control)
            config = change_run(config, [*way.set, *(place.test if split == "test" else ())])
            train = lengthened(config.train, self._length(regime, arm))
            self._known[split, regime, arm] = config.model_copy(update={"train": train})
        return self._known[split, regime, arm]

    def _length(self, regime: str, arm: str) -> float:
        """Of an arm's runs, as a multiple of the regime's."""
        way = self.plan.arms[arm]
        if way.as_long_as is None:
            return way.length
        if (regime, arm) not in self.lengths:
            raise UserError(f"the length of {arm} in {regime} is not measured yet: run the plan")
        return float(self.lengths[regime, arm]["ratio"]) * self.plan.arms[way.as_long_as].length


def tuning(plan: Plan) -> list[Asked]:
    """Every arm at every learning rate, in the regimes that others' tuning does not serve; none for a single rate."""
    if len(plan.learning_rates) == 1:
        return []
    return [
        Asked("tune", regime, arm, rate, seed)
        for regime in plan.regimes
        if plan.regimes[regime].tuned_in is None
        for seed in plan.seeds.choose
        for rate in plan.learning_rates
        for arm in plan.arms_of(regime)
        if plan.arms[arm].tuned_as is None
    ]


def screening(plan: Plan, rates: Mapping[tuple[str, str], float]) -> list[Asked]:
    """All arms in all regimes at the chosen rates."""
    return [
        Asked("tune", regime, arm, rates[regime, arm], seed)
        for regime in plan.regimes
        for seed in plan.seeds.choose
        for arm in plan.arms_of(regime)
    ]


def confirming(plan: Plan, rates: Mapping[tuple[str, str], float]) -> list[Asked]:
    """Few arms in few regimes, many seeds, on test; all arms of a seed before the next, so that a stop leaves pairs."""
    return [
        Asked("test", regime, arm, rates[regime, arm], seed)
        for regime, confirmed in plan.confirm.items()
        for seed in plan.seeds_of(regime)
        for arm in plan.arms_of(regime)
        if arm in confirmed
    ]


def chosen_rates(plan: Plan, rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """The learning rate of each (regime, arm): the best mean OKS on tune, over the tuning seeds."""
    if len(plan.learning_rates) == 1:
        return {(regime, arm): plan.learning_rates[0] for regime in plan.regimes for arm in plan.arms_of(regime)}
    chosen = {}
    for regime, place in plan.regimes.items():
        for arm in plan.arms_of(regime):
            tuned = (place.tuned_in or regime, plan.arms[arm].tuned_as or arm)
            found: dict[float, dict[int, float]] = {rate: {} for rate in plan.learning_rates}
            for row in rows:
                if row["split"] == "tune" and (row["regime"], row["arm"]) == tuned and row["seed"] in plan.seeds.choose:
                    found.setdefault(row["learning_rate"], {})[row["seed"]] = row["metrics"]["mean_oks"]
            missing = {rate for rate in plan.learning_rates if set(found[rate]) != set(plan.seeds.choose)}
            if missing:
                raise UserError(f"the tuning of {' '.join(tuned)} lacks {sorted(missing)}: run the plan's tuning first")
            chosen[regime, arm] = max(plan.learning_rates, key=lambda rate: mean(found[rate].values()))
    return chosen


def at_hand(config: RunConfig, folders: Mapping[str, Path]) -> RunConfig:
    """The run with the folder of each prepared model in the place of `<name>`."""

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            for name, folder in folders.items():
                value = value.replace(f"<{name}>", str(folder))
        elif isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        elif isinstance(value, list):
            return [filled(each) for each in value]
        return value

    return validate(RunConfig, filled(config.model_dump(mode="json")), where="a run with its prepared models")
