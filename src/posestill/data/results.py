"""COCO result files: read, checked and scored without any model (and without importing torch)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from posestill.data.coco import CocoSource, read_json
from posestill.metrics.oks import LabelledPeople, PredictedPeople, average_precision, explain
from posestill.schema import UserError


def read_results(path: Path, truth: CocoSource) -> PredictedPeople:
    """The predictions of a COCO keypoint results file, for the images and the category of `truth`."""
    content = read_json(path, what="results file")
    if not isinstance(content, list):
        raise UserError(
            f"{path} is not a COCO results file: it should be a list of image_id, category_id, keypoints, score"
        )
    count = len(truth.skeleton)
    counted, image_ids, keypoints, scores = [], [], [], []
    for position, entry in enumerate(content):
        try:
            if entry.get("category_id", truth.category_id) != truth.category_id:
                continue
            image_id, flat, score = int(entry["image_id"]), entry["keypoints"], float(entry["score"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: entry {position} lacks a proper {error}") from None
        if len(flat) != 3 * count:
            raise UserError(
                f"{path}: entry {position} has {len(flat)} keypoint numbers; {count} keypoints make {3 * count}"
            )
        counted.append(entry)
        image_ids.append(image_id)
        keypoints.append(flat)
        scores.append(score)
    if unknown := set(image_ids) - set(truth.file_names):
        raise UserError(
            f"{path}: {len(unknown)} image ids (such as {min(unknown)}) are not in {truth.path}: are both of one split?"
        )
    boxes = [entry.get("bbox") for entry in counted]
    if boxes and boxes[0] and not all(isinstance(box, list) and len(box) == 4 for box in boxes):
        raise UserError(f"{path}: some entries carry a bbox and some do not: give all of them or none")
    return PredictedPeople(
        image_id=np.array(image_ids, dtype=np.int64),
        keypoints=np.array(keypoints, dtype=np.float64).reshape(-1, count, 3)[..., :2],  # (M, K, 2)
        score=np.array(scores, dtype=np.float64),
        area=np.array([box[2] * box[3] for box in boxes], dtype=np.float64) if boxes and boxes[0] else None,
    )


def score_results(annotations: Path, results: Path, *, metainfo: Path | None = None) -> dict[str, Any]:
    """COCO's ten numbers of a results file, and notes in words where AP is 0 or does not exist."""
    source = CocoSource(annotations, images=None, metainfo=metainfo)
    truth = LabelledPeople.of(source.people, len(source.skeleton))
    predicted = read_results(results, source)
    sigmas = np.array(source.skeleton.oks_sigmas)
    metrics = average_precision(truth, predicted, oks_sigmas=sigmas)
    return {
        **metrics,
        "conditions": {
            "annotations": str(annotations),
            "results": str(results),
            "persons": int((truth.labelled.any(axis=1) & ~truth.crowd).sum()),
            "predictions": len(predicted),
        },
        "notes": explain(metrics, truth, predicted, oks_sigmas=sigmas),
    }
