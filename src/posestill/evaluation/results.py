"""COCO result files: read, checked and scored without any model (and without importing torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posestill.data.coco import CocoSource, read_json
from posestill.metrics.oks import LabelledPeople, PredictedPeople, average_precision, explain
from posestill.metrics.wholebody import WHOLE, wholebody_precision
from posestill.schema import UserError


def read_results(path: Path, truth: CocoSource) -> PredictedPeople:
    """The predictions of a COCO keypoint results file, for the images and the category of `truth`.

    Where `truth` is COCO-WholeBody an entry has its five lists, or one list `keypoints` of all 133.
    """
    return _predicted(_read_entries(path, truth), path, truth)


def _read_entries(path: Path, truth: CocoSource) -> dict[int, Any]:
    """The entries of the category of `truth`, by their position in the file."""
    content = read_json(path, what="results file")
    if not isinstance(content, list):
        raise UserError(
            f"{path} is not a COCO results file: it should be a list of image_id, category_id, keypoints, score"
        )
    for position, entry in enumerate(content):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {position} is no mapping of image_id, category_id, keypoints, score")
    return {
        position: entry
        for position, entry in enumerate(content)
        if entry.get("category_id", truth.category_id) == truth.category_id
    }


def _predicted(entries: Mapping[int, Any], path: Path, truth: CocoSource) -> PredictedPeople:
    image_ids, keypoints, scores = [], [], []
    for position, entry in entries.items():
        try:
            image_ids.append(int(entry["image_id"]))
            scores.append(float(entry["score"]))
            numbers = truth.numbers_of(entry, where=f"{path}: entry {position}")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: entry {position} lacks a proper {error}") from None
        if numbers is None:
            raise UserError(f"{path}: entry {position} lacks a proper 'keypoints'")
        keypoints.append(numbers[:, :2])
    if unknown := set(image_ids) - set(truth.file_names):
        raise UserError(
            f"{path}: {len(unknown)} image ids (such as {min(unknown)}) are not in {truth.path}: are both of one split?"
        )
    boxes = [entry.get("bbox") for entry in entries.values()]
    if boxes and boxes[0] and not all(isinstance(box, list) and len(box) == 4 for box in boxes):
        raise UserError(f"{path}: some entries carry a bbox and some do not: give all of them or none")
    return PredictedPeople(
        image_id=np.array(image_ids, dtype=np.int64),
        keypoints=np.array(keypoints, dtype=np.float64).reshape(-1, len(truth.skeleton), 2),  # (M, K, 2)
        score=np.array(scores, dtype=np.float64),
        area=np.array([box[2] * box[3] for box in boxes], dtype=np.float64) if boxes and boxes[0] else None,
    )


def _part_scores(entries: Mapping[int, Any], parts: Sequence[str], path: Path) -> dict[str, np.ndarray]:
    """(M,) by part, for the parts that an entry scores (`foot_score`, ...); elsewhere `score` counts."""
    given = [part for part in parts if any(f"{part}_score" in entry for entry in entries.values())]
    try:
        return {
            part: np.array([float(entry.get(f"{part}_score", entry["score"])) for entry in entries.values()])
            for part in given
        }
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a part's score is no number ({error})") from None


def score_results(
    annotations: Path, results: Path, *, metainfo: Path | None = None, wholebody: bool = False
) -> dict[str, Any]:
    """COCO's ten numbers of a results file, and notes in words where AP is 0 or does not exist.

    With `wholebody` the files are COCO-WholeBody's, the ten numbers are those of all 133 keypoints, and `parts` holds
    ten for `wholebody`, `body`, `foot`, `face`, `lefthand`, `righthand` and `hand`, the mean of both hands. A part
    ranks by the results' `foot_score` and the like where they have it, else by the person's `score`.
    """
    if wholebody and metainfo is not None:
        raise UserError("--wholebody brings its own skeleton: leave --metainfo out")
    source = CocoSource(annotations, images=None, metainfo=metainfo, wholebody=wholebody)
    truth = LabelledPeople.of(source.people, len(source.skeleton))
    entries = _read_entries(results, source)
    predicted = _predicted(entries, results, source)
    sigmas = np.array(source.skeleton.oks_sigmas)
    parts: dict[str, Any] = {}
    if source.skeleton.parts:
        scores = _part_scores(entries, [WHOLE, *source.skeleton.parts], results)
        of_parts = wholebody_precision(
            truth, predicted, parts=source.skeleton.parts, oks_sigmas=sigmas, part_scores=scores
        )
        metrics, parts = of_parts[WHOLE], {"parts": of_parts}
    else:
        metrics = average_precision(truth, predicted, oks_sigmas=sigmas)
    return {
        **metrics,
        **parts,
        "conditions": {
            "annotations": str(annotations),
            "results": str(results),
            "persons": int((truth.labelled.any(axis=1) & ~truth.crowd).sum()),
            "predictions": len(predicted),
        },
        "notes": explain(metrics, truth, predicted, oks_sigmas=sigmas),
    }
