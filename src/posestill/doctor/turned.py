"""Labels of photographs that lie turned in their files: made on the pixels as they are stored, shown otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from posestill.types import Size

_TOLERANCE = 2.0
"""px that labels may reach beyond their picture"""
_TURNS: dict[int, tuple[int, int, int, int]] = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, -1, 1, 0), 7: (0, -1, -1, 0), 8: (0, 1, -1, 0),
}  # fmt: skip
"""EXIF orientation -> the 2 x 2 matrix, row by row, that turns (x, y) of the file into (x, y) as shown, but for where
the origin then lies"""


def turn_points(points: np.ndarray, orientation: int, stored: Size) -> np.ndarray:
    """Points (..., 2) x y of a picture stored with (height, width) where they are when it is shown.

    COCO measures labels from the picture's corner: x runs from 0 at one border to the width at the other.
    """
    matrix = np.array(_TURNS[orientation], dtype=float).reshape(2, 2)
    extent = np.array([stored[1], stored[0]])
    return points @ matrix.T + np.maximum(-matrix @ extent, 0)


def turn_entry(entry: Mapping[str, Any], orientation: int, stored: Size) -> dict[str, Any]:
    """A COCO annotation with bbox, keypoints and outlines where they are when the picture is shown.

    A mask in run lengths is left out, as it would have to be drawn anew.
    """
    turned = dict(entry)
    if _are_numbers(entry.get("bbox"), 4):
        x, y, width, height = entry["bbox"]
        ends = turn_points(np.array([[x, y], [x + width, y + height]], dtype=float), orientation, stored)
        turned["bbox"] = [*_plain(ends.min(axis=0)), *_plain(np.abs(ends[1] - ends[0]))]
    if _are_numbers(entry.get("keypoints"), 3):
        points = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        labelled = points[:, 2] > 0
        points[labelled, :2] = turn_points(points[labelled, :2], orientation, stored)
        turned["keypoints"] = _plain(points.ravel())
    outlines = entry.get("segmentation")
    if isinstance(outlines, list) and all(_are_numbers(each, 2) for each in outlines):
        turned["segmentation"] = [
            _plain(turn_points(np.array(each, dtype=float).reshape(-1, 2), orientation, stored).ravel())
            for each in outlines
        ]
    else:
        turned.pop("segmentation", None)
    return turned


def unturned_images(
    images: Iterable[Mapping[str, Any]], annotations: Iterable[Mapping[str, Any]], orientations: Mapping[str, int]
) -> set[Any]:
    """The ids of turned pictures whose labels were made on the pixels as they are stored.

    `images` are entries whose width and height are those of the stored pixels, `orientations` EXIF's by file name.
    Where labels reach beyond the stored picture and lie within the shown one, only width and height are wrong: what
    holds for most pictures of which labels tell holds for all.
    """
    suspects = {
        image["id"]: (image["height"], image["width"])
        for image in images
        if orientations.get(image.get("file_name") or "", 1) >= 5
    }
    of_image: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in annotations:
        if entry.get("image_id") in suspects:
            of_image.setdefault(entry["image_id"], []).append(entry)
    telling: Counter[str] = Counter()
    for image_id, entries in of_image.items():
        stored = suspects[image_id]
        fits = _labels_fit(entries, stored), _labels_fit(entries, stored[::-1])
        telling.update({(True, False): ["stored"], (False, True): ["shown"]}.get(fits, []))
    return set(suspects) if telling["stored"] >= telling["shown"] else set()


def _labels_fit(entries: Sequence[Mapping[str, Any]], size: Size) -> bool:
    """True where all boxes and labelled keypoints lie within a picture of (height, width), or next to it."""
    limit = np.array([size[1], size[0]]) + _TOLERANCE
    for entry in entries:
        points = np.zeros((0, 2))
        if _are_numbers(entry.get("bbox"), 4):
            box = np.array(entry["bbox"], dtype=float)
            points = np.stack([box[:2], box[:2] + box[2:]])
        if _are_numbers(entry.get("keypoints"), 3):
            own = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
            points = np.concatenate([points, own[own[:, 2] > 0, :2]])
        if (points > limit).any() or (points < -_TOLERANCE).any():
            return False
    return True


def _are_numbers(given: Any, of: int) -> bool:
    return (
        isinstance(given, list)
        and len(given) > 0
        and len(given) % of == 0
        and all(isinstance(each, int | float) and -1e9 < each < 1e9 for each in given)
    )


def _plain(values: np.ndarray) -> list[float | int]:
    rounded = [round(float(value), 3) for value in values]
    return [int(value) if value.is_integer() else value for value in rounded]
