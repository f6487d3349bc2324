"""The entries of a COCO file, read one by one: each misfit is named with its file, its entry and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posestill.documents.fields import (
    LARGEST,
    MISSING,
    box_of,
    entries,
    identity,
    is_number,
    number,
    numbers,
    shown,
    some,
    whole_number,
)
from posestill.schema import UserError
from posestill.types import Person, Size

AREA_OF_BBOX = 0.53
"""What share of its bbox a person covers, where a file gives no area (CrowdPose's rule)."""
MEND = ": correct it, or let `posestill data check --fix` mend a copy"
"""the remedy for what the repair can mend"""
LONGEST_NAME = 4000
"""characters of a path that any system opens"""


@dataclass(frozen=True)
class ImageEntry:
    """What a COCO file says of one image."""

    file_name: str
    size: Size | None
    """(height, width), or None where the file does not say"""


@dataclass(frozen=True)
class PoseCategory:
    """The keypoints of a COCO file: those of one category, or of several that name the same ones."""

    ids: tuple[int, ...]
    entry: Mapping[str, Any]
    """the first of them"""
    all_ids: tuple[int, ...]
    """of every category of the file, those without keypoints included"""

    @property
    def name(self) -> str:
        """What the first one is called."""
        return str(self.entry.get("name"))


def read_images(content: Mapping[str, Any], path: Path) -> dict[int, ImageEntry]:
    """The images of a file by their ids, no two of which may be the same."""
    found: dict[int, ImageEntry] = {}
    for position, image in enumerate(entries(content, "images", where=str(path))):
        place = f"{path}: entry {position} of images"
        image_id = identity(image, "id", where=place)
        where = f"{path}: image {image_id}"
        name = image.get("file_name", MISSING)
        if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not _can_be_a_path(name):
            raise UserError(f"{where}: file_name is {shown(name)}; the name of a file is wanted")
        if image_id in found:
            raise UserError(
                f"{where} is there twice, as {shown(found[image_id].file_name)} and {shown(name)}: give every image "
                "an id of its own; `posestill data check --fix` does so in a copy"
            )
        found[image_id] = ImageEntry(name, _size_of(image, where))
    return found


def read_category(content: Mapping[str, Any], path: Path) -> PoseCategory:
    """The category that names keypoints. Several are read as one where they name the same keypoints."""
    categories = entries(content, "categories", where=str(path))
    named = [each for each in categories if each.get("keypoints")]
    called = ", ".join(shown(each.get("name", MISSING)) for each in categories[:10])
    if not named:
        raise UserError(
            f"{path}: one category with keypoint names is wanted, found 0 (categories: {called}): add `keypoints: "
            "[name, ...]` to the category"
        )
    for each in named:
        where = f"{path}: category {shown(each.get('name', MISSING))}"
        names = each["keypoints"]
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise UserError(f"{where}: keypoints is {shown(names)}; a list of their names is wanted")
        _check_edges(each, where)
    if any(each["keypoints"] != named[0]["keypoints"] for each in named):
        raise UserError(
            f"{path}: one category with keypoint names is wanted, found {len(named)} with different ones (categories: "
            f"{called}): make a file of each"
        )
    ids = tuple(identity(each, "id", where=f"{path}: category {shown(each.get('name', MISSING))}") for each in named)
    every = [whole_number(each.get("id")) for each in categories]
    return PoseCategory(ids, named[0], tuple(each for each in every if each is not None))


def read_people(
    content: Mapping[str, Any], category: PoseCategory, images: Collection[int], path: Path
) -> list[tuple[Mapping[str, Any], str]]:
    """The annotations of the category, each with words that name it; ids and images of all of them are checked."""
    annotations = entries(content, "annotations", where=str(path))
    chosen: list[tuple[Mapping[str, Any], str]] = []
    others: dict[int, int] = {}
    strange: dict[int, str] = {}
    seen: set[int] = set()
    for position, entry in enumerate(annotations):
        annotation_id = whole_number(entry.get("id", MISSING))
        if annotation_id is None:
            given = shown(entry.get("id", MISSING))
            raise UserError(f"{path}: entry {position} of annotations: id is {given}; a whole number is wanted{MEND}")
        where = f"{path}: annotation {annotation_id}"
        own = category.ids[0]
        if entry.get("category_id") is not None:
            own = identity(entry, "category_id", where=where)
        if own not in category.ids:
            others[own] = others.get(own, 0) + 1
            if own not in category.all_ids:
                strange.setdefault(own, where)
            continue
        if annotation_id in seen:
            raise UserError(
                f"{where} is there twice: give every annotation an id of its own; `posestill data check --fix` does so "
                "in a copy"
            )
        seen.add(annotation_id)
        if identity(entry, "image_id", where=where) not in images:
            _refuse_unknown_images(annotations, images, path, where)
        chosen.append((entry, where))
    _refuse_other_categories(category, len(chosen), others, strange, path)
    return chosen


def read_person(entry: Mapping[str, Any], keypoints: np.ndarray | None, where: str) -> Person:
    """The person of an annotation; a bbox that encloses nothing becomes zeros, which nobody is cut out by."""
    if entry.get("bbox") is None:
        raise UserError(f"{where} lacks a proper 'bbox'; x y w h are wanted{MEND}")
    bbox = box_of(entry["bbox"], where=where, remedy=MEND)
    if not (np.isfinite(bbox).all() and bbox[2] > 0 and bbox[3] > 0):
        bbox = np.zeros(4)
    crowd = entry.get("iscrowd")
    if crowd is not None and not isinstance(crowd, bool) and crowd not in (0, 1):
        raise UserError(f"{where}: iscrowd is {shown(crowd)}; 0 or 1 is wanted")
    if keypoints is not None and not (keypoints[:, 2] > 0).any():
        keypoints = None
    area = AREA_OF_BBOX * float(bbox[2] * bbox[3])
    if entry.get("area") is not None:
        area = number(entry, "area", where=where, remedy=MEND)
    if keypoints is not None and not crowd and area <= 0:
        given = shown(entry.get("area", MISSING))
        raise UserError(f"{where}: area is {given}, by which OKS would divide: it must be above 0{MEND}")
    return Person(
        id=identity(entry, "id", where=where),
        image_id=identity(entry, "image_id", where=where),
        bbox=bbox,
        keypoints=keypoints,
        area=area,
        crowd=bool(crowd),
    )


def keypoint_array(given: Any, names: Sequence[str], *, where: str, key: str = "keypoints") -> np.ndarray:
    """(K, 3) x y v from a flat list, which must hold a place wherever v is not 0; NaN elsewhere is kept."""
    count = len(names)
    found = numbers(given)
    if found is None:
        raise UserError(f"{where}: {key} is {shown(given)}; a list of {3 * count} keypoint numbers is wanted{MEND}")
    if len(found) != 3 * count:
        what = "keypoint numbers" if key == "keypoints" else f"numbers in {key}"
        raise UserError(f"{where} has {len(found)} {what}; {count} keypoints make {3 * count}")
    points = found.reshape(count, 3)
    wrong = ~np.isfinite(points[:, 2])
    wrong |= (points[:, 2] != 0) & ~(np.abs(points[:, :2]) < LARGEST).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        x, y, v = (shown(each) for each in given[3 * row : 3 * row + 3])
        raise UserError(
            f"{where}: keypoint '{names[row]}' of {key} is x {x}, y {y}, v {v}, which is no labelled place: correct "
            "it, or write 0, 0, 0 where it has no label; `posestill data check --fix` does so in a copy"
        )
    return points


def _size_of(image: Mapping[str, Any], where: str) -> Size | None:
    found = []
    for key in ("height", "width"):
        given = image.get(key)
        if given is None:
            return None
        if not is_number(given) or not 0 < given <= LARGEST:
            raise UserError(f"{where}: {key} is {shown(given)}; a number of px above 0 is wanted{MEND}")
        found.append(int(given))
    return found[0], found[1]


def _can_be_a_path(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return "\0" not in name


def _check_edges(category: Mapping[str, Any], where: str) -> None:
    edges = category.get("skeleton")
    if edges is None:
        return
    if not isinstance(edges, list):
        raise UserError(f"{where}: skeleton is {shown(edges)}; a list of pairs of keypoint numbers is wanted")
    for edge in edges:
        if not isinstance(edge, list) or len(edge) != 2 or any(whole_number(end) is None for end in edge):
            raise UserError(f"{where}: skeleton edge {shown(edge)} is not a pair of keypoint numbers")


def _refuse_unknown_images(
    annotations: Sequence[Mapping[str, Any]], images: Collection[int], path: Path, where: str
) -> None:
    given = [whole_number(each.get("image_id")) for each in annotations]
    known = {each for each in given if each is not None}
    unknown = sorted(known - set(images))
    hint = ""
    for shift, start in ((1, 0), (-1, 1)):
        if {each + shift for each in known} <= set(images):
            hint = f"; they seem to count from {start}, and the images from {start + shift}"
    raise UserError(
        f"{path}: {len(unknown)} image_ids of annotations (such as {unknown[0]}) are not in its images, that of "
        f"{where.removeprefix(f'{path}: ')} first{hint}: add the images, or let `posestill data check --fix` leave "
        "their annotations out of a copy"
    )


def _refuse_other_categories(
    category: PoseCategory, chosen: int, others: Mapping[int, int], strange: Mapping[int, str], path: Path
) -> None:
    wanted = f"{some(category.ids)} ('{category.name}')"
    if others and not chosen:
        raise UserError(
            f"{path}: all {sum(others.values())} annotations are of category {some(list(others))}, and the category "
            f"with keypoints is {wanted}: write that as their category_id, or as the category's id"
        )
    if strange:
        first = next(iter(strange))
        raise UserError(
            f"{strange[first]}: category_id is {first}, which is not among the categories (with keypoints: {wanted})"
            f"{MEND}"
        )
