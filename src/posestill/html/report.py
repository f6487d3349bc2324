"""A run's report.html: its figures, its losses, and pictures, for people who would rather look than read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posestill.data.source import PoseSource
from posestill.draw import draw_poses
from posestill.engine.beside import Beside
from posestill.engine.choose import starts_from_nothing
from posestill.engine.config import RunConfig, dump_run
from posestill.engine.fit import FitResult
from posestill.evaluation.evaluate import EvaluateConfig, labelled_people, predict_poses
from posestill.files import write_whole
from posestill.html.beside import agreement_parts, beside_parts
from posestill.html.charts import curves
from posestill.html.page import code, heading, page, paragraph, percent, pictures, table
from posestill.models.pose_model import PoseModel

PICTURE_HEIGHT = 224


def write_run_report(
    result: FitResult, config: RunConfig, verdict: Sequence[str] = (), *, beside: Beside | None = None
) -> Path:
    """Write `report.html` into the run folder and return its path; it opens with the HTML parts of a `verdict`.

    Where the teacher's answers stand in for labels, it says so and speaks of agreement; `beside` adds size, time and
    figures on labels of student and teacher.
    """
    evaluation, folder, source = result.evaluation, result.folder, result.sources.val
    best = PoseModel.load(folder / "best")
    rows = read_metrics(folder / "metrics.jsonl")
    conditions = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in evaluation.conditions.items())
    truth = evaluation.conditions.get("truth")
    against = "" if truth is None else f", against {truth}"
    mean, precision = percent(evaluation.metrics["mean_oks"]), percent(evaluation.metrics["AP"])
    said = f"Mean OKS {mean}, AP {precision}."
    if truth is not None:
        said = f"Agreement with the teacher on {evaluation.conditions['persons']} people: mean OKS {mean}."
    name = "student" if truth is not None else f"best/ (step {best.lineage['step']})"
    warning = starts_from_nothing(config) if config.data.has_no_labels else ""
    parts = [
        *verdict,
        *([paragraph(warning, strong=True)] if warning else []),
        paragraph(said, strong=True),
        paragraph(conditions),
        *(paragraph(note) for note in evaluation.notes),
        *([] if beside is None else beside_parts(beside)),
        *([] if evaluation.agreement is None else agreement_parts(evaluation.agreement)),
        heading(f"Figures at the last step{against}"),
        table(
            ["figure", "x 100"],
            [[name.replace("_", " "), percent(value)] for name, value in evaluation.metrics.items()],
        ),
        heading("Losses"),
        curves(loss_curves(rows), across="steps", up="loss"),
        heading("Pictures"),
        *(
            []
            if truth is None
            else [paragraph("Keypoints of which the teacher is sure, as each of the two sees them.")]
        ),
        pictures(*side_by_side({name: best}, source, count=8)),
        *_least_alike(name, best, result),
        heading(f"Per keypoint{against}"),
        table(
            ["keypoint", "PCK x 100", "normalised error x 100"],
            [
                [name, percent(figures["PCK"]), percent(figures["normalised_error"])]
                for name, figures in evaluation.per_keypoint.items()
            ],
        ),
        heading("Settings"),
        code(dump_run(config)),
    ]
    path = folder / "report.html"
    text = page(f"posestill: {folder.name}", parts)
    write_whole(path, lambda draft: draft.write_text(text))
    return path


def side_by_side(
    models: Mapping[str, PoseModel], source: PoseSource, *, count: int, persons: np.ndarray | None = None
) -> tuple[list[list[np.ndarray]], list[str]]:
    """Rows of pictures, labels first and then each model's poses, of persons spread evenly over a source; captions.

    `persons` are positions to show in place of such a choice. Where a teacher's answers stand in for labels, the
    caption says so, and all poses are drawn where it is sure.
    """
    usable, truth = labelled_people(source), getattr(source, "truth", None)
    chosen = usable[np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int)]
    chosen = chosen if persons is None else persons[:count]
    found = [predict_poses(model, source, chosen, EvaluateConfig()).keypoints for model in models.values()]
    rows = []
    for row, position in enumerate(chosen.tolist()):
        person = source.people[position]
        assert person.keypoints is not None
        labels = person.keypoints.copy()
        labels[:, 2] = labels[:, 2] > 0
        image = source.image(person.image_id)
        poses = [labels, *(each[row] for each in found)]
        if truth is not None:  # what a young student says is weak at first, and would not be drawn
            poses = [np.concatenate([pose[:, :2], labels[:, 2:]], axis=1) for pose in poses]
        rows.append([_picture(image, pose, person.bbox, source) for pose in poses])
    return rows, ["labels" if truth is None else "teacher", *models]


def _least_alike(name: str, model: PoseModel, result: FitResult) -> list[str]:
    """The people on whom a student and the teacher that stands in for labels agree least."""
    if result.evaluation.agreement is None:
        return []
    worst = labelled_people(result.sources.val)[np.argsort(result.evaluation.similarity, kind="stable")]
    shown = side_by_side({name: model}, result.sources.val, count=4, persons=worst)
    return [heading("Where they agree least"), pictures(*shown)]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.is_file() else []


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Each named loss over the steps, from the rows of a metrics.jsonl."""
    other = {"step", "learning_rate", "persons_per_second", "evaluation", "watched", "unreadable"}
    names = [name for row in rows for name in row if name not in other]
    return {
        name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in dict.fromkeys(names)
    }


def _picture(image: np.ndarray, pose: np.ndarray, bbox: np.ndarray, source: PoseSource) -> np.ndarray:
    """The surroundings of a bbox, enlarged, with a pose on them."""
    centre, extent = bbox[:2] + bbox[2:] / 2, bbox[2:] * 1.3
    low = np.maximum(np.floor(centre - extent / 2), 0).astype(int)
    high = np.minimum(np.ceil(centre + extent / 2), [image.shape[1], image.shape[0]]).astype(int)
    scale = PICTURE_HEIGHT / max(1, high[1] - low[1])
    cut = cv2.resize(image[low[1] : high[1], low[0] : high[0]], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    moved = pose.copy()
    moved[:, :2] = (pose[:, :2] - low + 0.5) * scale - 0.5
    return draw_poses(cut, moved[None], source.skeleton, threshold=0.2)
