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
from posestill.engine.config import RunConfig, dump_run
from posestill.engine.fit import FitResult
from posestill.evaluation.evaluate import EvaluateConfig, labelled_people, predict_poses
from posestill.html.charts import curves
from posestill.html.page import code, heading, page, paragraph, pictures, table
from posestill.models.pose_model import PoseModel

PICTURE_HEIGHT = 224


def write_run_report(result: FitResult, config: RunConfig, verdict: Sequence[str] = ()) -> Path:
    """Write `report.html` into the run folder and return its path; it opens with the HTML parts of a `verdict`."""
    evaluation, folder = result.evaluation, result.folder
    best = PoseModel.load(folder / "best")
    rows = read_metrics(folder / "metrics.jsonl")
    conditions = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in evaluation.conditions.items())
    parts = [
        *verdict,
        paragraph(
            f"Mean OKS {percent(evaluation.metrics['mean_oks'])}, AP {percent(evaluation.metrics['AP'])}.", strong=True
        ),
        paragraph(conditions),
        *(paragraph(note) for note in evaluation.notes),
        heading("Figures at the last step"),
        table(
            ["figure", "x 100"],
            [[name.replace("_", " "), percent(value)] for name, value in evaluation.metrics.items()],
        ),
        heading("Losses"),
        curves(loss_curves(rows), across="steps", up="loss"),
        heading("Pictures"),
        pictures(*side_by_side({f"best/ (step {best.lineage['step']})": best}, result.sources.val, count=8)),
        heading("Per keypoint"),
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
    path.write_text(page(f"posestill: {folder.name}", parts))
    return path


def side_by_side(
    models: Mapping[str, PoseModel], source: PoseSource, *, count: int
) -> tuple[list[list[np.ndarray]], list[str]]:
    """Rows of pictures, labels first and then each model's poses, of persons spread evenly over a source; captions."""
    usable = labelled_people(source)
    chosen = usable[np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int)]
    found = [predict_poses(model, source, chosen, EvaluateConfig()).keypoints for model in models.values()]
    rows = []
    for row, position in enumerate(chosen.tolist()):
        person = source.people[position]
        assert person.keypoints is not None
        labels = person.keypoints.copy()
        labels[:, 2] = labels[:, 2] > 0
        image = source.image(person.image_id)
        poses = [labels, *(each[row] for each in found)]
        rows.append([_picture(image, pose, person.bbox, source) for pose in poses])
    return rows, ["labels", *models]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.is_file() else []


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Each named loss over the steps, from the rows of a metrics.jsonl."""
    other = {"step", "learning_rate", "persons_per_second", "evaluation", "watched"}
    names = [name for row in rows for name in row if name not in other]
    return {
        name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in dict.fromkeys(names)
    }


def percent(value: float | None) -> str:
    """A figure times 100 with one decimal; a dash where there is none, -1 where AP does not exist."""
    if value is None or value != value:
        return "–"
    return "-1" if value == -1 else f"{100 * value:.1f}"


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
