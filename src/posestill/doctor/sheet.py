"""Draws a contact sheet: people of a dataset with keypoints and boxes, to see what no check can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posestill.data.image_files import read_image
from posestill.doctor.checks import AnnotationSet, is_finite
from posestill.files import Outputs
from posestill.skeletons import Skeleton

MOST_PEOPLE = 24
_COLUMNS = 6
_CELL = (224, 176)
"""(height, width) of a person, px"""
_PADDING = 1.3
"""a cell shows the bbox times this"""


def draw_sheet(annotation_sets: Sequence[AnnotationSet], path: Path, *, outputs: Outputs | None = None) -> bool:
    """Write a picture of up to 24 people, evenly spread over the dataset; False when there is nobody to draw.

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

    count = min(MOST_PEOPLE, len(people))
    chosen = [people[index] for index in np.linspace(0, len(people) - 1, count).round().astype(int)]
    cells = [_cell(annotation_set, entry) for annotation_set, entry in chosen]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _COLUMNS)
    rows = [np.concatenate(cells[start : start + _COLUMNS], axis=1) for start in range(0, len(cells), _COLUMNS)]
    (outputs or Outputs("data check")).write(path, image_writer(path, np.concatenate(rows, axis=0)))
    return True


def _is_drawable(annotation_set: AnnotationSet, entry: dict[str, Any]) -> bool:
    category, box, points = annotation_set.category, entry.get("bbox") or (), entry.get("keypoints") or ()
    file = annotation_set.files.get(annotation_set.sound_images.get(entry.get("image_id"), {}).get("file_name") or "")
    return (
        category is not None
        and len(box) == 4
        and len(points) == 3 * len(category["keypoints"])
        and all(is_finite(value) for value in (*box, *points))
        and min(box[2:]) > 0
        and any(visibility > 0 for visibility in points[2::3])
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
    points = np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
    points[:, :2] = points[:, :2] * scale + offset
    outline = np.concatenate([box[:2] * scale + offset, box[2:] * scale])[None]
    drawn = draw_poses(crop, points[None], _skeleton(annotation_set), threshold=0.5, boxes=outline)
    text = f"{annotation_set.name.removeprefix('person_keypoints_')} {entry.get('id')}"
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
