"""YOLO-pose folders: `data.yaml` with kpt_shape, and one label file of normalised values beside each image.

A line of a label file is `class cx cy w h`, then `x y v` (kpt_shape [K, 3]) or `x y` ([K, 2]) of each keypoint, all but
class and v as fractions of the image's width and height.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from posestill.data.coco_entries import AREA_OF_BBOX
from posestill.data.coco_notes import notes_on_boxes
from posestill.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from posestill.data.source import SourceConfig
from posestill.documents.fields import shown, whole_number
from posestill.documents.parse import read_yaml
from posestill.files import read_text
from posestill.schema import UserError, reading
from posestill.skeletons import COCO_17, from_category
from posestill.types import Person

Report = Callable[[str, str, str], None]
"""Called with the kind of a fault, where it is (file and line) and what it is, in words"""
_BOX_VALUES = 5
_TOLERANCE = 1e-3
"""how far outside 0..1 a value may lie (rounding): a share of the image"""
_EXCESS = 0.1
"""a line with a value further outside means something else (px, it may be) and is left out"""


class YoloConfig(SourceConfig):
    """Persons come from one split of a YOLO-pose folder."""

    data: Path
    """The folder's data.yaml, which names the splits and the shape of the keypoints."""
    split: str = "train"
    """The split to read, a key of data.yaml: train, val or test."""

    def build(self) -> YoloSource:
        """The source; fails with a message that names file and line where something is broken."""
        with reading(str(self.data)):
            return YoloSource(self)


class YoloSource:
    """The persons of one split. Every class is a person of the one skeleton that kpt_shape describes."""

    def __init__(self, config: YoloConfig) -> None:
        dataset = read_dataset(config.data, refuse)
        self.skeleton = from_category(dataset.category(), dataset.metainfo)
        self.notes = dataset.notes
        """what was assumed where data.yaml is silent, in words"""
        labels = read_split(dataset, config.split, refuse)
        self.paths: dict[int, Path] = labels.paths
        self.people: Sequence[Person] = [
            Person(
                id=entry["id"],
                image_id=entry["image_id"],
                bbox=np.array(entry["bbox"], dtype=np.float64),
                keypoints=np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
                if entry["num_keypoints"]
                else None,
                area=entry["area"],
            )
            for entry in labels.annotations
        ]
        boxes = [entry["bbox"] for entry in labels.annotations]
        self.notes += tuple(f"{config.data}: {note}" for note in notes_on_boxes(self.people, boxes, {}))

    @property
    def image_ids(self) -> Collection[int]:
        """Of every image, also of those without people."""
        return self.paths.keys()

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.paths[image_id])


def refuse(kind: str, where: str, what: str) -> None:
    """A `Report` for those who cannot go on with a fault."""
    raise UserError(f"{where}: {what}")


@dataclass(frozen=True)
class YoloDataset:
    """What data.yaml says."""

    path: Path
    root: Path
    splits: Mapping[str, list[str]]
    """train, val, test -> folders, .txt files or pictures"""
    classes: Mapping[int, str]
    names: tuple[str, ...]
    """(K,) of the keypoints"""
    values: int
    """3 (x y v) or 2 (x y) of each keypoint"""
    metainfo: Mapping[str, Any]
    """as `from_category` takes it"""
    notes: tuple[str, ...]

    def category(self, number: int = 0) -> dict[str, Any]:
        """A class as a COCO category; ids count from 1."""
        edges = [[start + 1, end + 1] for start, end in COCO_17.edges] if self.names == COCO_17.names else []
        name = self.classes.get(number, "person")
        return {"id": number + 1, "name": name, "keypoints": list(self.names), "skeleton": edges}


def read_dataset(path: Path, report: Report) -> YoloDataset:
    """What a data.yaml says. Faults of flip_idx, kpt_names and sigmas are reported; without kpt_shape nothing goes."""
    content = read_yaml(path, what="data.yaml")
    shape = content.get("kpt_shape") if isinstance(content, dict) else None
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape) and shape[0] > 0):
        raise UserError(f"{path} has no kpt_shape [keypoints, 2 or 3]: this is no YOLO-pose dataset")
    count, values = shape
    if values not in (2, 3):
        raise UserError(f"{path}: kpt_shape {shape} is not [keypoints, 2 or 3]")
    if content.get("path") is not None and not isinstance(content["path"], str):
        raise UserError(f"{path}: path is {shown(content['path'])}; the folder of the dataset is wanted")
    root = Path(content.get("path") or "")
    root = next((each for each in (Path(path).parent / root, root) if each.is_dir()), Path(path).parent)
    classes = _class_names(content.get("names"), where=str(path))
    swap = _flip_idx(content.get("flip_idx"), count, report, where=str(path))
    notes: list[str] = []
    names = _keypoint_names(content.get("kpt_names"), count, report, where=str(path))
    if names is None:
        names = tuple(f"keypoint_{index}" for index in range(count))
        if swap == COCO_17.swap:
            names = COCO_17.names
            notes.append("kpt_names are missing; 17 keypoints with COCO's flip_idx are taken for COCO's 17")
    metainfo: dict[str, Any] = {"names": list(names)}
    if swap is not None and swap != tuple(range(count)):  # which stands in many exports without meaning anything
        metainfo["flip_pairs"] = [[index, partner] for index, partner in enumerate(swap) if index < partner]
    sigmas = content.get("kpt_oks_sigmas")
    if sigmas is not None and (
        not isinstance(sigmas, list) or len(sigmas) != count or not all(_is_positive(sigma) for sigma in sigmas)
    ):
        report("yolo-sigmas", str(path), f"kpt_oks_sigmas are not {count} positive numbers")
    elif sigmas is not None:
        metainfo["sigmas"] = [float(sigma) for sigma in sigmas]
    elif count == len(COCO_17):
        metainfo["sigmas"] = list(COCO_17.oks_sigmas)
        if names != COCO_17.names:
            notes.append("kpt_oks_sigmas are missing; the 17 of COCO are taken")
    splits = {name: _places(content[name], name, path) for name in ("train", "val", "test") if content.get(name)}
    return YoloDataset(Path(path), root, splits, classes, names, values, metainfo, tuple(notes))


@dataclass(frozen=True)
class YoloLabels:
    """One split in COCO's words: image and annotation entries, all in image px."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    paths: dict[int, Path]
    """image id -> file"""


def read_split(dataset: YoloDataset, split: str, report: Report) -> YoloLabels:
    """The labels of one split; faulty lines are reported and left out, slight excesses put on the border."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    paths: dict[int, Path] = {}
    for image_id, path in enumerate(_image_paths(dataset, split), start=1):
        paths[image_id] = path
        entry: dict[str, Any] = {"id": image_id, "file_name": PurePath(os.path.relpath(path, dataset.root)).as_posix()}
        images.append(entry)
        label = label_path(path)
        lines = read_text(label, what="label file").splitlines() if label.exists() else []
        try:
            height, width = image_size(path)
        except UserError as error:
            report("image", str(path), f"its labels cannot be read: {error}")
            continue
        entry.update(width=width, height=height)
        for number, line in enumerate(lines, start=1):
            person = _read_line(dataset, line, report, where=f"{label}, line {number}") if line.strip() else None
            if person is not None:
                scale = np.array([width, height])
                annotations.append(_annotation(person, scale, image_id=image_id, identity=len(annotations) + 1))
    return YoloLabels(images, annotations, paths)


def label_path(image: Path) -> Path:
    """Where the labels of an image lie: its last folder `images` read as `labels`, else beside it."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


@dataclass(frozen=True)
class _Line:
    number: int
    """of the class"""
    box: np.ndarray
    """(4,) cx cy w h, fractions"""
    keypoints: np.ndarray
    """(K, 3) x y v, fractions"""


def _read_line(dataset: YoloDataset, line: str, report: Report, *, where: str) -> _Line | None:
    count = len(dataset.names)
    try:
        values = np.array([float(word) for word in line.split()])
    except ValueError:
        report("yolo-line", where, "holds something that is no number")
        return None
    wanted = _BOX_VALUES + count * dataset.values
    if len(values) != wanted:
        what = f"{len(values)} values; kpt_shape [{count}, {dataset.values}] makes {wanted}"
        report("yolo-line", where, what)
        return None
    if not np.isfinite(values).all():
        report("yolo-line", where, "holds NaN or infinity")
        return None
    if values[0] not in dataset.classes:
        report("yolo-class", where, f"class {values[0]:g} is not among the {len(dataset.classes)} names of data.yaml")
        return None
    keypoints = values[_BOX_VALUES:].reshape(count, dataset.values)
    if dataset.values == 2:
        keypoints = np.concatenate([keypoints, 2.0 * keypoints.any(axis=1, keepdims=True)], axis=1)
    if odd := set(keypoints[:, 2]) - {0.0, 1.0, 2.0}:
        report("yolo-visibility", where, f"visibility {min(odd):g}; 0, 1 and 2 are known")
        return None
    used = np.concatenate([values[1:_BOX_VALUES], keypoints[keypoints[:, 2] > 0, :2].ravel()])
    outside = used[(used < -_TOLERANCE) | (used > 1 + _TOLERANCE)]
    if len(outside):
        report("yolo-range", where, f"{len(outside)} values such as {outside[0]:g} lie outside 0..1")
        if outside.min() < -_EXCESS or outside.max() > 1 + _EXCESS:
            return None
    keypoints = np.concatenate([keypoints[:, :2].clip(0, 1), keypoints[:, 2:]], axis=1)
    return _Line(int(values[0]), values[1:_BOX_VALUES].clip(0, 1), np.where(keypoints[:, 2:] != 0, keypoints, 0))


def _annotation(line: _Line, scale: np.ndarray, *, image_id: int, identity: int) -> dict[str, Any]:
    """A COCO annotation in px. `scale` is (width, height)."""
    size = line.box[2:] * scale
    corner = line.box[:2] * scale - size / 2
    points = np.concatenate([line.keypoints[:, :2] * scale, line.keypoints[:, 2:]], axis=1)  # (K, 3)
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": line.number + 1,
        "bbox": [round(float(value), 3) for value in (*corner, *size)],
        "keypoints": [round(float(value), 3) for value in points.ravel()],
        "num_keypoints": int((points[:, 2] > 0).sum()),
        "area": AREA_OF_BBOX * float(size.prod()),
        "iscrowd": 0,
    }


def _image_paths(dataset: YoloDataset, split: str) -> list[Path]:
    if split not in dataset.splits:
        raise UserError(f"{dataset.path} has no split '{split}' (it has: {', '.join(dataset.splits) or 'none'})")
    entries = dataset.splits[split]
    paths: list[Path] = []
    for entry in entries:
        place = _find(dataset, entry, split)
        if place.is_dir():
            paths += sorted(each for each in place.rglob("*") if each.suffix.lower() in IMAGE_SUFFIXES)
        elif place.suffix == ".txt":
            listed = [line.strip() for line in read_text(place, what="list of images").splitlines() if line.strip()]
            paths += [_listed(Path(line), place, dataset) for line in listed]
        else:
            paths.append(place)
    if not paths:
        raise UserError(f"{dataset.path}: split '{split}' ({', '.join(entries)}) holds no images")
    return paths


def is_there(dataset: YoloDataset, split: str) -> bool:
    """True where everything that a split names exists."""
    try:
        for entry in dataset.splits[split]:
            _find(dataset, entry, split)
    except UserError:
        return False
    return True


def _find(dataset: YoloDataset, entry: str, split: str) -> Path:
    inside = entry
    while inside.startswith("../"):  # Roboflow writes ../train/images for a folder beside data.yaml
        inside = inside[3:]
    for place in (dataset.root / entry, dataset.path.parent / entry, dataset.path.parent / inside):
        if place.exists():
            return place
    raise UserError(f"{dataset.path}: {split}: {dataset.root / entry} does not exist; correct `path` or `{split}`")


def _listed(line: Path, listing: Path, dataset: YoloDataset) -> Path:
    places = (listing.parent / line, dataset.root / line)
    return next((place for place in places if place.exists()), places[0])


def _class_names(given: Any, *, where: str) -> dict[int, str]:
    """From a list, or {0: name, 1: name, ...}."""
    given = given or {0: "person"}
    if isinstance(given, list):
        given = dict(enumerate(given))
    numbers = {whole_number(key): str(name) for key, name in given.items()} if isinstance(given, dict) else {None: ""}
    if None in numbers:
        raise UserError(f"{where}: names is {shown(given)}; a list of the classes' names, or {{0: name}}, is wanted")
    return {number: name for number, name in numbers.items() if number is not None}


def _places(given: Any, split: str, path: Path) -> list[str]:
    places = given if isinstance(given, list) else [given]
    if not all(isinstance(each, str) and each for each in places):
        raise UserError(f"{path}: {split} is {shown(given)}; a folder, a .txt file or a list of them is wanted")
    return places


def _flip_idx(given: Any, count: int, report: Report, *, where: str) -> tuple[int, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != count:
        length = len(given) if isinstance(given, list) else "no"
        report("yolo-flip", where, f"flip_idx has {length} entries; kpt_shape says {count} keypoints")
        return None
    if any(type(index) is not int or not 0 <= index < count for index in given):
        report("yolo-flip", where, f"flip_idx has an entry outside 0..{count - 1}")
        return None
    wrong = [index for index in range(count) if given[given[index]] != index]
    if wrong:
        first = wrong[0]
        what = (
            f"flip_idx sends {first} to {given[first]} and {given[first]} to {given[given[first]]}: partners must agree"
        )
        report("yolo-flip", where, what)
        return None
    return tuple(given)


def _keypoint_names(given: Any, count: int, report: Report, *, where: str) -> tuple[str, ...] | None:
    """From a list, {0: name, 1: name, ...} or Ultralytics' {class: [names]}."""
    if given is None:
        return None
    if isinstance(given, dict):
        given = [given[key] for key in sorted(given, key=str if any(isinstance(key, str) for key in given) else int)]
    if isinstance(given, list) and given and isinstance(given[0], list):
        given = given[0]
    if not isinstance(given, list):
        raise UserError(f"{where}: kpt_names is {shown(given)}; a list of {count} names is wanted")
    names = tuple(str(name) for name in given)
    if len(names) != count or len(set(names)) != count:
        report(
            "yolo-names", where, f"kpt_names has {len(set(names))} different names; kpt_shape says {count} keypoints"
        )
        return None
    return names


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
