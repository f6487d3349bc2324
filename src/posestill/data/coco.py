"""COCO keypoint JSON: COCO Body, or any custom skeleton that the file's category describes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import model_validator

from posestill.data.image_files import read_image
from posestill.data.source import SourceConfig
from posestill.schema import UserError, reading
from posestill.skeletons import COCO_WHOLEBODY, Skeleton, from_category, read_metainfo
from posestill.types import Person

AREA_OF_BBOX = 0.53
"""What share of its bbox a person covers, where a file gives no area (CrowdPose's rule)."""
WHOLEBODY_LISTS = {
    "keypoints": "body", "foot_kpts": "foot", "face_kpts": "face", "lefthand_kpts": "lefthand",
    "righthand_kpts": "righthand",
}  # fmt: skip
"""The lists of a COCO-WholeBody annotation, in the order of its 133 keypoints, and the part that each holds."""


class CocoConfig(SourceConfig):
    """Persons come from a COCO tree (`root` and `split`), or from one annotation file and its folder of images."""

    root: Path | None = None
    """The folder of the usual tree, which holds annotations/person_keypoints_SPLIT.json and SPLIT/*.jpg. None: give
    `annotations` and `images` instead."""
    split: str | None = None
    """The split of the tree, such as train2017 or val2017. None: give `annotations` and `images` instead."""
    annotations: Path | None = None
    """The JSON file of the annotations, where there is no such tree. None: give `root` and `split` instead."""
    images: Path | None = None
    """The folder of the images that the annotation file names. None: give `root` and `split` instead."""
    metainfo: Path | None = None
    """A JSON, YAML or mmpose file with flip_pairs, sigmas, upper_body and pck_norm, where the names of the keypoints do
    not tell them. None: what can be told is taken from the names."""
    wholebody: bool = False
    """True: COCO-WholeBody's 133 keypoints are read, of a tree from annotations/coco_wholebody_{train,val}_v1.0.json.
    False: the keypoints are those that the annotation file names."""

    @model_validator(mode="after")
    def _one_of_two_ways(self) -> CocoConfig:
        tree, files = (self.root, self.split), (self.annotations, self.images)
        if not ((all(tree) and not any(files)) or (all(files) and not any(tree))):
            raise ValueError("give either root and split, or annotations and images")
        if self.wholebody and self.metainfo:
            raise ValueError("wholebody brings its own skeleton: leave metainfo out")
        if self.wholebody and self.split and not self.split.startswith(("train", "val")):
            raise ValueError(f"COCO-WholeBody has train and val splits, no '{self.split}': name its annotations file")
        return self

    def build(self) -> CocoSource:
        """The source; fails with a message when a file is missing or broken."""
        if self.root is not None and self.split is not None:
            name = f"person_keypoints_{self.split}.json"
            if self.wholebody:
                name = f"coco_wholebody_{'train' if self.split.startswith('train') else 'val'}_v1.0.json"
            annotations, images = self.root / "annotations" / name, self.root / self.split
        else:
            assert self.annotations is not None
            assert self.images is not None
            annotations, images = self.annotations, self.images
        return CocoSource(annotations, images=images, metainfo=self.metainfo, wholebody=self.wholebody)


class CocoSource:
    """The persons of one annotation file. `images` may be None when only the labels matter (scoring results)."""

    def __init__(
        self, annotations: Path, *, images: Path | None, metainfo: Path | None = None, wholebody: bool = False
    ) -> None:
        """`wholebody` reads the five lists of COCO-WholeBody's annotations, whatever keypoints the category names."""
        content = read_json(annotations, what="annotation file")
        if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
            raise UserError(f"{annotations} is not a COCO file: it needs images, annotations and categories")
        with reading(str(annotations)):
            category = _keypoint_category(content["categories"], annotations)
            info = read_metainfo(metainfo, category["keypoints"]) if metainfo else None
            self.skeleton: Skeleton = COCO_WHOLEBODY if wholebody else from_category(category, info)
            self.wholebody = wholebody
            self.category_id: int = category["id"]
            people = []
            for entry in content["annotations"]:
                if entry.get("category_id", self.category_id) == self.category_id:
                    where = f"{annotations}: annotation {entry.get('id', '?')}"
                    people.append(_person(entry, self.numbers_of(entry, where=where), where))
            self.people: Sequence[Person] = people
            self.file_names: dict[int, str] = {image["id"]: image["file_name"] for image in content["images"]}
            about = content.get("info") or {}
            self.truth: str | None = about.get("truth") if isinstance(about, dict) else None
            """whose answers these labels are, where they are not people's (`posestill label` says so)"""
        self.folder = images
        self.path = annotations
        self._check_images()

    @property
    def image_ids(self) -> Collection[int]:
        """Of every image, also of those without people."""
        return self.file_names.keys()

    def numbers_of(self, entry: Mapping[str, Any], *, where: str) -> np.ndarray | None:
        """(K, 3) the keypoint numbers of an annotation or of an entry of a results file; None where it has none.

        Raises `UserError`, opened by `where`, when they are of the wrong count.
        """
        numbers = _wholebody_list(entry, where=where) if self.wholebody else entry.get("keypoints")
        if numbers is None:
            return None
        count = len(self.skeleton)
        if len(numbers) != 3 * count:
            raise UserError(f"{where} has {len(numbers)} keypoint numbers; {count} keypoints make {3 * count}")
        return np.asarray(numbers, dtype=np.float64).reshape(count, 3)

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.image_path(image_id))

    def image_path(self, image_id: int) -> Path:
        """Where an image lies."""
        if self.folder is None:
            raise UserError(f"{self.path} was opened without a folder of images")
        return self.folder / self.file_names[image_id]

    def _check_images(self) -> None:
        unknown = {person.image_id for person in self.people} - set(self.file_names)
        if unknown:
            raise UserError(
                f"{self.path}: {len(unknown)} image_ids of annotations (such as {min(unknown)}) are not in its images"
            )
        if self.folder is not None and self.file_names:
            first = self.folder / next(iter(self.file_names.values()))
            if not self.folder.is_dir():
                raise UserError(f"no folder of images {self.folder} (for {self.path}): correct the source's path")
            if not first.exists():
                raise UserError(f"{self.path} names {first.name}, which {self.folder} does not hold")


def read_json(path: Path, *, what: str) -> Any:
    """The content of a JSON file, or a `UserError` that names it."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"no {what} {path}: correct the path") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; a {what} is wanted") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{what} {path} is not valid JSON ({error}): it may have been cut off; fetch it again"
        ) from None


def coco_lists(keypoints: np.ndarray, skeleton: Skeleton) -> dict[str, list[float]]:
    """The lists that a results file holds (K, 3) keypoints in: one, or COCO-WholeBody's five."""
    if skeleton.names != COCO_WHOLEBODY.names:
        return {"keypoints": keypoints.reshape(-1).tolist()}
    return {
        name: keypoints[slice(*COCO_WHOLEBODY.parts[part])].reshape(-1).tolist()
        for name, part in WHOLEBODY_LISTS.items()
    }


def _keypoint_category(categories: Sequence[Mapping[str, Any]], path: Path) -> Mapping[str, Any]:
    with_keypoints = [category for category in categories if category.get("keypoints")]
    if len(with_keypoints) != 1:
        names = ", ".join(str(category.get("name")) for category in categories)
        raise UserError(
            f"{path}: one category with keypoint names is wanted, found {len(with_keypoints)} (categories: {names})"
        )
    return with_keypoints[0]


def _wholebody_list(entry: Mapping[str, Any], *, where: str) -> Sequence[float] | None:
    """The 399 numbers of COCO-WholeBody's five lists, or of one list `keypoints`; None where there is no list."""
    given = {name: entry[name] for name in WHOLEBODY_LISTS if entry.get(name) is not None}
    if not given:
        return None
    if list(given) == ["keypoints"] and len(given["keypoints"]) == 3 * len(COCO_WHOLEBODY):
        whole: Sequence[float] = given["keypoints"]
        return whole
    for name, part in WHOLEBODY_LISTS.items():
        start, stop = COCO_WHOLEBODY.parts[part]
        if name not in given:
            raise UserError(f"{where} lacks {name}: COCO-WholeBody's lists are {', '.join(WHOLEBODY_LISTS)}")
        if len(given[name]) != 3 * (stop - start):
            raise UserError(
                f"{where} has {len(given[name])} numbers in {name}; its {stop - start} keypoints make "
                f"{3 * (stop - start)}"
            )
    return [number for name in WHOLEBODY_LISTS for number in given[name]]


def _person(entry: Mapping[str, Any], keypoints: np.ndarray | None, where: str) -> Person:
    try:
        identity, bbox = int(entry["id"]), np.asarray(entry["bbox"], dtype=np.float64)
        image_id = int(entry["image_id"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} lacks a proper {error}") from None
    if bbox.shape != (4,):
        raise UserError(f"{where} has a bbox of {bbox.size} numbers; x y w h are wanted")
    if keypoints is not None and not keypoints[:, 2].any():
        keypoints = None
    area = float(entry["area"]) if entry.get("area") is not None else AREA_OF_BBOX * float(bbox[2] * bbox[3])
    return Person(
        id=identity, image_id=image_id, bbox=bbox, keypoints=keypoints, area=area, crowd=bool(entry.get("iscrowd", 0))
    )
