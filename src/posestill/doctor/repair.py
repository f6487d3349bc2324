"""Writes a repaired copy of an annotation set: only what can be mended without knowing the truth."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from posestill.data.coco_entries import AREA_OF_BBOX
from posestill.doctor.checks import AnnotationSet, counts_from_zero, entry_faults, is_finite, off_image, outside_image
from posestill.doctor.turned import scale_entry, scale_factors, turn_entry
from posestill.doctor.whole import has_corners
from posestill.files import distinct, write_json, write_quickly
from posestill.types import Size

_BBOX_AROUND_KEYPOINTS = 1.2
"""a bbox drawn around keypoints is theirs, times this"""


def repair_set(annotation_set: AnnotationSet, out: Path, *, several: bool) -> list[str]:
    """Write out/annotations/NAME.json, its images and metainfo, and say how often each kind of change was made.

    The images go to out/images, into a folder of their own for each set where there are `several`.
    """
    changes: Counter[str] = Counter()
    categories, merged = _repair_categories(annotation_set, changes)
    cuts_boxes = not has_corners(annotation_set)  # else they would be cut to boxes that look sound
    factors = scale_factors(annotation_set)
    images, new_ids = _repair_images(annotation_set, changes)
    kept = {image["id"]: image for image in images}
    category = next((each for each in categories if each.get("keypoints")), None)
    annotations: list[dict[str, Any]] = []
    used: set[Any] = set()
    unturned = annotation_set.unturned
    spare_id = 1 + max((each for each in _ids(annotation_set) if isinstance(each, int)), default=0)
    for entry in annotation_set.content["annotations"]:
        if entry.get("image_id") in unturned:
            turned = annotation_set.sound_images[entry["image_id"]]
            orientation = annotation_set.files[turned["file_name"]].orientation
            entry = turn_entry(entry, orientation, (turned["height"], turned["width"]))
            changes["annotations turned as their photographs are shown"] += 1
        elif entry.get("image_id") in factors:
            entry = scale_entry(entry, factors[entry["image_id"]])
            changes["annotations scaled to the size of their image's file"] += 1
        if entry.get("category_id") in merged:
            entry = {**entry, "category_id": merged[entry["category_id"]]}
        entry = {**entry, "image_id": new_ids.get(entry.get("image_id"), entry.get("image_id"))}
        image = kept.get(entry["image_id"])
        if image is None:
            changes["annotations left out: their image is missing or not listed"] += 1
            continue
        size = (image["height"], image["width"])
        mended = _repair_entry(entry, categories, category, size, changes, cuts_boxes=cuts_boxes)
        if mended is None:
            continue
        if mended.get("id") is None or mended["id"] in used:
            mended["id"], spare_id = spare_id, spare_id + 1
            changes["annotations given a new id"] += 1
        used.add(mended["id"])
        annotations.append(mended)
    filled = {entry["category_id"] for entry in annotations}
    used_categories = [each for each in categories if each["id"] in filled] or categories
    changes["empty categories taken out"] += len(categories) - len(used_categories)
    categories = used_categories
    folder = out / "images" / annotation_set.name if several else out / "images"
    names = distinct([_inside(image["file_name"]) for image in images])
    for image, name in zip(images, names, strict=True):
        source, target = annotation_set.folder / image["file_name"], folder / name
        changes["images given a new name, as another has theirs"] += name != _inside(image["file_name"])
        image["file_name"] = name
        write_quickly(target, partial(shutil.copyfile, source))
    content = {**annotation_set.content, "images": images, "annotations": annotations, "categories": categories}
    write_json(out / "annotations" / f"{annotation_set.name}.json", content)
    if annotation_set.metainfo:
        _write_metainfo(out / "metainfo.json", annotation_set.name, dict(annotation_set.metainfo))
    dropped = [finding for finding in annotation_set.findings if finding.severity == "error"]
    lines = [f"{annotation_set.name}: {len(each.where)}x {each.what}: {each.remedy}" for each in dropped]
    return lines + [f"{annotation_set.name}: {count} {what}" for what, count in changes.items() if count]


def _write_metainfo(path: Path, name: str, metainfo: dict[str, Any]) -> None:
    """One skeleton as it is; where an earlier set has another one, all of them by their names."""
    if path.is_file() and (earlier := json.loads(path.read_bytes())) != metainfo:
        several = earlier if "names" not in earlier else {"first": earlier}
        metainfo = {**several, name: metainfo} if metainfo not in several.values() else several
    write_json(path, metainfo)


def _ids(annotation_set: AnnotationSet) -> list[Any]:
    return [entry.get("id") for entry in annotation_set.content["annotations"]]


def _inside(name: str) -> str:
    """A file name that stays within its folder: `../b/c.jpg` becomes `b/c.jpg`."""
    return "/".join(piece for piece in PurePath(name).parts if piece not in ("..", "/", PurePath(name).anchor))


def _repair_images(annotation_set: AnnotationSet, changes: Counter[str]) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """The entries that can be read, and old id -> new id of pictures that were listed twice."""
    images: list[dict[str, Any]] = []
    by_content: dict[str, Any] = {}
    new_ids: dict[Any, Any] = {}
    used: set[Any] = set()
    numbers = [image.get("id") for image in annotation_set.content["images"] if isinstance(image.get("id"), int)]
    spare = max(numbers, default=0) + 1
    for entry in annotation_set.content["images"]:
        file = annotation_set.files.get(entry.get("file_name") or "")
        if entry.get("id") is None or file is None or file.size is None:
            changes["images left out: no file, or it cannot be decoded"] += 1
            continue
        image = dict(entry)
        if file.digest in by_content:
            if image["id"] not in used:
                new_ids[image["id"]] = by_content[file.digest]
            changes["pictures listed twice made one"] += 1
            continue
        if image["id"] in used:
            image["id"], spare = spare, spare + 1
            changes["images given a new id (their annotations stay with the first of the old id)"] += 1
        used.add(image["id"])
        by_content[file.digest] = image["id"]
        if (image.get("height"), image.get("width")) != file.size:
            image["height"], image["width"] = file.size
            changes["image sizes taken from the file"] += 1
        images.append(image)
    return images, new_ids


def _repair_categories(
    annotation_set: AnnotationSet, changes: Counter[str]
) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """The categories, and old id -> new id of those that were made one."""
    categories = [dict(category) for category in annotation_set.content["categories"]]
    for category in categories:
        edges, count = category.get("skeleton") or [], len(category.get("keypoints") or ())
        good = [edge for edge in edges if len(edge) == 2 and all(1 <= end <= count for end in edge)]
        if len(good) == len(edges):
            continue
        if counts_from_zero(edges, count):
            category["skeleton"] = [[end + 1 for end in edge] for edge in edges]
            changes["skeletons that counted from 0 count from 1"] += 1
        else:
            category["skeleton"] = good
            changes["edges taken out"] += len(edges) - len(good)
    named = [category for category in categories if category.get("keypoints")]
    same = [each for each in named if each["keypoints"] == named[0]["keypoints"]]
    if len(same) > 1:
        changes["categories with the same keypoints made one"] += len(same) - 1
        categories = [each for each in categories if each not in same[1:]]
    return categories, {each["id"]: same[0]["id"] for each in same[1:]}


def _repair_entry(
    entry: Mapping[str, Any],
    categories: list[dict[str, Any]],
    category: Mapping[str, Any] | None,
    size: Size,
    changes: Counter[str],
    *,
    cuts_boxes: bool,
) -> dict[str, Any] | None:
    """One annotation mended, or None when it has to go. `size` (height, width) of its image.

    `cuts_boxes` False: a bbox that leaves the image stays as it is.
    """
    mended = dict(entry)
    names = list((category or {}).get("keypoints", ()))
    own = next((each for each in categories if each["id"] == entry.get("category_id")), None)
    if own is None and category is not None and len(entry.get("keypoints") or ()) == 3 * len(names):
        mended["category_id"], own = category["id"], dict(category)
        changes["annotations given the category with keypoints"] += 1
    if own is None or not own.get("keypoints"):
        changes["annotations left out: no category with keypoints"] += 1
        return None
    faults = {kind for kind, _ in entry_faults(entry, own, size)}
    if "crowd-odd" in faults:
        mended["iscrowd"] = 0
        changes["iscrowd set to 0, as it was neither 0 nor 1"] += 1
    if mended.get("keypoints"):
        points = _repair_keypoints(mended["keypoints"], len(own["keypoints"]), size, changes)
        labelled = int((points[:, 2] > 0).sum())
        changes["num_keypoints counted again"] += mended.get("num_keypoints", labelled) != labelled
        mended.update(keypoints=[_plain(value) for value in points.ravel()], num_keypoints=labelled)
    else:
        points = np.zeros((0, 3))
    box = _repair_bbox(mended.get("bbox"), points, size, changes, cuts=cuts_boxes)
    if box is None:
        changes["annotations left out: neither bbox nor keypoints in the image"] += 1
        return None
    area = mended.get("area")
    if (
        area is None
        or not is_finite(area)
        or area <= 0
        or area > 1.01 * box[2] * box[3] + 1
        or "bbox-missing" in faults
    ):
        mended["area"] = AREA_OF_BBOX * box[2] * box[3]
        changes["areas filled with 0.53 of the bbox"] += 1
    return {**mended, "bbox": box}


def _repair_keypoints(given: list[Any], count: int, size: Size, changes: Counter[str]) -> np.ndarray:
    """(K, 3) x y v; what cannot be used is unlabelled."""
    if len(given) != 3 * count:
        changes["people made unlabelled: their keypoints have the wrong length"] += 1
        return np.zeros((count, 3))
    points = np.array([value if is_finite(value) else np.nan for value in given], dtype=np.float64).reshape(count, 3)
    broken = ~np.isfinite(points).all(axis=1)
    points[broken] = 0
    fitting = np.where(points[:, 2] > 2, 2, np.where(np.isin(points[:, 2], (0, 1, 2)), points[:, 2], 0))
    changes["visibilities corrected"] += int((fitting != points[:, 2]).sum())
    points[:, 2] = fitting
    outside = outside_image(points, size)
    points[outside] = 0
    changes["keypoints made unlabelled: no number, or outside the image"] += int((broken | outside).sum())
    return points


def _repair_bbox(
    given: Any, points: np.ndarray, size: Size, changes: Counter[str], *, cuts: bool
) -> list[float] | None:
    """X y w h, around the keypoints where none is given; None without either. It `cuts` it at the image's border."""
    usable = given is not None and len(given) == 4 and all(is_finite(value) for value in given) and min(given[2:]) > 0
    box = [float(value) for value in given] if usable else _around(points)
    if box is None:
        return None
    changes["bboxes drawn around the keypoints"] += not usable
    if not cuts or not off_image(box, size):
        return list(given) if usable else box
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], float(size[1])), min(box[1] + box[3], float(size[0]))
    changes["bboxes cut at the image's border"] += usable
    return [left, top, right - left, bottom - top] if right > left and bottom > top else None


def _around(points: np.ndarray) -> list[float] | None:
    labelled = points[points[:, 2] > 0, :2]
    if len(labelled) < 2:
        return None
    low, high = labelled.min(axis=0), labelled.max(axis=0)
    extent = np.maximum((high - low) * _BBOX_AROUND_KEYPOINTS, 2.0)
    corner = (low + high - extent) / 2
    return [float(value) for value in (*corner, *extent)]


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(value)
