"""A run's report.html: a verdict in words, then charts and people, for those who would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posestill.engine.beside import Beside
from posestill.engine.choose import starts_from_nothing
from posestill.engine.config import RunConfig, dump_run
from posestill.engine.fit import FitResult
from posestill.engine.surroundings import surroundings
from posestill.evaluation.evaluate import spread_evenly
from posestill.files import write_whole
from posestill.html.beside import agreement_parts, cost_parts, keypoint_parts
from posestill.html.course import Row, course_parts, ending, read_metrics
from posestill.html.expected import expected
from posestill.html.next_step import next_commands
from posestill.html.page import (
    code,
    commands,
    details,
    heading,
    notes,
    page,
    paragraph,
    percent,
    strips,
    table,
    tiles,
    verdict,
    warning,
)
from posestill.html.people import LEGEND, drawn_people
from posestill.html.verdict import tiles_of, verdict_of
from posestill.methods.pseudo_label import PseudoLabelConfig
from posestill.models.pose_model import PoseModel

SHOWN, WORST = 6, 4
"""people that are drawn: of all kinds, and of those that something is wrong with"""


@dataclass(frozen=True)
class Gained:
    """What a run gave over its controls."""

    sentence: str
    parts: Sequence[str]
    """HTML"""


def write_run_report(result: FitResult, config: RunConfig, beside: Beside, *, gained: Gained | None = None) -> Path:
    """Write `report.html` into the run folder and return its path.

    Where the teacher's answers stand in for labels, it says so and speaks of agreement. `gained` is what a comparison
    with controls found.
    """
    evaluation, folder = result.evaluation, result.folder
    best, rows = PoseModel.load(folder / "best"), read_metrics(folder / "metrics.jsonl")
    truth = evaluation.conditions.get("truth")
    figures = _figures_at(rows, best.lineage["step"]) or evaluation.metrics
    ended, gain = ending(rows), "" if gained is None else gained.sentence
    loud = starts_from_nothing(config) if config.data.has_no_labels else ""
    parts = [
        verdict(verdict_of(best, beside, evaluation, figures, gained=gain, ending=ended.sentence)),
        *([warning(loud)] if loud else []),
        tiles(tiles_of(beside, evaluation, figures)),
        notes(evaluation.notes),
        *([] if gained is None else [heading("What distillation gave"), *gained.parts]),
        heading("Training"),
        *course_parts(rows, truth=truth),
        *([] if beside.on_labels is None else keypoint_parts(beside.on_labels)),
        *([] if evaluation.agreement is None else agreement_parts(evaluation.agreement)),
        *_people(beside),
        *cost_parts(beside, surroundings()),
        heading("What to do next"),
        *([paragraph(expected())] if _learned_answers_alone(config) else []),
        commands(next_commands(config, folder, longer_first=ended.wants_more)),
        heading("All figures and settings"),
        *_all_figures(result, best.lineage["step"], figures),
        details("Settings of the run", [code(dump_run(config))]),
    ]
    path = folder / "report.html"
    text = page(f"Run {folder.name}", parts, subtitle=_subtitle(config))
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))
    return path


def _subtitle(config: RunConfig) -> str:
    """What was done, in a line: method, teacher, steps."""
    settings = config.model_dump(mode="json")
    teacher = settings["teacher"]
    named = "" if teacher is None else f" with the teacher {teacher.get('path') or teacher['name']}"
    length = f"{config.train.steps:,} steps" if config.train.steps else f"{config.train.epochs:g} epochs"
    return f"Trained by {settings['method']['name']}{named}, {length} of {config.train.batch_size}, seed {config.seed}"


def _learned_answers_alone(config: RunConfig) -> bool:
    """True where the teacher's keypoints were all that there was to learn."""
    return config.data.has_no_labels and isinstance(config.method, PseudoLabelConfig)


def _people(beside: Beside) -> list[str]:
    """People of all kinds, then those that are found worst and those on whom teacher and student differ most."""
    labels = beside.on_labels
    poses, truth = (labels.poses, "labels") if labels is not None else (beside.held, "teacher")
    if poses is None:
        return []  # nobody has labels, and no teacher's answers stand in for them
    evenly = spread_evenly(len(poses.people), SHOWN)
    who = "labels, teacher and student" if poses.teacher is not None and labels is not None else f"{truth} and student"
    parts = [
        heading("The same people, side by side"),
        paragraph(f"People spread evenly over those that were held out, as {who} see them. {LEGEND}"),
        strips(drawn_people(poses, evenly.tolist(), truth=truth)),
    ]
    if labels is not None:
        parts += [
            heading("Worst cases"),
            paragraph("The people on whom the student's OKS with the labels is lowest."),
            strips(drawn_people(poses, _lowest(poses.right(poses.student)), truth=truth)),
        ]
    held = beside.held if beside.held is not None else poses
    if held.teacher is not None:
        parts += [
            heading("Where teacher and student agree least"),
            paragraph(
                "The people on whom the OKS between the two is lowest. Either of them may be the one that is wrong."
            ),
            strips(drawn_people(held, _lowest(held.alike()), truth=truth if held is poses else "teacher")),
        ]
    return parts


def _lowest(similarity: np.ndarray) -> list[int]:
    """The positions of the few lowest of (M,) figures, the lowest first; NaN is none."""
    order = [int(at) for at in np.argsort(similarity, kind="stable") if np.isfinite(similarity[at])]
    return order[:WORST]


def _figures_at(rows: Sequence[Row], step: int) -> dict[str, float] | None:
    """The figures of the evaluation at a step, as metrics.jsonl has them."""
    found = [row["evaluation"] for row in rows if row["step"] == step and "evaluation" in row]
    return {name: float("nan") if value is None else value for name, value in found[-1].items()} if found else None


def _all_figures(result: FitResult, step: int, figures: dict[str, float]) -> list[str]:
    evaluation = result.evaluation
    truth = evaluation.conditions.get("truth")
    conditions = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in evaluation.conditions.items())
    against = "" if truth is None else f", against {truth}"
    return [
        details(
            "All figures, and the conditions that they hold under",
            [
                paragraph(f"{conditions}."),
                table(
                    ["figure", "x 100"],
                    [[name.replace("_", " "), percent(value)] for name, value in figures.items()],
                    caption=f"Figures of best/, the model of step {step}{against}",
                ),
                table(
                    ["keypoint", "PCK x 100", "normalised error x 100"],
                    [
                        [name.replace("_", " "), percent(each["PCK"]), percent(each["normalised_error"])]
                        for name, each in evaluation.per_keypoint.items()
                    ],
                    caption=f"By keypoint at the last step{against}",
                ),
            ],
        )
    ]
