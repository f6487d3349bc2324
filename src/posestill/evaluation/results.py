"""COCO result files: read, checked and scored without any model (and without importing torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posestill.data.coco import CocoSource
from posestill.data.source import count_people
from posestill.documents.fields import are_shares, identity, number, some, sound_box
from posestill.documents.parse import read_json
from posestill.metrics.oks import LabelledPeople, PredictedPeople, average_precision, explain
from posestill.metrics.wholebody import WHOLE, wholebody_precision
from posestill.schema import UserError


def read_results(path: Path, truth: CocoSource) -> PredictedPeople:
    """The predictions of a COCO keypoint results file, for the images and the category of `truth`.

    Where `truth` is COCO-WholeBody an entry has its five lists, or one list `keypoints` of all 133.
    """
    return _predicted(_read_entries(path, truth).of_category, path, truth)


@dataclass(frozen=True)
class _Entries:
    of_category: dict[int, Mapping[str, Any]]
    """by their position in the file"""
    notes: tuple[str, ...]


def _read_entries(path: Path, truth: CocoSource) -> _Entries:
    """The entries of the category of `truth`; a `UserError` where all are of others."""
    content = read_json(path, what="results file")
    if not isinstance(content, list):
        raise UserError(
            f"{path} is not a COCO results file: it should be a list of image_id, category_id, keypoints, score"
        )
    chosen: dict[int, Mapping[str, Any]] = {}
    others: list[int] = []
    for position, given in enumerate(content):
        where = f"{path}: entry {position}"
        if not isinstance(given, dict):
            raise UserError(f"{where} is no mapping of image_id, category_id, keypoints, score")
        own = truth.category_id
        if given.get("category_id") is not None:
            own = identity(given, "category_id", where=where)
        if own in truth.category.ids:
            chosen[position] = given
        else:
            others.append(own)
    wanted = f"{some(truth.category.ids)} ('{truth.category.name}')"
    told = f"of category {some(sorted(set(others)))}, and the category of {truth.path} is {wanted}"
    if others and not chosen:
        raise UserError(f"{path}: all {len(others)} entries are {told}: write that as their category_id")
    note = f"{len(others)} of {len(content)} entries of {path} are left out: they are {told}."
    return _Entries(chosen, (note,) if others else ())


def _predicted(entries: Mapping[int, Any], path: Path, truth: CocoSource) -> PredictedPeople:
    image_ids, keypoints, scores, areas = [], [], [], []
    with_box = [position for position, entry in entries.items() if entry.get("bbox") is not None]
    if with_box and len(with_box) != len(entries):
        raise UserError(f"{path}: some entries carry a bbox and some do not: give all of them or none")
    for position, entry in entries.items():
        where = f"{path}: entry {position}"
        for key in ("image_id", "score"):
            if key not in entry:
                raise UserError(f"{where} lacks a proper '{key}'")
        image_ids.append(identity(entry, "image_id", where=where))
        scores.append(number(entry, "score", where=where))
        points = truth.numbers_of(entry, where=where)
        if points is None:
            raise UserError(f"{where} lacks a proper 'keypoints'")
        if not np.isfinite(points[:, :2]).all():
            name = truth.skeleton.names[int((~np.isfinite(points[:, :2])).any(axis=1).argmax())]
            raise UserError(f"{where}: keypoint '{name}' has no place; every keypoint of a prediction needs x and y")
        keypoints.append(points[:, :2])
        if with_box:
            box = sound_box(entry["bbox"], where=where)
            areas.append(box[2] * box[3])
    if unknown := sorted(set(image_ids) - set(truth.file_names)):
        first = list(entries)[image_ids.index(unknown[0])]
        raise UserError(
            f"{path}: {len(unknown)} image ids (such as {unknown[0]}, of entry {first}) are not in {truth.path}: are "
            f"both of one split{_shifted(set(image_ids), truth)}?"
        )
    places = np.array(keypoints, dtype=np.float64).reshape(-1, len(truth.skeleton), 2)  # (M, K, 2)
    if are_shares(places.reshape(-1, 2)):
        raise UserError(f"{path}: all keypoints lie within 0..1, so they are shares of the image; px are wanted")
    return PredictedPeople(
        image_id=np.array(image_ids, dtype=np.int64),
        keypoints=places,
        score=np.array(scores, dtype=np.float64),
        area=np.array(areas, dtype=np.float64) if with_box else None,
    )


def _shifted(image_ids: set[int], truth: CocoSource) -> str:
    """A hint where ids fit once they are shifted by one."""
    for shift, start in ((1, 0), (-1, 1)):
        if {each + shift for each in image_ids} <= set(truth.file_names):
            return f", or do these ids count from {start}, and those of the images from {start + shift}"
    return ""


def _part_scores(entries: Mapping[int, Any], parts: Sequence[str], path: Path) -> dict[str, np.ndarray]:
    """(M,) by part, for the parts that an entry scores (`foot_score`, ...); elsewhere `score` counts."""
    given = [part for part in parts if any(f"{part}_score" in entry for entry in entries.values())]
    return {
        part: np.array(
            [
                number(entry, f"{part}_score" if f"{part}_score" in entry else "score", where=f"{path}: entry {at}")
                for at, entry in entries.items()
            ]
        )
        for part in given
    }


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
    read = _read_entries(results, source)
    entries = read.of_category
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
            "unlabelled": count_people(source.people).unlabelled,
            "crowds": int(truth.crowd.sum()),
            "predictions": len(predicted),
        },
        "notes": [*source.notes, *read.notes, *explain(metrics, truth, predicted, oks_sigmas=sigmas)],
    }
