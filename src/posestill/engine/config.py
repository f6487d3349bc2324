"""A run as one typed value: read from a short YAML, changed by `--set a.b=c`, printed and saved resolved."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from posestill.data.batches import DataConfig
from posestill.documents.parse import parse_yaml, read_yaml
from posestill.engine.optim import OptimiserConfig
from posestill.evaluation.evaluate import EvaluateConfig
from posestill.methods.base import MethodConfig
from posestill.models.device import is_device_name
from posestill.models.pose_model import ModelConfig
from posestill.schema import Choice, Config, SettingsError, UserError, did_you_mean, validate
from posestill.teachers.base import TeacherConfig


def _device(name: str) -> str:
    if not is_device_name(name):
        raise ValueError(f"no device '{name[:40]}'; auto, cpu, cuda, cuda:1 and mps are known")
    return name


class TrainConfig(Config):
    """These settings say how long, how fast and on what a run trains."""

    epochs: Annotated[float, Field(gt=0, le=10**6)] | None = None
    """The length of the run in passes over the persons that batches are drawn from, which are the labelled ones with
    `data.labelled_per_batch`. Give this or `steps`."""
    steps: Annotated[int, Field(gt=0, le=10**9)] | None = None
    """The length of the run in optimiser steps. Give this or `epochs`."""
    batch_size: PositiveInt = 64
    """The number of persons in each step, over all processes together. A larger batch gives steadier gradients and
    takes more memory and time a step."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """The optimiser and the course of its learning rate."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """The precision of the computation. `fp32`: full. `bf16` and `fp16`: mixed, with most of the networks in half
    precision, which saves memory; `fp16` needs a CUDA GPU."""
    clip_norm: PositiveFloat | None = None
    """The norm that gradients are scaled down to where theirs is larger. A smaller norm holds back more of the large
    steps; None: gradients stay as they are."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The decay of a running average of the weights, such as 0.9998, which is then evaluated and kept in `best/`. A
    value nearer to 1 averages over more steps; None: the weights themselves are kept."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """Where the run is computed: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`. `auto`: on the GPUs where there are some,
    else on the CPU. Of several processes each takes a GPU of its own."""
    compile: bool = False
    """True: torch.compile compiles the student; where that cannot be done, as without a C++ compiler, the run says so
    and goes on. False: the student runs as it is."""
    deterministic: bool = False
    """True: on CUDA, too, the same run gives the same bits, more slowly; on a CPU it always does. False: runs on CUDA
    may differ in their last digits."""
    threads: Annotated[int, Field(gt=0, le=1024)] | None = None
    """The threads of each process on a CPU, and of a teacher that is a file. None: one and all are tried on a few steps
    that are thrown away, and the faster is kept, also by a resumed run. The last digits of figures depend on their
    number."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """The number of processes that cut crops beside the training; more of them help where the training waits for crops.
    0: the training process cuts them itself."""
    save_every: PositiveFloat | None = None
    """How often `last/` is written, from which a run can be resumed, in the unit of the run's length (epochs or steps);
    it is also written with every evaluation and at the end. None: only then."""
    save_every_minutes: PositiveFloat | None = 5.0
    """How many minutes pass before `last/` is written again, whatever else it is written for. Fewer minutes lose less
    when a run is killed and write more often; None: the clock writes nothing."""
    log_every: PositiveInt = 50
    """The number of steps after which their mean losses are written to metrics.jsonl. A smaller number writes more
    rows."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where figures are sent beside metrics.jsonl, which is always written; each of them needs its package."""

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give the length of the run once: epochs or steps")
        return self


class RunConfig(Config):
    """These settings describe one run completely."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The seed of initial weights, order of persons and augmentation. Another seed gives another run of the same
    kind."""
    data: DataConfig
    """Where persons come from, how many the run sees, and how many of them with their labels."""
    model: ModelConfig
    """The model that is trained: the student, or a model without any teacher."""
    method: Annotated[MethodConfig, Choice("methods")]
    """By which losses the student is trained, and what is trained beside it; `posestill list methods` shows the
    choice."""
    teacher: Annotated[TeacherConfig, Choice("teachers", otherwise=("checkpoint", "path"))] | None = None
    """The model that teaches the student: a model folder, or a name that `posestill list teachers` shows. None: there
    is no teacher, as methods that need none demand."""
    train: TrainConfig
    """How long, how fast and on what the run trains."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How the model is evaluated, during the training and at its end."""

    @model_validator(mode="after")
    def _somebody_to_learn_from(self) -> RunConfig:
        if self.data.has_no_labels and self.teacher is None:
            raise ValueError(
                "data.train: pictures without labels teach nothing by themselves: give a teacher, and a method that "
                "has one, such as pseudo_label"
            )
        return self


def load_run(recipe: str, changes: Sequence[str] = ()) -> RunConfig:
    """The run that a recipe (a name that `posestill list` shows, or a path) and `a.b=c` changes describe."""
    path = find_recipe(recipe)
    content = read_yaml(path, what="recipe")
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a recipe: it should hold keys such as data, model, method, train")
    try:
        return run_of(content, changes, where=str(path))
    except SettingsError as error:
        if not changes:
            raise
        run_of(content, where=str(path))  # where the recipe is wrong by itself, that is said
        raise SettingsError(f"{path}, changed by {', '.join(changes)}", error.what) from None


def change_run(config: RunConfig, changes: Sequence[str]) -> RunConfig:
    """The run with `a.b=c` changes."""
    return run_of(config.model_dump(mode="json"), changes, where="; ".join(changes))


def run_of(content: Mapping[str, Any], changes: Sequence[str] = (), *, where: str) -> RunConfig:
    """The run that plain settings and `a.b=c` changes describe; messages open with `where`."""
    settings = copy.deepcopy(dict(content))
    for change in changes:
        _apply(settings, change)
    return validate(RunConfig, settings, where=where)


def dump_run(config: RunConfig) -> str:
    """The resolved run as YAML; it loads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def recipe_names() -> list[str]:
    """The recipes that come with posestill, by name."""
    root = _recipe_folder()
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def find_recipe(recipe: str) -> Path:
    """The file of a recipe given by name or path."""
    named = _recipe_folder() / f"{recipe}.yaml"
    if named.is_file():
        return named
    path = Path(recipe)
    if path.is_dir() and (path / "config.yaml").is_file():
        return path / "config.yaml"
    if path.is_file():
        return path
    raise UserError(
        f"no recipe '{recipe}'{did_you_mean(recipe, recipe_names())} (by name, see `posestill list recipes`, or a path)"
    )


def load_plugin(path: Path) -> None:
    """Run a Python file of the user's, which adds its own entries to the tables of `posestill.catalog`."""
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"--plugin: no Python file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pydantic resolves the annotations of its Configs there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever it does, it is the user's file
        raise UserError(f"--plugin {path}: {type(error).__name__}: {error}") from error


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise UserError(f"--set {change}: write it as a.b=c")
    *parents, last = key.split(".")
    place: Any = content
    for part in parents:
        below = place.get(part)
        if below is None or isinstance(below, bool):
            below = {}  # `cache: true` and `--set teacher.cache.keep=maps`
        elif isinstance(below, str):
            below = {"name": below}  # `head: deconv` and `--set model.head.channels=[64]`
        elif not isinstance(below, dict):
            raise UserError(f"--set {change}: '{part}' is a plain value, it has no keys")
        place[part] = below
        place = below
    try:
        parsed = parse_yaml(value)
    except ValueError as error:
        raise UserError(f"--set {change[:200]}: the value is not valid YAML ({str(error)[:200]})") from None
    place[last] = parsed


def _recipe_folder() -> Path:
    return Path(str(resources.files("posestill"))) / "recipes"
