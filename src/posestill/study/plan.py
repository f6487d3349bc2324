"""A protocol as one typed value: arms x regimes x seeds, the same steps for all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PositiveFloat, model_validator

from posestill.documents.parse import read_yaml
from posestill.engine.config import RunConfig, TrainConfig
from posestill.methods.pseudo_label import PseudoLabelConfig
from posestill.methods.supervised import SupervisedConfig
from posestill.schema import Config, UserError, did_you_mean, validate

AnyConfig = TypeVar("AnyConfig", bound=Config)
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class PreparedRun(Config):
    """A prepared run makes a model, such as a teacher, that others need; it is trained once, before all else."""

    recipe: str
    """The recipe to start from: a name that `posestill list recipes` shows, or a path."""
    set: tuple[str, ...] = ()
    """Changes to the recipe, written as `--set` takes them, such as train.steps=1000."""


class Regime(Config):
    """A regime is data, labels and a student that arms are compared on."""

    recipe: str
    """The recipe to start from: a name that `posestill list recipes` shows, or a path."""
    set: tuple[str, ...] = ()
    """Changes to the recipe, written as `--set` takes them, such as train.steps=1000."""
    test: tuple[str, ...] = ()
    """Further changes for runs on test, which put the test persons in the place of those that choices are made by."""
    tuned_in: str | None = None
    """The regime whose chosen learning rates serve here, too. None: the arms are tuned in this one."""
    dose: Mapping[str, float] = Field(default_factory=dict)
    """What the regime has more or less of than others, such as {labels: 400}: where it stands on the axis of a curve.
    Empty: it is on no curve."""
    arms: tuple[str, ...] | None = None
    """The arms that make sense in this regime. None: all of the plan's."""
    seeds: tuple[Seed, ...] | None = None
    """The seeds of its runs on test, where a run takes too long for all of them. None: the plan's."""


Control = Literal["alone", "pseudo_label"]


class Arm(Config):
    """An arm is one way to train the regime's student."""

    title: str
    """What the arm is called in tables and pictures."""
    control: Control | None = None
    """What the regime's run becomes first. `alone`: the student on the labels only, without a teacher. `pseudo_label`:
    the student with the teacher's keypoints as plain labels, too. None: it keeps its method."""
    set: tuple[str, ...] = ()
    """Changes to the regime's run, or to the control that is made of it, written as `--set` takes them."""
    length: PositiveFloat = 1.0
    """The length of the arm's runs, as a multiple of the regime's. It is 1 for all but a control that is trained for
    longer."""
    as_long_as: str | None = None
    """The arm whose training time this one gets, a control: its length is the number of times that a step of the other
    takes the time of one of its own, measured before any of its runs and kept with the results. None: `length` says."""
    tuned_as: str | None = None
    """The arm whose chosen learning rate is taken. None: this arm is tuned like every other."""

    @model_validator(mode="after")
    def _one_length(self) -> Arm:
        if self.as_long_as is not None and self.length != 1:
            raise ValueError("length: as_long_as says how long the arm is trained: give one of them")
        if self.as_long_as is not None and self.tuned_as is None:
            raise ValueError("tuned_as: an arm whose length is measured takes another's learning rate: name that arm")
        return self


CONTROLS: dict[str, Any] = {
    "alone": {"title": "student alone", "control": "alone"},
    "pseudo_label": {"title": "pseudo-labels", "control": "pseudo_label"},
}
"""Arms that every plan has, whether it names them or not."""


class Seeds(Config):
    """Each stage has its own seeds."""

    choose: tuple[Seed, ...] = (100,)
    """The seeds of tuning and screening, the runs on which choices are made. More seeds choose more surely and cost
    more runs."""
    confirm: tuple[Seed, ...] = ()
    """The seeds of the runs on test. More seeds make intervals narrower and cost more runs; without any, nothing is run
    on test."""


class Plan(Config):
    """A plan says which arms are compared, where, at which learning rates and with which seeds."""

    prepare: dict[str, PreparedRun] = Field(default_factory=dict)
    """The runs that make models for others, by name; `<name>` in a change stands for the folder of the model."""
    regimes: Annotated[dict[str, Regime], Field(min_length=1)]
    """The regimes by name: data, labels and a student each."""
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    """The arms by name; `alone` and `pseudo_label` are always among them."""
    baseline: str = "alone"
    """The arm that gains are measured from."""
    controls: tuple[str, ...] = ("pseudo_label",)
    """The arms that a method must beat beside the baseline; gains over them are reported, too."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """The learning rates that every arm is tuned over; the best one by mean OKS is taken. More of them tune more finely
    and cost more runs; with a single one nothing is tuned."""
    seeds: Seeds = Seeds()
    """The seeds of each stage."""
    confirm: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Which arms are run on test in which regimes, by the regime's name; it is fixed before anything is run."""
    finished: Annotated[str, Field(min_length=1)] | None = None
    """The version-control tag at which the study was finished: nothing is run any more, and its tables are made from
    its rows alone. None: the study goes on."""

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
            *(each.as_long_as for each in self.arms.values()),
        ):
            _known(name, self.arms, "arm")
        for name in self.regimes:
            self._lengths_can_be_measured(name)
        for name, arms in self.confirm.items():
            _known(name, self.regimes, "confirm")
            if strange := set(arms) - set(self.arms_of(name)):
                raise ValueError(f"confirm.{name}: the regime has no arm '{sorted(strange)[0]}'")
        return self

    def _lengths_can_be_measured(self, regime: str) -> None:
        arms = self.arms_of(regime)
        for arm in arms:
            other = self.arms[arm].as_long_as
            if other is not None and (other not in arms or self.arms[other].as_long_as is not None):
                why = "whose own length is measured" if other in arms else f"which the regime {regime} lacks"
                raise ValueError(f"arms.{arm}.as_long_as: it names {other}, {why}")

    def protocol_hash(self) -> str:
        """Twelve digits of everything but the arms: results under the same digits may stand in one table."""
        content = self.model_dump(mode="json", exclude={"arms", "confirm", "finished"})
        content["regimes"] = {
            name: {key: value for key, value in regime.items() if key != "arms" and (key, value) != ("seeds", None)}
            for name, regime in content["regimes"].items()
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def seeds_of(self, regime: str) -> tuple[int, ...]:
        """The seeds of a regime's runs on test."""
        own = self.regimes[regime].seeds
        return self.seeds.confirm if own is None else own

    def arms_of(self, regime: str) -> list[str]:
        """The arms that make sense in a regime, in the plan's order."""
        chosen = self.regimes[regime].arms
        return [arm for arm in self.arms if chosen is None or arm in chosen]


def load_plan(path: Path) -> Plan:
    """The plan in a YAML file."""
    if not path.is_file():
        raise UserError(f"no plan {path}: benchmarks/protocol.yaml is one to start from")
    content = read_yaml(path, what="plan")
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a plan: it should hold keys such as regimes, arms, learning_rates, seeds")
    return validate(Plan, content, where=str(path))


def as_control(config: RunConfig, control: Control) -> RunConfig:
    """The same run as a control: the same student, steps, initial weights and order of labelled persons."""
    model = config.model
    if model.neck is not None and not model.neck.trained_by_labels:  # without it the head begins alike
        model = _with(model, neck=None)
    # Initial weights stay the same, but for the last layer of a student whose confidence goes with its codec.
    config = _with(config, model=_with(model, codec=model.codec.trained_by_labels()))
    if control == "pseudo_label":
        if config.teacher is None:
            raise UserError("the control pseudo_label needs the teacher that the method has: there is none")
        return _with(config, method=PseudoLabelConfig())
    data, train = config.data, config.train
    if data.labelled == 0:
        raise UserError("the control alone needs labels: data.labelled is 0")
    evaluate = config.evaluate
    if data.labelled is not None or data.labelled_per_batch is not None or data.unlabelled_people:
        if train.epochs is not None:
            if data.labelled_per_batch is None:
                raise UserError("the control alone needs train.steps: epochs would count without the unlabelled people")
            # An epoch is one pass over the labelled people, who now fill every batch.
            factor = train.batch_size / data.labelled_per_batch
            train = lengthened(train, factor)
            train = _with(train, save_every=None if train.save_every is None else train.save_every * factor)
            evaluate = _with(evaluate, every=None if evaluate.every is None else evaluate.every * factor)
        data = _with(data, labelled_per_batch=train.batch_size)
    return _with(config, method=SupervisedConfig(), teacher=None, data=data, train=train, evaluate=evaluate)


def lengthened(train: TrainConfig, factor: float) -> TrainConfig:
    """A training that is `factor` times as long: its learning rate falls at the same shares of it."""
    unit, length = ("steps", train.steps) if train.steps is not None else ("epochs", train.epochs)
    assert length is not None
    drops = tuple(drop * factor for drop in train.optimiser.drops)
    return _with(train, **{unit: type(length)(length * factor)}, optimiser=_with(train.optimiser, drops=drops))


def _with(config: AnyConfig, **changed: object) -> AnyConfig:
    return config.model_copy(update=changed)


def _known(name: str | None, table: Mapping[str, object], where: str) -> None:
    if name is not None and name not in table:
        raise ValueError(f"{where}: no '{name}'{did_you_mean(name, list(table))}")
