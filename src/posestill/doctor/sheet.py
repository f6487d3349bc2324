"""Draws a contact sheet: people of a dataset with keypoints and boxes, to see what no check can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posestill.data.image_files import read_image
from posestill.doctor.checks import AnnotationSet, is_finite
from posestill.doctor.whole import has_labels
from posestill.files import Outputs
from posestill.skeletons import Skeleton

MOST_PEOPLE = 24
_COLUMNS = 6
_CELL = (224, 176)
"""(height, width) of a person, px"""
_PADDING = 1.3
"""a cell shows the bbox times this"""
_Drawn = tuple[AnnotationSet, dict[str, Any]]


def draw_sheet(annotation_sets: Sequence[AnnotationSet], path: Path, *, outputs: Outputs | None = None) -> bool:
    """Write a PNG of up to 24 people, spread over the dataset, and of up to 6 without labels; False for nobody.

    `outputs` remember that posestill wrote it.
    """
    people = [
        (annotation_set, entry)
        for annotation_set in annotation_sets
        for entry in annotation_set.content["annotations"]
        if _is_drawable(annotation_set, entry)
    ]
    if not people:
        return False
    from posestill.draw import image_writer

    labelled = [has_labels(entry) for _, entry in people]
    chosen = _spread([each for each, is_labelled in zip(people, labelled, strict=True) if is_labelled], MOST_PEOPLE)
    chosen += _spread([each for each, is_labelled in zip(people, labelled, strict=True) if not is_labelled], _COLUMNS)
    cells = [_cell(annotation_set, entry) for annotation_set, entry in chosen]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _COLUMNS)
    rows = [np.concatenate(cells[start : start + _COLUMNS], axis=1) for start in range(0, len(cells), _COLUMNS)]
    (outputs or Outputs("data check")).write(path, image_writer(path, np.concatenate(rows, axis=0)))
    return True


def _spread(people: list[_Drawn], most: int) -> list[_Drawn]:
    """Up to so many of some people, evenly spread."""
    places = np.linspace(0, len(people) - 1, min(most, len(people))).round().astype(int)
    return [people[place] for place in places]


def _is_drawable(annotation_set: AnnotationSet, entry: dict[str, Any]) -> bool:
    category, box, points = annotation_set.category, entry.get("bbox") or (), entry.get("keypoints") or ()
    file = annotation_set.files.get(annotation_set.sound_images.get(entry.get("image_id"), {}).get("file_name") or "")
    return (
        category is not None
        and len(box) == 4
        and len(points) in (0, 3 * len(category["keypoints"]))
        and all(is_finite(value) for value in (*box, *points))
        and min(box[2:]) > 0
        and file is not None
        and file.size is not None
    )


def _cell(annotation_set: AnnotationSet, entry: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of one person, named by the annotation's id."""
    import cv2

    from posestill.draw import draw_poses

    image = read_image(annotation_set.folder / annotation_set.sound_images[entry["image_id"]]["file_name"])
    height, width = _CELL
    box = np.array(entry["bbox"], dtype=np.float64)
    scale = float(min(width / (box[2] * _PADDING), height / (box[3] * _PADDING)))
    offset = np.array([width, height]) / 2 - scale * (box[:2] + box[2:] / 2)
    affine = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    crop = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR, borderValue=(60, 60, 60))
    points = np.array(entry.get("keypoints") or [], dtype=np.float64).reshape(-1, 3)
    points[:, :2] = points[:, :2] * scale + offset
    outline = np.concatenate([box[:2] * scale + offset, box[2:] * scale])[None]
    if not len(points):  # a person without labels is shown by its bbox
        points = np.zeros((len((annotation_set.category or {})["keypoints"]), 3))
    drawn = draw_poses(crop, points[None], _skeleton(annotation_set), threshold=0.5, boxes=outline)
    unlabelled = "" if points[:, 2].any() else " no labels"
    text = f"{annotation_set.name.removeprefix('person_keypoints_')} {entry.get('id')}{unlabelled}"
    for colour, shift in (((0, 0, 0), 1), ((255, 255, 255), 0)):  # a shadow, so that it can be read on any colour
        place = (4 + shift, height - 6 + shift)
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    return drawn


def _skeleton(annotation_set: AnnotationSet) -> Skeleton:
    """Names (for the sides' colours) and those edges that can be drawn, whatever else may be wrong."""
    category = annotation_set.category or {}
    names = [str(name) for name in category["keypoints"]]
    count = len(names)
    edges = [(edge[0] - 1, edge[1] - 1) for edge in category.get("skeleton") or () if len(edge) == 2]
    return Skeleton(
        names=tuple(name if name not in names[:index] else f"{name} {index}" for index, name in enumerate(names)),
        swap=tuple(range(count)),
        edges=tuple(edge for edge in edges if all(0 <= end < count for end in edge)),
        oks_sigmas=(0.079,) * count,
    )
