"""Labels made for pictures as they are not shown: turned as their files store them, or of another size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from posestill.types import Size

if TYPE_CHECKING:
    from posestill.doctor.checks import AnnotationSet

_TOLERANCE = 2.0
"""px that labels may reach beyond their picture"""
_ONE_FACTOR = 0.02
"""by how much the factors of width and height may differ and still be one: sizes are whole px"""
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
    """A COCO annotation with boxes, keypoints and outlines where they are when the picture is shown.

    A mask in run lengths is left out, as it would have to be drawn anew.
    """
    return _moved(entry, lambda points: turn_points(points, orientation, stored))


def scale_entry(entry: Mapping[str, Any], factor: np.ndarray) -> dict[str, Any]:
    """A COCO annotation in a picture that is `factor` (2,) times as wide and as high. Masks are as in `turn_entry`."""
    scaled = _moved(entry, lambda points: points * factor)
    if _are_numbers([entry.get("area")], 1):
        scaled["area"] = float(entry["area"] * factor.prod())
    return scaled


def _moved(entry: Mapping[str, Any], move: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """A COCO or COCO-WholeBody annotation with all of its places (..., 2) where `move` puts them."""
    moved = dict(entry)
    for name, given in entry.items():
        if (name == "bbox" or name.endswith("_box")) and _are_numbers(given, 4) and any(given):
            x, y, width, height = given
            ends = move(np.array([[x, y], [x + width, y + height]], dtype=float))
            moved[name] = [*_plain(ends.min(axis=0)), *_plain(np.abs(ends[1] - ends[0]))]
        elif (name == "keypoints" or name.endswith("_kpts")) and _are_numbers(given, 3):
            points = np.array(given, dtype=float).reshape(-1, 3)
            labelled = points[:, 2] > 0
            points[labelled, :2] = move(points[labelled, :2])
            moved[name] = _plain(points.ravel())
    outlines = entry.get("segmentation")
    if isinstance(outlines, list) and all(_are_numbers(each, 2) for each in outlines):
        moved["segmentation"] = [_plain(move(np.array(each, dtype=float).reshape(-1, 2)).ravel()) for each in outlines]
    else:
        moved.pop("segmentation", None)
    return moved


def scale_factors(annotation_set: AnnotationSet) -> dict[Any, np.ndarray]:
    """Of images whose labels were made for a copy of another size: id -> (2,) the file's width and height over its.

    These are the images whose listed size is the file's but for one factor, where all labels fit the listed size and
    some do not fit the file: what holds for some of them holds for all. Empty where the labels fit the files.
    """
    found, sizes = {}, {}
    unturned = annotation_set.unturned
    for image_id, image in annotation_set.sound_images.items():
        file = annotation_set.files.get(image.get("file_name") or "")
        height, width = image.get("height"), image.get("width")
        if file is None or file.size is None or image_id in unturned or not _are_numbers([height, width], 2):
            continue
        listed = (int(height or 1), int(width or 1))
        factor = np.array(file.size[::-1], dtype=float) / np.array(listed[::-1], dtype=float)
        if listed != file.size and abs(factor[0] / factor[1] - 1) < _ONE_FACTOR:
            found[image_id], sizes[image_id] = factor, (listed, file.size)
    of_image = _by_image(annotation_set.content["annotations"], found)
    fit_listed = all(_labels_fit(entries, sizes[image_id][0]) for image_id, entries in of_image.items())
    fit_files = all(_labels_fit(entries, sizes[image_id][1]) for image_id, entries in of_image.items())
    return found if fit_listed and not fit_files else {}


def _by_image(entries: Iterable[Mapping[str, Any]], wanted: Collection[Any]) -> dict[Any, list[Mapping[str, Any]]]:
    """The annotations of some images."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry.get("image_id") in wanted:
            found.setdefault(entry["image_id"], []).append(entry)
    return found


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
    of_image = _by_image(annotations, suspects)
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
