"""A protocol as one typed value: arms x regimes x seeds, the same steps for all, and which runs it asks for, in order.

Three stages. Tuning: every arm at the same few learning rates, judged on tune. Screening: all arms in all regimes at
the chosen rates, still on tune. Confirmation: few arms in few regimes, many seeds, opened once on test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, PositiveFloat, model_validator

from posestill.codecs.coords import CoordsConfig
from posestill.engine.config import RunConfig, change_run, load_run
from posestill.engine.surroundings import run_hash
from posestill.methods.pseudo_label import PseudoLabelConfig
from posestill.methods.supervised import SupervisedConfig
from posestill.models.agent import AgentNeckConfig
from posestill.schema import Config, UserError, did_you_mean, validate

AnyConfig = TypeVar("AnyConfig", bound=Config)
Split = Literal["tune", "test"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class PreparedRun(Config):
    """A run whose model others start from or learn from, such as a teacher: trained once, before everything else."""

    recipe: str
    set: tuple[str, ...] = ()
    """changes to the recipe, as `--set` takes them"""


class Regime(Config):
    """Data, labels and student that arms are compared on."""

    recipe: str
    set: tuple[str, ...] = ()
    """changes to the recipe, as `--set` takes them"""
    test: tuple[str, ...] = ()
    """further changes that put the test persons in place of those for choosing"""
    tuned_in: str | None = None
    """the regime whose tuning serves here, too; None: this one has its own"""
    dose: Mapping[str, float] = Field(default_factory=dict)
    """what the regime has more or less of than others, such as {labels: 400}: the axis of a curve"""
    arms: tuple[str, ...] | None = None
    """those that make sense here; all by default"""


Control = Literal["alone", "pseudo_label"]


class Arm(Config):
    """One way to train the regime's student."""

    title: str
    control: Control | None = None
    """alone: on the labels only, without a teacher; pseudo_label: on the teacher's keypoints as plain labels, too"""
    set: tuple[str, ...] = ()
    """changes to the regime's run (or to the control that it makes), as `--set` takes them"""
    length: PositiveFloat = 1.0
    """times the regime's steps: 1 for all but a control that is given a method's wall-clock"""
    tuned_as: str | None = None
    """the arm whose learning rate is taken; None: tuned like every other"""


CONTROLS: dict[str, Any] = {
    "alone": {"title": "student alone", "control": "alone"},
    "pseudo_label": {"title": "pseudo-labels", "control": "pseudo_label"},
}
"""Arms that every plan has, whether it names them or not."""


class Seeds(Config):
    """Of each stage."""

    choose: tuple[Seed, ...] = (100,)
    """tuning and screening"""
    confirm: tuple[Seed, ...] = ()


class Plan(Config):
    """A protocol."""

    prepare: dict[str, PreparedRun] = Field(default_factory=dict)
    """by name; `<name>` in a change stands for the prepared model's folder"""
    regimes: Annotated[dict[str, Regime], Field(min_length=1)]
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    baseline: str = "alone"
    """the arm that gains are measured from"""
    controls: tuple[str, ...] = ("pseudo_label",)
    """arms that a method must beat beside the baseline"""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """the same for every arm"""
    seeds: Seeds = Seeds()
    confirm: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """which arms are opened on test in which regimes, fixed before anything is run"""

    @model_validator(mode="before")
    @classmethod
    def _controls_by_default(cls, content: Any) -> Any:
        if isinstance(content, dict) and isinstance(content.get("arms"), dict):
            return {**content, "arms": {**CONTROLS, **content["arms"]}}
        return content

    @model_validator(mode="after")
    def _names_exist(self) -> Plan:
        for regime in self.regimes.values():
            _known(regime.tuned_in, self.regimes, "tuned_in")
            for arm in regime.arms or ():
                _known(arm, self.arms, "arms")
        for name in (
            self.baseline,
            *self.controls,
            *(arm for arms in self.confirm.values() for arm in arms),
            *(each.tuned_as for each in self.arms.values()),
        ):
            _known(name, self.arms, "arm")
        for name, arms in self.confirm.items():
            _known(name, self.regimes, "confirm")
            if strange := set(arms) - set(self.arms_of(name)):
                raise ValueError(f"confirm.{name}: the regime has no arm '{sorted(strange)[0]}'")
        return self

    def protocol_hash(self) -> str:
        """Twelve digits of everything but the arms: results under the same digits may stand in one table."""
        content = self.model_dump(mode="json", exclude={"arms", "confirm"})
        content["regimes"] = {
            name: {key: value for key, value in regime.items() if key != "arms"}
            for name, regime in content["regimes"].items()
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def arms_of(self, regime: str) -> list[str]:
        """The arms that make sense in a regime, in the plan's order."""
        chosen = self.regimes[regime].arms
        return [arm for arm in self.arms if chosen is None or arm in chosen]


@dataclass(frozen=True)
class Job:
    """One run of a plan."""

    split: Split
    regime: str
    arm: str
    learning_rate: float
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Also the path of its result below the plan's results, without the suffix."""
        return f"{self.split}/{self.regime}/{self.arm}-lr{self.learning_rate:g}-seed{self.seed}"

    @property
    def settings_hash(self) -> str:
        """Of the run."""
        return run_hash(self.config)


def load_plan(path: Path) -> Plan:
    """The plan in a YAML file."""
    if not path.is_file():
        raise UserError(f"no plan {path}: benchmarks/protocol.yaml is one to start from")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a plan: it should hold keys such as regimes, arms, learning_rates, seeds")
    return validate(Plan, content, where=str(path))


def make_job(
    plan: Plan, *, split: Split, regime: str, arm: str, learning_rate: float, seed: int, folders: Mapping[str, Path]
) -> Job:
    """One run; `folders` says where the prepared models lie."""
    place, way = plan.regimes[regime], plan.arms[arm]
    config = load_run(place.recipe, [filled(change, folders) for change in place.set])
    if way.control is not None:
        config = as_control(config, way.control)
    changes = [*way.set, *(place.test if split == "test" else ())]
    changes += [f"seed={seed}", f"train.optimiser.learning_rate={learning_rate}"]
    config = change_run(config, [filled(change, folders) for change in changes])
    train = config.train
    unit, length = ("steps", train.steps) if train.steps is not None else ("epochs", train.epochs)
    assert length is not None
    scaled = type(length)(length * way.length)
    return Job(split, regime, arm, learning_rate, seed, _with(config, train=_with(train, **{unit: scaled})))


def as_control(config: RunConfig, control: Control) -> RunConfig:
    """The same run as a control: the same student, steps, initial weights and order of labelled persons."""
    if isinstance(config.model.neck, AgentNeckConfig):  # only methods train it; a head begins alike
        config = _with(config, model=_with(config.model, neck=None))
    codec = config.model.codec
    if isinstance(codec, CoordsConfig) and codec.score:  # only methods train it; initial weights stay the same
        config = _with(config, model=_with(config.model, codec=_with(codec, score=False)))
    if control == "pseudo_label":
        if config.teacher is None:
            raise UserError("the control pseudo_label needs the teacher that the method has: there is none")
        return _with(config, method=PseudoLabelConfig())
    data, train = config.data, config.train
    if data.labelled == 0:
        raise UserError("the control alone needs labels: data.labelled is 0")
    if data.labelled is not None or data.labelled_per_batch is not None:
        if train.epochs is not None:
            if data.labelled_per_batch is None:
                raise UserError("the control alone needs train.steps: epochs would count without the unlabelled people")
            # An epoch is one pass over the labelled people, who now fill every batch.
            train = _with(train, epochs=train.epochs * train.batch_size / data.labelled_per_batch)
        data = _with(data, labelled_per_batch=train.batch_size)
    return _with(config, method=SupervisedConfig(), teacher=None, data=data, train=train)


def tuning_jobs(plan: Plan, folders: Mapping[str, Path]) -> list[Job]:
    """Every arm at every learning rate, in the regimes that others' tuning does not serve."""
    return [
        make_job(plan, split="tune", regime=regime, arm=arm, learning_rate=rate, seed=seed, folders=folders)
        for regime in plan.regimes
        if plan.regimes[regime].tuned_in is None
        for seed in plan.seeds.choose
        for rate in plan.learning_rates
        for arm in plan.arms_of(regime)
        if plan.arms[arm].tuned_as is None
    ]


def screening_jobs(plan: Plan, folders: Mapping[str, Path], rates: Mapping[tuple[str, str], float]) -> list[Job]:
    """All arms in all regimes at the chosen rates."""
    return [
        make_job(
            plan, split="tune", regime=regime, arm=arm, learning_rate=rates[regime, arm], seed=seed, folders=folders
        )
        for regime in plan.regimes
        for seed in plan.seeds.choose
        for arm in plan.arms_of(regime)
    ]


def confirming_jobs(plan: Plan, folders: Mapping[str, Path], rates: Mapping[tuple[str, str], float]) -> list[Job]:
    """Few arms in few regimes, many seeds, on test; all arms of a seed before the next, so that a stop leaves pairs."""
    return [
        make_job(
            plan, split="test", regime=regime, arm=arm, learning_rate=rates[regime, arm], seed=seed, folders=folders
        )
        for regime, confirmed in plan.confirm.items()
        for seed in plan.seeds.confirm
        for arm in plan.arms_of(regime)
        if arm in confirmed
    ]


def chosen_rates(plan: Plan, rows: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """The learning rate of each (regime, arm): the best mean OKS on tune, over the tuning seeds."""
    if len(plan.learning_rates) == 1:
        return {(regime, arm): plan.learning_rates[0] for regime in plan.regimes for arm in plan.arms_of(regime)}
    chosen = {}
    for regime, place in plan.regimes.items():
        for arm in plan.arms_of(regime):
            tuned = (place.tuned_in or regime, plan.arms[arm].tuned_as or arm)
            found: dict[float, list[float]] = {}
            for row in rows:
                if row["split"] == "tune" and (row["regime"], row["arm"]) == tuned and row["seed"] in plan.seeds.choose:
                    found.setdefault(row["learning_rate"], []).append(row["metrics"]["mean_oks"])
            missing = set(plan.learning_rates) - set(found)
            if missing:
                raise UserError(f"the tuning of {' '.join(tuned)} lacks {sorted(missing)}: run the plan's tuning first")
            chosen[regime, arm] = max(plan.learning_rates, key=lambda rate: sum(found[rate]) / len(found[rate]))
    return chosen


def _with(config: AnyConfig, **changed: object) -> AnyConfig:
    return config.model_copy(update=changed)


def _known(name: str | None, table: Mapping[str, object], where: str) -> None:
    if name is not None and name not in table:
        raise ValueError(f"{where}: no '{name}'{did_you_mean(name, list(table))}")


def filled(change: str, folders: Mapping[str, Path]) -> str:
    """A change with the folder of each prepared model in the place of `<name>`."""
    for name, folder in folders.items():
        change = change.replace(f"<{name}>", str(folder))
    return change
