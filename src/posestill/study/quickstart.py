"""Distillation to look at: one small student trained four ways on synthetic people, compared, in a few minutes."""

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
from posestill.engine.config import RunConfig, load_run
from posestill.engine.fit import fit
from posestill.engine.log import RunLog
from posestill.engine.setup import open_sources
from posestill.engine.surroundings import run_hash, surroundings
from posestill.evaluation.evaluate import Evaluation, Share, evaluate_model
from posestill.files import refuse_taken, write_json, write_whole
from posestill.html.charts import curves
from posestill.html.course import loss_curves, read_metrics
from posestill.html.next_step import SOME_PICTURES, command_line
from posestill.html.page import commands, figure, heading, page, paragraph, percent, strips, table, verdict
from posestill.html.people import LEGEND, seen_by
from posestill.models.cost import Cost, measure
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.study.control import gains_of, say_gains
from posestill.teachers.checkpoint import BUNDLED


@dataclass(frozen=True)
class Variant:
    """One way to train the same student: a name, what the table calls it, and its changes to the recipe."""

    name: str
    title: str
    changes: tuple[str, ...] = ()


_NO_TEACHER = ("method=supervised", "teacher=null", "data.labelled_per_batch=null")
ALONE = Variant("alone", "student alone", (*_NO_TEACHER, "data.people=200"))
PSEUDO_LABEL = Variant("pseudo_label", "student on pseudo-labels", ("method=pseudo_label",))
DISTILLED = Variant("distilled", "student distilled (tcd)")
ALL_LABELS = Variant("all_labels", "reference: alone, all labels", (*_NO_TEACHER, "data.labelled=null"))
_FINDING = Path(__file__).parents[1] / "assets" / "protocol.json"
"""Written by benchmarks/readme.py from results/protocol/summary.json; a test holds the two together."""
ORDER = (ALONE, PSEUDO_LABEL, DISTILLED, ALL_LABELS)
"""how tables and pictures show them"""
SHIFTS = ((ALONE, ALL_LABELS), (PSEUDO_LABEL, DISTILLED))
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
    changes = [f"seed={seed}", *([f"train.steps={steps}"] if steps else [])]
    runs = {variant: load_run("quickstart", [*changes, *variant.changes]) for variant in ORDER}
    _make_room(out)
    log.say("One student of 64x48 crops, trained four ways on synthetic people (first use renders them) ...")
    outcomes = _train_all(runs, out, log)

    settings = runs[DISTILLED]
    source = open_sources(settings).val
    teacher = PoseModel.load(BUNDLED)
    with log.bar("asking the teacher", len(source.people)) as bar:
        shown = evaluate_model(teacher, source, settings.evaluate, Share(progress=bar.advance))
    models = {"teacher": teacher, **{variant.name: PoseModel.load(out / variant.name / "best") for variant in ORDER}}
    outcomes = {"teacher": Outcome("teacher (bundled)", 0, 0, shown.metrics, shown.similarity), **outcomes}
    outcomes = _with_costs(outcomes, models)
    sentence = f"{summarise(outcomes, seed=seed)} {protocol_sentence()}".strip()
    lines = [_table_line(outcome) for outcome in outcomes.values()]
    for line in [["", *_HEADERS[1:]], *lines]:
        log.say(f"{line[0]:<30}" + "".join(f"{each:>13}" for each in line[1:]))
    log.say("")
    log.say(sentence)
    conditions = (
        f"{len(source.people)} held-out synthetic people, {shown.conditions['boxes']} boxes, flip test "
        f"{'on' if shown.conditions['flip_test'] else 'off'}, input {settings.model.size[0]}x{settings.model.size[1]}, "
        f"{settings.train.steps} steps of {settings.train.batch_size}, seed {seed}."
    )
    minutes = (time.monotonic() - began) / 60
    log.say(f"{conditions} {minutes:.1f} minutes in all.")
    report = _write_report(out, sentence, conditions, lines, models, source)
    figures = {
        "command": "posestill quickstart",
        "sentence": sentence,
        "conditions": conditions,
        "minutes": minutes,
        "rows": {name: {**asdict(outcome), "similarity": None} for name, outcome in outcomes.items()},
        "settings": settings.model_dump(mode="json"),
        "settings_hash": run_hash(settings),
        "surroundings": surroundings(),
    }
    write_json(out / "quickstart.json", figures)
    log.say(f"Look at {report}")
    return report


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
    """What distillation gave here, how much of it pseudo-labels give, what is not known."""
    names = {"method": "distilled", "alone": "alone", "pseudo_label": "pseudo_label"}
    gains = gains_of({way: outcomes[name].similarity[None] for way, name in names.items()})
    return say_gains(gains, seeds=range(seed, seed + 1))


def protocol_sentence() -> str:
    """What the protocol found over many seeds for the same method; empty where no finding comes with the package."""
    if not _FINDING.is_file():
        return ""
    found = json.loads(_FINDING.read_text())
    return (
        f"One seed shows little: over {found['seeds']} seeds, with {found['labels']:,} labels and {found['persons']:,} "
        f"other people, the protocol ({found['protocol']}) measured {found['arm']} at {found['over_alone']} over "
        f"training alone and {found['over_pseudo_label']} over pseudo-labels."
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
    sentence: str,
    conditions: str,
    lines: list[list[str]],
    models: Mapping[str, PoseModel],
    source: PoseSource,
) -> Path:
    titles = [variant.title for variant in ORDER]
    losses = {
        variant.title: loss_curves(read_metrics(out / variant.name / "metrics.jsonl"))["task"] for variant in ORDER
    }
    found = {name.replace("_", " "): model for name, model in models.items()}
    parts = [
        verdict([sentence]),
        table(_HEADERS, lines, caption="One student, trained four ways, and its teacher"),
        paragraph(conditions + " Milliseconds: batch 1, one thread, median of 30."),
        paragraph(
            "The students have no trained confidence: their persons rank by box score, all equal here, which costs AP "
            "that the teacher's own scores earn. Mean OKS compares them fairly."
        ),
        heading("The same people, seen by each"),
        paragraph(LEGEND),
        strips(seen_by(found, source, count=10)),
        heading("Training"),
        figure(curves(losses, across="steps", up="loss on the labels", among=titles), "Loss on the labels"),
        heading("What to do next"),
        commands(
            [
                (
                    "Draw a student's poses on your own pictures, in the place of PICTURES:",
                    command_line("predict", out / DISTILLED.name / "best", SOME_PICTURES),
                )
            ]
        ),
    ]
    path = out / "report.html"
    text = page("Quickstart", parts, subtitle="One small student, trained four ways on synthetic people")
    write_whole(path, lambda draft: draft.write_text(text))
    return path
