"""The counterfactual: the same student trained alone, and on plain pseudo-labels, beside the distilled one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from posestill.data.batches import choose_people
from posestill.engine.config import RunConfig
from posestill.engine.fit import FitResult, fit
from posestill.engine.log import RunLog
from posestill.engine.setup import open_sources
from posestill.engine.surroundings import run_hash, surroundings
from posestill.files import write_json
from posestill.html.charts import gains as draw_gains
from posestill.html.page import figure, percent, table
from posestill.html.report import Gained
from posestill.methods.supervised import SupervisedConfig
from posestill.schema import UserError
from posestill.study.gains import signed
from posestill.study.intervals import Difference, difference
from posestill.study.plan import as_control
from posestill.study.rehearse import build_once, key_of_sources

METHOD, ALONE, PSEUDO_LABEL = "method", "alone", "pseudo_label"
_TRAINED = {METHOD: "with the method", ALONE: "alone", PSEUDO_LABEL: "on pseudo-labels"}
_COMPARED = {
    METHOD: "distillation over alone",
    PSEUDO_LABEL: "pseudo-labels over alone",
    "beyond": "distillation over pseudo-labels",
}


@dataclass(frozen=True)
class Counterfactual:
    """What distillation gave, of which plain pseudo-labels give how much."""

    result: FitResult
    """of the method's run with the first seed, the one that ships"""
    gains: Mapping[str, Difference]
    """in mean OKS: `method` and `pseudo_label` over the student alone, `beyond` of the method over pseudo-labels"""
    mean_oks: Mapping[str, float]
    """of each way, over seeds and persons"""
    sentence: str


def train_with_controls(config: RunConfig, folder: Path, *, seeds: int = 1, resume: bool = False) -> Counterfactual:
    """Train the run into `folder` and its controls into `folder/controls`, with `seeds` seeds; say what it gave."""
    if isinstance(config.method, SupervisedConfig):
        raise UserError("--control: this run is the student alone already; give it a method")
    if config.data.has_no_labels:
        raise UserError("--control: pictures without labels leave nothing to train the student alone on: leave it out")
    ways = {METHOD: config, ALONE: as_control(config, "alone")}
    if config.teacher is not None:
        ways[PSEUDO_LABEL] = as_control(config, "pseudo_label")
    log = RunLog(None, quiet=os.environ.get("RANK", "0") != "0")
    sources = open_sources(config, log=log)
    if not choose_people(sources.train, config.data).shown.any():
        raise UserError(
            "--control: nobody in the training data shows labels, so that the student alone would learn nothing and be "
            "compared as an untrained network: label some persons, or leave --control out"
        )
    for way, settings in ways.items():
        try:
            build_once(settings, {key_of_sources(settings): sources})
        except UserError as error:
            raise UserError(f"--control: the run {_TRAINED[way]} cannot be built: {error}") from None
    similarity: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    shipped: FitResult | None = None
    for way, settings in ways.items():
        for seed in range(config.seed, config.seed + seeds):
            is_shipped = way == METHOD and seed == config.seed
            place = folder if is_shipped else folder / "controls" / f"{way}-seed{seed}"
            log.say(f"{way.replace('_', '-')}, seed {seed} -> {place}")
            run = settings.model_copy(update={"seed": seed})
            result = fit(run, place, sources=sources, resume=resume and (place / "config.yaml").is_file())
            similarity[way].append(result.evaluation.similarity)
            shipped = result if is_shipped else shipped
    assert shipped is not None
    stacked = {way: np.stack(found) for way, found in similarity.items()}
    gains = gains_of(stacked)
    sentence = say_gains(gains, seeds=range(config.seed, config.seed + seeds))
    means = {way: float(np.nanmean(each)) for way, each in stacked.items()}
    if shipped.is_main_process:
        content = {
            "sentence": sentence,
            "gains": {name: asdict(gain) for name, gain in gains.items()},
            "mean_oks": means,
            "seeds": list(range(config.seed, config.seed + seeds)),
            "settings_hash": run_hash(config),
            "surroundings": surroundings(),
        }
        write_json(folder / "control.json", content)
        log.say(sentence)
    return Counterfactual(result=shipped, gains=gains, mean_oks=means, sentence=sentence)


def gains_of(similarity: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """Gains in mean OKS from the OKS (S, N) of each way over the same seeds and persons."""
    gains = {METHOD: difference(similarity[METHOD], similarity[ALONE])}
    if PSEUDO_LABEL in similarity:
        gains[PSEUDO_LABEL] = difference(similarity[PSEUDO_LABEL], similarity[ALONE])
        gains["beyond"] = difference(similarity[METHOD], similarity[PSEUDO_LABEL])
    return gains


def say_gains(gains: Mapping[str, Difference], *, seeds: range) -> str:
    """One honest sentence: what distillation gave, how much of it pseudo-labels give, what is not known."""
    sure = (
        f"95 % intervals over persons; seed {seeds[0]} only, another may differ by more"
        if len(seeds) == 1
        else f"95 % intervals over {len(seeds)} seeds and the persons"
    )
    start = f"Distillation gave {signed(gains[METHOD])} mean OKS over the same student trained alone on the same labels"
    if "beyond" not in gains:
        return f"{start} ({sure})."
    beyond = gains["beyond"]
    verdict = "more than" if beyond.low > 0 else "less than" if beyond.high < 0 else "not distinguishable from"
    return (
        f"{start}; pseudo-labels alone gave {signed(gains[PSEUDO_LABEL])}, so the method itself gave {signed(beyond)}: "
        f"{verdict} plain pseudo-labels ({sure})."
    )


def as_gained(found: Counterfactual) -> Gained:
    """What a run's report says of it: the sentence, the gains with their intervals, the mean OKS of each way."""
    rows = [(_COMPARED[name], 100 * gain.mean, 100 * gain.low, 100 * gain.high) for name, gain in found.gains.items()]
    drawn = draw_gains(rows, across="points of mean OKS, 95 % interval")
    means = [[_TRAINED[way], percent(value)] for way, value in found.mean_oks.items()]
    return Gained(
        found.sentence,
        [
            figure(
                drawn, "Gains in mean OKS with their intervals: green above nothing, red below, grey not told from it"
            ),
            table(["trained", "mean OKS x 100"], means, caption="The same student, trained each way"),
        ],
    )
