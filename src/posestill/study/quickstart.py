"""Distillation to look at: one small student trained four ways on synthetic people, compared, in a few minutes.

The student, the regime and the learning rates are those of benchmarks/protocol-distilpose.yaml, which chose them on
other people and other seeds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from posestill.data.source import PoseSource
from posestill.deploy.export import People, Wanted, export_model
from posestill.deploy.gate import failure
from posestill.deploy.runtimes import TARGETS, installed
from posestill.engine.config import RunConfig, change_run, load_run
from posestill.engine.fit import fit
from posestill.engine.log import RunLog
from posestill.engine.setup import open_sources
from posestill.engine.surroundings import run_hash, surroundings
from posestill.evaluation.evaluate import Evaluation, Share, evaluate_model
from posestill.files import refuse_taken, write_json, write_whole
from posestill.html.charts import curves
from posestill.html.course import loss_curves, read_metrics
from posestill.html.next_step import next_commands
from posestill.html.page import commands, figure, heading, page, paragraph, percent, strips, table, verdict
from posestill.html.people import LEGEND, seen_by
from posestill.models.cost import Cost, measure
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.study.gains import signed
from posestill.study.intervals import difference
from posestill.teachers.checkpoint import BUNDLED_TOKENS


@dataclass(frozen=True)
class Variant:
    """One way to train the same student: a name, what the table calls it, and its changes to the recipe."""

    name: str
    title: str
    changes: tuple[str, ...] = ()
    length: float = 1.0
    """of its training, as a multiple of the recipe's: a step of DistilPose takes one and a half times as long as one
    without a teacher"""

    def run(self, *, seed: int, steps: int | None = None) -> RunConfig:
        """The recipe with these changes."""
        config = load_run("quickstart", [f"seed={seed}", *([f"train.steps={steps}"] if steps else []), *self.changes])
        assert config.train.steps is not None
        return change_run(config, [f"train.steps={round(self.length * config.train.steps)}"])


_ALONE = ("method=supervised", "teacher=null", "data.labelled_per_batch=null", "data.people=400",
          "model.codec={name: coords, bounded: true}", "train.optimiser.learning_rate=5e-3")  # fmt: skip
ALONE = Variant("alone", "student alone", _ALONE)
SAME_TIME = Variant("same_time", "student alone, for as long", _ALONE, length=1.6)
PSEUDO_LABEL = Variant(
    "pseudo_label", "student on pseudo-labels",
    ("method=pseudo_label", "teacher.cache=true", "model.codec={name: coords, bounded: true}",
     "train.optimiser.learning_rate=2.5e-3"),
)  # fmt: skip
DISTILLED = Variant("distilled", "student distilled (distilpose)")
_FINDING = Path(__file__).parents[1] / "assets" / "protocol.json"
"""Written by benchmarks/readme.py from results/protocol-distilpose/summary.json; a test holds the two together."""
ORDER = (ALONE, SAME_TIME, PSEUDO_LABEL, DISTILLED)
"""how tables and pictures show them"""
EXPORT, EXPORT_PEOPLE = "onnx", 200
"""the folder of the exported student, in its run, and how many people judge it"""
SHIFTS = ((ALONE, SAME_TIME), (DISTILLED, PSEUDO_LABEL))
"""Which variants one process trains after another: two processes of one thread beat one of two."""


@dataclass(frozen=True)
class Outcome:
    """One line of the comparison."""

    title: str
    labels: int
    unlabelled: int
    metrics: Mapping[str, float]
    similarity: np.ndarray
    """(N,) OKS of each held-out person"""
    seconds: float | None = None
    """of training; None where nothing was trained here"""
    cost: Cost | None = None


def run_quickstart(out: Path, *, steps: int | None = None, seed: int = 0) -> Path:
    """Train all variants, print the comparison and write `report.html` and `quickstart.json` into `out`."""
    began = time.monotonic()
    log = RunLog(out)
    runs = {variant: variant.run(seed=seed, steps=steps) for variant in ORDER}
    _make_room(out)
    log.say("One student of 64x48 crops, trained four ways on synthetic people (first use renders them) ...")
    outcomes = _train_all(runs, out, log)

    settings = runs[DISTILLED]
    source = open_sources(settings).val
    teacher = PoseModel.load(BUNDLED_TOKENS)
    with log.bar("asking the teacher", len(source.people)) as bar:
        shown = evaluate_model(teacher, source, settings.evaluate, Share(progress=bar.advance))
    models = {"teacher": teacher, **{variant.name: PoseModel.load(out / variant.name / "best") for variant in ORDER}}
    outcomes = {"teacher": Outcome("teacher (bundled)", 0, 0, shown.metrics, shown.similarity), **outcomes}
    outcomes = _with_costs(outcomes, models)
    sentence, beyond = summarise(outcomes, seed=seed), protocol_sentence()
    lines = [_table_line(outcome) for outcome in outcomes.values()]
    for line in [["", *_HEADERS[1:]], *lines]:
        log.say(f"{line[0]:<30}" + "".join(f"{each:>13}" for each in line[1:]))
    log.say("")
    log.say(f"{sentence} {beyond}".strip())
    conditions = (
        f"{len(source.people)} held-out synthetic people, {shown.conditions['boxes']} boxes, flip test "
        f"{'on' if shown.conditions['flip_test'] else 'off'}, input {settings.model.size[0]}x{settings.model.size[1]}, "
        f"{settings.train.steps} steps of {settings.train.batch_size}, seed {seed}."
    )
    minutes = (time.monotonic() - began) / 60
    log.say(f"{conditions} {minutes:.1f} minutes in all.")
    _export(models[DISTILLED.name], out / DISTILLED.name / EXPORT, source, log)
    following = next_commands(settings, out / DISTILLED.name, longer_first=False)[:3]
    report = _write_report(out, [sentence, beyond], conditions, lines, models, source, following)
    figures = {
        "command": "posestill quickstart",
        "sentence": sentence,
        "study": beyond,
        "conditions": conditions,
        "minutes": minutes,
        "rows": {name: {**asdict(outcome), "similarity": None} for name, outcome in outcomes.items()},
        "settings": settings.model_dump(mode="json"),
        "settings_hash": run_hash(settings),
        "surroundings": surroundings(),
    }
    write_json(out / "quickstart.json", figures)
    log.say(f"Look at {report}")
    for what, command in following:
        log.say(f"{what}\n    {command}")
    return report


def _export(model: PoseModel, folder: Path, source: PoseSource, log: RunLog) -> None:
    """The student as a file for ONNX Runtime, held to its own figures; without that extra, how to get it."""
    target = TARGETS["onnx"]
    if not installed(target):
        log.say('Exporting the student needs more packages: pip install "posestill[export]"')
        return
    with log.bar("judging the exported student", EXPORT_PEOPLE) as bar:
        gate = export_model(
            model, Wanted([target], ["fp32"]), folder, People(source, None, EXPORT_PEOPLE), progress=bar.advance
        )
    for row in gate.failed:
        log.say(f"The student was not exported: {failure(row, labels=gate.labels)}")
    if not gate.failed:
        log.say(f"The student as a file for ONNX Runtime: {folder}")


def _make_room(out: Path) -> None:
    """Remove an earlier quickstart's variants, and nothing else."""
    marker = out / ".quickstart"
    if not marker.exists():
        refuse_taken(out, ("report.html", "quickstart.json", "metrics.jsonl"), what="--out")
    for variant in ORDER:
        folder = out / variant.name
        if folder.exists() and not marker.exists():
            raise UserError(f"{folder} is there and no quickstart made it: choose another --out")
        shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


def summarise(outcomes: Mapping[str, Outcome], *, seed: int) -> str:
    """What the student keeps of its teacher and what of that comes from distillation, in two sentences."""
    teacher, student = outcomes["teacher"], outcomes["distilled"]
    assert teacher.cost is not None
    assert student.cost is not None
    smaller = teacher.cost.parameters / student.cost.parameters
    level = 100 * np.nanmean(student.similarity)
    best = 100 * np.nanmean(teacher.similarity)
    over = {
        name: signed(difference(student.similarity[None], outcomes[name].similarity[None]))
        for name in ("alone", "same_time", "pseudo_label")
    }
    return (
        f"A student with {smaller:.1f} times fewer parameters reaches a mean OKS of {level:.1f}, "
        f"{100 * level / best:.0f} % of its teacher's {best:.1f}. Distillation gave {over['alone']} points over the "
        f"same student trained alone on the same labels, {over['same_time']} over training it alone for as long, and "
        f"{over['pseudo_label']} over plain pseudo-labels (95 % intervals over persons; seed {seed} only)."
    )


def protocol_sentence() -> str:
    """What the protocol found over many seeds for the same method; empty where no finding comes with the package."""
    if not _FINDING.is_file():
        return ""
    found = json.loads(_FINDING.read_text())
    return (
        f"Over {found['seeds']} other seeds and {found['persons']:,} other people, the study of this method (protocol "
        f"{found['protocol']}) measured {found['over_alone']} over training alone, {found['over_longer']} over "
        f"training alone for twice as long and {found['over_pseudo_label']} over pseudo-labels."
    )


def _train_all(runs: Mapping[Variant, RunConfig], out: Path, log: RunLog) -> dict[str, Outcome]:
    workers = min(len(SHIFTS), os.cpu_count() or 1)
    threads = max(1, (os.cpu_count() or 1) // workers)
    total = sum(config.train.steps or 0 for config in runs.values())
    outcomes: dict[str, Outcome] = {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures: list[Future[dict[str, Outcome]]] = [
            pool.submit(_train_shift, [(variant, runs[variant]) for variant in shift], out, threads) for shift in SHIFTS
        ]
        with log.bar("training four students", total) as bar:
            told, waiting = 0, set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=1)
                reached = sum(_last_step(out / variant.name / "metrics.jsonl") for variant in runs)
                bar.advance(reached - told)
                told = reached
                for future in done:
                    outcomes.update(future.result())
    return {variant.name: outcomes[variant.name] for variant in ORDER}


def _train_shift(variants: list[tuple[Variant, RunConfig]], out: Path, threads: int) -> dict[str, Outcome]:
    """Train some variants one after another in this process, on sources that are opened and rendered once."""
    torch.set_num_threads(threads)
    sources = open_sources(variants[0][1])
    outcomes = {}
    for variant, config in variants:
        result = fit(config, out / variant.name, sources=sources, quiet=True)
        people = config.data.people or len(sources.train.people)
        labels = people if config.data.labelled is None else config.data.labelled
        evaluation: Evaluation = result.evaluation
        outcomes[variant.name] = Outcome(
            title=variant.title,
            labels=labels,
            unlabelled=people - labels,
            metrics=evaluation.metrics,
            similarity=evaluation.similarity,
            seconds=result.seconds,
        )
    return outcomes


def _last_step(path: Path) -> int:
    try:
        return int(json.loads(path.read_text().splitlines()[-1])["step"])
    except (OSError, IndexError, ValueError):  # not begun, or a line that is being written
        return 0


_HEADERS = ["", "labels", "unlabelled", "AP", "mean OKS", "parameters", "MACs", "ms/crop", "training s"]


def _with_costs(outcomes: Mapping[str, Outcome], models: Mapping[str, PoseModel]) -> dict[str, Outcome]:
    """The same outcomes with what each model costs on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    priced = {name: replace(outcome, cost=measure(models[name])) for name, outcome in outcomes.items()}
    torch.set_num_threads(threads)
    return priced


def _table_line(outcome: Outcome) -> list[str]:
    assert outcome.cost is not None
    trained = outcome.seconds is not None
    return [
        outcome.title,
        f"{outcome.labels:,}" if trained else "–",
        f"{outcome.unlabelled:,}" if trained else "–",
        percent(outcome.metrics["AP"]),
        percent(outcome.metrics["mean_oks"]),
        f"{outcome.cost.parameters / 1e6:.2f} M",
        f"{outcome.cost.macs / 1e6:.1f} M",
        f"{outcome.cost.milliseconds:.1f}",
        f"{outcome.seconds:.0f}" if trained else "–",
    ]


def _write_report(
    out: Path,
    told: list[str],
    conditions: str,
    lines: list[list[str]],
    models: Mapping[str, PoseModel],
    source: PoseSource,
    following: list[tuple[str, str]],
) -> Path:
    titles = [variant.title for variant in ORDER]
    losses = {variant.title: _loss_on_labels(out / variant.name / "metrics.jsonl") for variant in ORDER}
    found = {name.replace("_", " "): model for name, model in models.items()}
    parts = [
        verdict([each for each in told if each]),
        table(_HEADERS, lines, caption="One student, trained four ways, and its teacher"),
        paragraph(conditions + " Milliseconds: batch 1, one thread, median of 30."),
        paragraph(
            "Only the teacher and the distilled student have a trained confidence, by which their persons rank; the "
            "others rank by box score, all equal here, which costs AP. Mean OKS compares them fairly."
        ),
        heading("The same people, seen by each"),
        paragraph(LEGEND),
        strips(seen_by(found, source, count=10)),
        heading("Training"),
        figure(curves(losses, across="steps", up="loss on the labels", among=titles), "Loss on the labels"),
        heading("What to do next"),
        commands(following),
    ]
    path = out / "report.html"
    text = page("Quickstart", parts, subtitle="One small student, trained four ways on synthetic people")
    write_whole(path, lambda draft: draft.write_text(text))
    return path


def _loss_on_labels(path: Path) -> list[tuple[float, float]]:
    """Steps and the loss on the labels at each, which DistilPose calls its regression."""
    curves = loss_curves(read_metrics(path))
    return curves["task" if "task" in curves else "regression"]
