"""Boxes of persons in pictures, from a file: COCO annotations, COCO detections, or {file name: [[x, y, w, h], ...]}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posestill.data.coco import CocoSource
from posestill.data.detection_file import Detection, read_detections
from posestill.documents.fields import MISSING, are_shares, entries, identity, shown, sound_box
from posestill.documents.parse import read_json
from posestill.schema import UserError, reading


@dataclass(frozen=True)
class PictureBoxes:
    """The persons of one picture."""

    image_id: int
    """the file's own number of the picture, or its place in the file"""
    boxes: np.ndarray
    """(N, 4) x y w h, image px"""
    score: np.ndarray
    """(N,) how sure a detector is of each; 1 where the file does not say"""


class BoxFile:
    """The boxes in a file, by picture."""

    def __init__(self, path: Path, *, threshold: float = 0.0, annotations: Path | None = None) -> None:
        """Boxes scored below `threshold` are left out. A `UserError` says what is wrong with the file.

        `annotations`: a COCO file that says what the images are called that detections name by their ids.
        """
        self.path = path
        self.category_id = 1
        content = read_json(path, what="file of boxes")
        with reading(f"the boxes in {path}"):
            if isinstance(content, Mapping) and {"images", "annotations"} <= set(content):
                named = self._annotated(content)
            elif isinstance(content, Mapping):
                named = _listed(content, path)
            elif isinstance(content, list) and all(isinstance(each, Mapping) for each in content):
                named = _detected(content, path, threshold, *self._image_names(annotations))
            else:
                raise UserError(
                    f"{path} is neither a COCO annotation file nor COCO detections nor {{file name: [[x, y, w, h], "
                    "...]}"
                )
        everything = [each.boxes for each in named.values() if len(each.boxes)]
        if everything and are_shares(np.concatenate(everything).reshape(-1, 2)):
            raise UserError(f"{path}: all boxes lie within 0..1, so they are shares of the image; px are wanted")
        self._named: dict[str, list[tuple[PurePosixPath, PictureBoxes]]] = {}
        """by the name that stands at the end of the path, as files are moved to other folders"""
        for name, each in named.items():
            place = PurePosixPath(str(name).replace("\\", "/"))
            self._named.setdefault(place.name, []).append((place, each))

    def match(self, paths: Sequence[Path]) -> list[PictureBoxes | None]:
        """What the file says of each picture; None where it does not name it.

        Folders in the file's names count as soon as one picture lies in the folders of its name; where none does, the
        pictures were moved, and the ends of the names must do. A `UserError` tells where the file names none of the
        pictures, or where a name may mean several.
        """
        folders_count = any(len(place.parts) > 1 for path in paths for place, _ in self._at(path))
        found = [self._of(path, folders_count=folders_count) for path in paths]
        owners: dict[int, Path] = {}
        for path, each in zip(paths, found, strict=True):
            if each is not None and (other := owners.setdefault(id(each), path)) != path:
                raise UserError(
                    f"{self.path} has boxes for '{path.name}', and there are two such pictures, {other} and {path}: "
                    "write the names with their folders, as the paths end"
                )
        if not owners:
            raise UserError(f"{self.path} names none of the {len(paths)} images (the first image: {paths[0].name})")
        return found

    def _at(self, path: Path) -> list[tuple[PurePosixPath, PictureBoxes]]:
        """The entries in whose whole names the path ends, the longest of which says most."""
        whole = path.as_posix().split("/")
        named = self._named.get(path.name, [])
        return sorted(
            (each for each in named if whole[-len(each[0].parts) :] == list(each[0].parts)),
            key=lambda each: -len(each[0].parts),
        )

    def _of(self, path: Path, *, folders_count: bool) -> PictureBoxes | None:
        named = self._named.get(path.name, [])
        found = self._at(path) or (named if len(named) == 1 and not folders_count else [])
        if not named:
            found = self._named.get(_number_of(path), [])
        return found[0][1] if found else None

    def _image_names(self, annotations: Path | None) -> tuple[dict[int, str], int]:
        """Image id -> file name and the category of the persons, of a COCO file where there is one."""
        if annotations is None:
            return {}, 1
        source = CocoSource(annotations, images=None)
        self.category_id = source.category_id
        return source.file_names, source.category_id

    def _annotated(self, content: Mapping[str, Any]) -> dict[str, PictureBoxes]:
        if not has_keypoints(content):
            return self._annotated_without_keypoints(content)
        source = CocoSource(self.path, images=None)
        self.category_id = source.category_id
        of_image: dict[int, list[list[float]]] = {}
        for person in source.people:
            if not person.crowd and person.bbox[2] > 0:
                of_image.setdefault(person.image_id, []).append(person.bbox.tolist())
        return {name: _boxes(number, of_image.get(number, [])) for number, name in source.file_names.items()}

    def _annotated_without_keypoints(self, content: Mapping[str, Any]) -> dict[str, PictureBoxes]:
        """Of the category `person` or, where there is no such, of the only one."""
        listed = entries(content, "categories", where=str(self.path)) if "categories" in content else []
        categories = {
            str(each.get("name")): identity(each, "id", where=f"{self.path}: category {at}")
            for at, each in enumerate(listed)
        }
        if "person" not in categories and len(categories) > 1:
            raise UserError(
                f"{self.path} has boxes of {', '.join(categories)}, and none of these is called person: keep the "
                "persons alone"
            )
        self.category_id = categories.get("person", next(iter(categories.values()), 1))
        of_image: dict[int, list[np.ndarray]] = {}
        for at, entry in enumerate(entries(content, "annotations", where=str(self.path))):
            where = f"{self.path}: annotation {at}"
            own = self.category_id if "category_id" not in entry else identity(entry, "category_id", where=where)
            if own == self.category_id and not entry.get("iscrowd", 0):
                box = sound_box(entry.get("bbox", MISSING), where=where)
                of_image.setdefault(identity(entry, "image_id", where=where), []).append(box)
        named = {}
        for at, image in enumerate(entries(content, "images", where=str(self.path))):
            where = f"{self.path}: image {at}"
            if not isinstance(name := image.get("file_name", MISSING), str):
                raise UserError(f"{where}: file_name is {shown(name)}; a name is wanted")
            number = identity(image, "id", where=where)
            named[name] = _boxes(number, of_image.get(number, []))
        return named


def has_keypoints(content: object) -> bool:
    """True where what was read from a file is COCO annotations with a category that names keypoints."""
    if not isinstance(content, Mapping) or not {"images", "annotations"} <= set(content):
        return False
    categories = content.get("categories")
    return isinstance(categories, list) and any(
        isinstance(each, Mapping) and bool(each.get("keypoints")) for each in categories
    )


def _listed(content: Mapping[str, Any], path: Path) -> dict[str, PictureBoxes]:
    """Of a mapping from file names to rows of four numbers."""
    found = {}
    for number, (name, rows) in enumerate(content.items(), start=1):
        where = f"the boxes in {path}: those of '{name[:80]}'"
        if not isinstance(rows, list):
            raise UserError(f"{where} are {shown(rows)}; a list of [x, y, w, h] is wanted")
        boxes = [sound_box(row, where=f"{where}, row {at}", key="box") for at, row in enumerate(rows)]
        found[name] = _boxes(number, boxes)
    return found


def _detected(
    content: Sequence[Any], path: Path, threshold: float, names: Mapping[int, str], category_id: int
) -> dict[str, PictureBoxes]:
    """Of a COCO results list: pictures by `file_name`, else as `names` has it, else by the number in COCO's names."""
    of_picture: dict[str, list[Detection]] = {}
    numbers: dict[str, int] = {}
    for each in read_detections(path, category_ids=[category_id], content=content, scored=False, named=True).found:
        if each.score >= threshold and min(each.bbox[2:]) > 0:
            name = each.file_name or (names.get(each.image_id) if each.image_id is not None else None)
            name = name or f"#{each.image_id}"
            numbers.setdefault(name, len(numbers) + 1 if each.image_id is None else each.image_id)
            of_picture.setdefault(name, []).append(each)
    return {
        name: _boxes(numbers[name], [each.bbox for each in found], [each.score for each in found])
        for name, found in of_picture.items()
    }


def _boxes(image_id: int, boxes: Sequence[Any], scores: Sequence[float] | None = None) -> PictureBoxes:
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return PictureBoxes(image_id, array, np.ones(len(array)) if scores is None else np.array(scores, dtype=np.float64))


def _number_of(path: Path) -> str:
    """The number that a file name such as 000000000139.jpg is, as `_detected` writes it."""
    return f"#{int(path.stem)}" if path.stem.isascii() and path.stem.isdigit() else ""
