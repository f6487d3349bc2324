"""Boxes of persons in pictures, from a file: COCO annotations, COCO detections, or {file name: [[x, y, w, h], ...]}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posestill.data.coco import CocoSource, read_json
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
                named = self._annotated()
            elif isinstance(content, Mapping):
                named = {
                    name: _boxes(number, each, name=name)
                    for number, (name, each) in enumerate(content.items(), start=1)
                }
            elif isinstance(content, list) and all(isinstance(each, Mapping) for each in content):
                named = _detected(content, threshold, *self._image_names(annotations))
            else:
                raise UserError(
                    f"{path} is neither a COCO annotation file nor COCO detections nor {{file name: [[x, y, w, h], "
                    "...]}"
                )
        if not all(np.isfinite(each.boxes).all() for each in named.values()):
            raise UserError(f"{path} has boxes that are not finite numbers")
        self._named: dict[str, list[tuple[PurePosixPath, PictureBoxes]]] = {}
        """by the name that stands at the end of the path, as files are moved to other folders"""
        for name, each in named.items():
            place = PurePosixPath(str(name).replace("\\", "/"))
            self._named.setdefault(place.name, []).append((place, each))

    def match(self, paths: Sequence[Path]) -> list[PictureBoxes | None]:
        """What the file says of each picture; None where it does not name it.

        A `UserError` tells where it names none of them, or where a name may mean several pictures.
        """
        found = [self._of(path) for path in paths]
        owners: dict[int, Path] = {}
        for path, each in zip(paths, found, strict=True):
            if each is not None and (other := owners.setdefault(id(each), path)) != path:
                raise UserError(
                    f"{self.path} has boxes for '{path.name}', and there are two such pictures, {other} and {path}: "
                    "write the names with their folders"
                )
        if not owners:
            raise UserError(f"{self.path} names none of the {len(paths)} images (the first image: {paths[0].name})")
        return found

    def _of(self, path: Path) -> PictureBoxes | None:
        candidates = self._named.get(path.name) or self._named.get(_number_of(path)) or []
        if len(candidates) > 1:
            whole = path.as_posix().split("/")
            candidates = [each for each in candidates if whole[-len(each[0].parts) :] == list(each[0].parts)]
            if len(candidates) > 1:  # `a.jpg` and `one/a.jpg` both end this path: the longer name says more
                candidates = sorted(candidates, key=lambda each: len(each[0].parts))[-1:]
        return candidates[0][1] if candidates else None

    def _image_names(self, annotations: Path | None) -> tuple[dict[int, str], int]:
        """Image id -> file name and the category of the persons, of a COCO file where there is one."""
        if annotations is None:
            return {}, 1
        source = CocoSource(annotations, images=None)
        self.category_id = source.category_id
        return source.file_names, source.category_id

    def _annotated(self) -> dict[str, PictureBoxes]:
        source = CocoSource(self.path, images=None)
        self.category_id = source.category_id
        of_image: dict[int, list[list[float]]] = {}
        for person in source.people:
            if not person.crowd:
                of_image.setdefault(person.image_id, []).append(person.bbox.tolist())
        return {name: _boxes(number, of_image.get(number, []), name=name) for number, name in source.file_names.items()}


def _detected(
    content: Sequence[Mapping[str, Any]], threshold: float, names: Mapping[int, str], category_id: int
) -> dict[str, PictureBoxes]:
    """Of a COCO results list: pictures by `file_name`, else as `names` has it, else by the number in COCO's names."""
    of_picture: dict[str, list[tuple[list[float], float]]] = {}
    numbers: dict[str, int] = {}
    for entry in content:
        if entry.get("category_id", category_id) == category_id and float(entry.get("score", 1.0)) >= threshold:
            name = str(entry["file_name"]) if entry.get("file_name") else names.get(entry.get("image_id", -1), "")
            name = name or f"#{int(entry['image_id'])}"
            numbers[name] = int(entry["image_id"]) if "image_id" in entry else len(numbers) + 1
            of_picture.setdefault(name, []).append((entry["bbox"], float(entry.get("score", 1.0))))
    return {
        name: _boxes(numbers[name], [box for box, _ in found], [score for _, score in found], name=name)
        for name, found in of_picture.items()
    }


def _boxes(image_id: int, boxes: Sequence[Any], scores: Sequence[float] | None = None, *, name: str) -> PictureBoxes:
    for row, box in enumerate(boxes, start=1):
        if len(box) != 4:
            raise ValueError(f"box {row} of {name} has {len(box)} numbers, and four are wanted, x y w h")
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return PictureBoxes(image_id, array, np.ones(len(array)) if scores is None else np.array(scores, dtype=np.float64))


def _number_of(path: Path) -> str:
    """The number that a file name such as 000000000139.jpg is, as `_detected` writes it."""
    return f"#{int(path.stem)}" if path.stem.isascii() and path.stem.isdigit() else ""
