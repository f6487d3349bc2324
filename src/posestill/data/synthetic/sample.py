"""Writes a small dataset of synthetic people, a COCO tree or a YOLO-pose folder, where there is no data.

It holds what real datasets hold: several people a picture, people without labels, crowds, JPEG and PNG files, and
pictures that lie turned in their file, as a telephone writes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import posestill
from posestill.data.image_files import with_orientation
from posestill.data.synthetic.people import PROFILES
from posestill.data.synthetic.scene import Scene, compose_scene
from posestill.draw import encode_image, write_image
from posestill.files import write_quickly
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from posestill.types import Person, Size

FEWEST_PICTURES = 16
"""so many hold every kind of file in both splits"""
_TRAIN_SHARE = 0.75
_LANDSCAPE, _PORTRAIT = (240, 320), (320, 240)
"""(height, width) px"""
_PROFILE = PROFILES["easy"]
_TURNS = {6: 1, 8: -1, 3: 2}
"""EXIF orientation -> by how many quarter turns against the clock the picture lies turned in its file"""


@dataclass(frozen=True)
class SplitCounts:
    """These counts say how much one split of a written dataset holds."""

    pictures: int
    people: int
    """all persons without the crowds"""
    unlabelled: int
    """persons without keypoints"""
    crowds: int
    """regions that stand for many persons; none in a YOLO-pose folder"""


def write_sample(out: Path, *, pictures: int = 80, seed: int = 0, yolo: bool = False) -> dict[str, SplitCounts]:
    """Write a dataset of synthetic people into a new folder, and count what its splits `train` and `val` hold.

    The folder becomes a COCO tree, or a YOLO-pose folder of the same pictures with `yolo`; that format has no crowds.
    The same seed gives the same pictures and labels. Raises `UserError` where the folder holds something already.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: give a new or empty folder, so that nothing is written over")
    if pictures < FEWEST_PICTURES:
        raise UserError(f"{pictures} pictures are too few to show every kind: ask for {FEWEST_PICTURES} or more")
    last_of_train = round(_TRAIN_SHARE * pictures)
    numbers = {"train": range(1, last_of_train + 1), "val": range(last_of_train + 1, pictures + 1)}
    counts: dict[str, SplitCounts] = {}
    person_id = 1
    for split, chosen in numbers.items():
        folder = out / "images" / split if yolo else out / split
        folder.mkdir(parents=True)
        entries = []
        for number in chosen:
            picture = _write_picture(folder, number, seed=seed, first_id=person_id, with_crowds=not yolo)
            person_id += len(picture.annotations)
            entries.append(picture)
        if yolo:
            _write_labels(out / "labels" / split, entries)
        else:
            _write_annotations(out / "annotations" / f"person_keypoints_{split}.json", entries, seed=seed)
        counts[split] = _count(entries)
    if yolo:
        _write(out / "data.yaml", yaml.safe_dump(_yolo_description(), sort_keys=False).encode())
    return counts


@dataclass(frozen=True)
class _Picture:
    """What the annotation files say about one picture."""

    entry: dict[str, Any]
    """its COCO entry"""
    annotations: list[dict[str, Any]]
    """COCO entries of its people"""


def _write_picture(folder: Path, number: int, *, seed: int, first_id: int, with_crowds: bool) -> _Picture:
    """Compose picture `number`, counted from 1, and write it; every eighth lies turned in its file.

    Without `with_crowds` the crowds are drawn, but not annotated.
    """
    orientation = list(_TURNS)[number // 8 % len(_TURNS)] if number % 8 == 0 else None
    scene = _scene(number, seed=seed, size=_PORTRAIT if orientation in (6, 8) else _LANDSCAPE)
    name = f"{number:012d}.{'png' if number % 8 in (3, 6) else 'jpg'}"
    if name.endswith(".png"):
        write_image(folder / name, scene.image)
    elif orientation is None:
        _write(folder / name, encode_image(scene.image))
    else:
        stored = encode_image(np.ascontiguousarray(np.rot90(scene.image, _TURNS[orientation])))
        _write(folder / name, with_orientation(stored, orientation))
    height, width = scene.image.shape[:2]
    entry = {"id": number, "file_name": name, "width": width, "height": height}
    annotated = [person for person in scene.people if with_crowds or not person.crowd]
    return _Picture(entry, [_annotation(each, number, first_id + index) for index, each in enumerate(annotated)])


def _scene(number: int, *, seed: int, size: Size) -> Scene:
    rng = np.random.default_rng((seed, number))
    most = 4 if size == _LANDSCAPE else 2
    return compose_scene(rng, _PROFILE, size, people=int(rng.integers(1, most + 1)), with_crowd=number % 16 == 5)


def _annotation(person: Person, image_id: int, identity: int) -> dict[str, Any]:
    keypoints = np.zeros((len(COCO_17), 3)) if person.keypoints is None else person.keypoints
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": 1,
        "bbox": _rounded(person.bbox),
        "area": _rounded([person.area])[0],
        "iscrowd": int(person.crowd),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": _rounded(keypoints.ravel()),
    }


def _rounded(values: Sequence[float] | np.ndarray) -> list[float | int]:
    """Hundredths of a pixel, whole numbers without a point, as COCO's files have them."""
    hundredths = (round(float(value), 2) for value in values)
    return [int(value) if value.is_integer() else value for value in hundredths]


def _write_annotations(path: Path, pictures: Sequence[_Picture], *, seed: int) -> None:
    content = {
        "info": {
            "description": f"Synthetic people, drawn by posestill {posestill.__version__} with seed {seed}",
            "version": posestill.__version__,
        },
        "images": [picture.entry for picture in pictures],
        "annotations": [entry for picture in pictures for entry in picture.annotations],
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(COCO_17.names),
                "skeleton": [[start + 1, end + 1] for start, end in COCO_17.edges],  # COCO counts from 1
            }
        ],
    }
    _write(path, (json.dumps(content) + "\n").encode())


def _write_labels(folder: Path, pictures: Sequence[_Picture]) -> None:
    """One label file a picture: a line is `class cx cy w h` and `x y v` of each keypoint, in shares of the picture."""
    folder.mkdir(parents=True)
    for picture in pictures:
        lines = [_line(entry, picture.entry) for entry in picture.annotations]
        path = (folder / picture.entry["file_name"]).with_suffix(".txt")
        _write(path, "".join(f"{line}\n" for line in lines).encode())


def _write(path: Path, content: bytes) -> None:
    write_quickly(path, lambda draft: draft.write_bytes(content))


def _line(annotation: dict[str, Any], entry: dict[str, Any]) -> str:
    scale = np.array([entry["width"], entry["height"]])
    corner, extent = np.array(annotation["bbox"]).reshape(2, 2)
    keypoints = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)  # (K, 3)
    keypoints[:, :2] /= scale
    values = [*((corner + extent / 2) / scale), *(extent / scale), *keypoints.ravel()]
    return " ".join(["0", *(f"{value:.6g}" for value in values)])


def _yolo_description() -> dict[str, Any]:
    """The data.yaml; without `path`, its folders are looked for beside it, wherever it is moved."""
    return {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "person"},
        "kpt_shape": [len(COCO_17), 3],
        "flip_idx": list(COCO_17.swap),
        "kpt_names": {0: list(COCO_17.names)},
    }


def _count(pictures: Sequence[_Picture]) -> SplitCounts:
    entries = [entry for picture in pictures for entry in picture.annotations]
    people = [entry for entry in entries if not entry["iscrowd"]]
    unlabelled = sum(entry["num_keypoints"] == 0 for entry in people)
    return SplitCounts(len(pictures), len(people), unlabelled, len(entries) - len(people))
