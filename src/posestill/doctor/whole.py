"""What can be wrong with the labels of a dataset as a whole, though every entry is sound for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posestill.data.coco_notes import are_corners
from posestill.doctor.checks import AnnotationSet, Faults, is_finite, labels_in, numbers_in
from posestill.doctor.findings import Finding
from posestill.documents.fields import are_shares
from posestill.skeletons import COCO_17, known_sigmas

FEWEST_PEOPLE = 5
FEWEST_FACING = 6
"""people who face the camera, needed to judge whether left and right are exchanged"""


def examine_whole(annotation_set: AnnotationSet) -> list[Finding]:
    """List what the labels of one annotation set show together."""
    return [*_check_people(annotation_set), *_check_units(annotation_set), *_propose_sigmas(annotation_set)]


def count_in_words(annotations: Sequence[Mapping[str, Any]]) -> str:
    """How many annotations have labels, have none, and are crowds."""
    crowds = sum(bool(entry.get("iscrowd")) for entry in annotations)
    labelled = sum(not entry.get("iscrowd") and has_labels(entry) for entry in annotations)
    return f"{labelled} with labels, {len(annotations) - labelled - crowds} without, {crowds} crowds"


def has_labels(entry: Mapping[str, Any]) -> bool:
    """True where an annotation labels a keypoint."""
    return any(is_finite(value) and value > 0 for value in (entry.get("keypoints") or ())[2::3])


def _check_people(annotation_set: AnnotationSet) -> list[Finding]:
    category = annotation_set.category
    if category is None:
        return []
    names = list(category["keypoints"])
    poses = [
        np.nan_to_num(numbers_in(entry["keypoints"])).reshape(-1, 3)
        for entry in annotation_set.content["annotations"]
        if len(entry.get("keypoints") or ()) == 3 * len(names)
        and all(is_finite(each) for each in labels_in(entry["keypoints"]))
    ]
    poses = [pose for pose in poses if (pose[:, 2] > 0).any()]
    faults = Faults(annotation_set.name)
    if len(poses) < FEWEST_PEOPLE:
        faults.add("few-people", f"{len(poses)} people with labels")
    facing = [turn for turn in (_faces_wrongly(pose, names) for pose in poses) if turn is not None]
    if len(facing) >= FEWEST_FACING and sum(facing) > 0.75 * len(facing):
        faults.add("sides-exchanged", f"{sum(facing)} of {len(facing)} people who face the camera")
    return faults.findings()


def _faces_wrongly(pose: np.ndarray, names: Sequence[str]) -> bool | None:
    """True where an upright person with both eyes visible has left_eye and left_shoulder on the image's left.

    Who shows both eyes faces the camera, and then the left side is on the image's right. None: no judgement.
    """
    needed = ("left_eye", "right_eye", "left_shoulder", "right_shoulder")
    if any(name not in names for name in needed):
        return None
    left_eye, right_eye, left, right = (pose[names.index(name)] for name in needed)
    upright = max(left_eye[1], right_eye[1]) < min(left[1], right[1])
    if min(left_eye[2], right_eye[2]) < 2 or min(left[2], right[2]) < 1 or not upright:
        return None
    return bool(left_eye[0] < right_eye[0] and left[0] < right[0])


def _check_units(annotation_set: AnnotationSet) -> list[Finding]:
    """Places that are shares of the image in the place of px, and boxes that are two corners."""
    faults = Faults(annotation_set.name)
    boxes = _boxes(annotation_set)
    listed = [entry.get("keypoints") or () for entry in annotation_set.content["annotations"]]
    poses = [numbers_in(flat).reshape(-1, 3) for flat in listed if len(flat) and len(flat) % 3 == 0]
    points = np.concatenate([np.zeros((0, 3)), *poses])
    for what, places in (
        ("keypoints", points[points[:, 2] > 0, :2]),
        ("bboxes", np.array([box for box, _ in boxes]).reshape(-1, 2)),
    ):
        if are_shares(places):
            faults.add("shares", f"all {what}")
    if has_corners(annotation_set):
        faults.add("corners", f"{len(boxes)} bboxes")
    return faults.findings()


def has_corners(annotation_set: AnnotationSet) -> bool:
    """True where the bboxes, read as x y w h, must be x1 y1 x2 y2."""
    boxes = _boxes(annotation_set)
    sized = [(box, size) for box, image_id in boxes if (size := annotation_set.size(image_id)) is not None]
    return bool(sized) and are_corners(np.array([box for box, _ in sized]), np.array([size[::-1] for _, size in sized]))


def _boxes(annotation_set: AnnotationSet) -> list[tuple[np.ndarray, Any]]:
    """Each bbox (4,) that holds four numbers, with the id of its image."""
    entries = annotation_set.content["annotations"]
    boxes = [(numbers_in(entry["bbox"]), entry.get("image_id")) for entry in entries if entry.get("bbox")]
    return [(box, image_id) for box, image_id in boxes if box.shape == (4,) and np.isfinite(box).all()]


def _propose_sigmas(annotation_set: AnnotationSet) -> list[Finding]:
    """A note with the spreads that OKS will use, where nobody gave them."""
    category = annotation_set.category
    if (
        category is None
        or (annotation_set.metainfo or {}).get("sigmas")
        or category.get("sigmas")
        or tuple(category["keypoints"]) == COCO_17.names
    ):
        return []
    names = list(dict.fromkeys(category["keypoints"]))
    known = dict(zip(names, known_sigmas(names), strict=True))
    sources = [f"{name} {sigma:g} ({_origin(sigma)})" for name, sigma in known.items()]
    remedy = "give your own as `sigmas` in a metainfo file where these do not suit"
    return [
        Finding("no-sigmas", "note", tuple(sources), "no OKS sigmas are given; proposed:", remedy, annotation_set.name)
    ]


def _origin(sigma: float) -> str:
    for name, known in zip(COCO_17.names, COCO_17.oks_sigmas, strict=True):
        if known == sigma and name.split("_")[-1] != "shoulder":
            return f"COCO's {name.split('_')[-1]}"
    return "COCO's shoulder, or no such part in COCO"
