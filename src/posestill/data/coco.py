"""COCO keypoint JSON: COCO Body, or any custom skeleton that the file's category describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import model_validator

from posestill.data.coco_entries import keypoint_array, read_category, read_images, read_people, read_person
from posestill.data.coco_notes import notes_on_boxes, notes_on_files, notes_on_keypoints, refuse_shares
from posestill.data.image_files import read_image
from posestill.data.source import SourceConfig
from posestill.documents.parse import read_json
from posestill.keypoints.metainfo import metainfo_of, read_metainfo
from posestill.schema import UserError, reading
from posestill.skeletons import COCO_WHOLEBODY, Skeleton, from_category
from posestill.types import Person, Size

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
        self.folder, self.path, self.wholebody = images, annotations, wholebody
        with reading(str(annotations)):
            self.category = read_category(content, annotations)
            info = read_metainfo(metainfo, self.category.entry["keypoints"]) if metainfo else None
            self.skeleton: Skeleton = (
                COCO_WHOLEBODY
                if wholebody
                else from_category(
                    self.category.entry,
                    metainfo_of(self.category.entry, info, where=str(annotations)),
                    where=str(metainfo or ""),
                )
            )
            self.category_id: int = self.category.ids[0]
            listed = read_images(content, annotations)
            self.file_names: dict[int, str] = {image_id: each.file_name for image_id, each in listed.items()}
            self.sizes: dict[int, Size | None] = {image_id: each.size for image_id, each in listed.items()}
            chosen = read_people(content, self.category, listed, annotations)
            people = [read_person(entry, self._labels_of(entry, where), where) for entry, where in chosen]
            self.people: Sequence[Person] = people
            about = content.get("info") or {}
            self.truth: str | None = about.get("truth") if isinstance(about, dict) else None
            """whose answers these labels are, where they are not people's (`posestill label` says so)"""
        refuse_shares(people, path=annotations)
        self._check_images()
        self.notes: tuple[str, ...] = tuple(
            f"{annotations.name}: {note}"
            for note in (
                *self._notes_on_categories(),
                *notes_on_boxes(people, [entry.get("bbox") for entry, _ in chosen], self.sizes),
                *notes_on_keypoints(people, self.sizes),
                *([] if images is None else notes_on_files(self.sizes, self.image_path)),
            )
        )
        """what is odd about these labels as a whole, in sentences that stand wherever figures do"""

    @property
    def image_ids(self) -> Collection[int]:
        """Of every image, also of those without people."""
        return self.file_names.keys()

    def numbers_of(self, entry: Mapping[str, Any], *, where: str) -> np.ndarray | None:
        """(K, 3) the keypoint numbers of an annotation or of an entry of a results file; None where it has none.

        Raises `UserError`, opened by `where`, when they are of the wrong count, or say no place for a keypoint whose
        third number is not 0.
        """
        if self.wholebody:
            return _wholebody_array(entry, where=where)
        if entry.get("keypoints") is None:
            return None
        return keypoint_array(entry["keypoints"], self.skeleton.names, where=where)

    def _labels_of(self, entry: Mapping[str, Any], where: str) -> np.ndarray | None:
        points = self.numbers_of(entry, where=where)
        if points is None:
            return None
        unlabelled = points[:, 2] <= 0
        if not np.isfinite(points).all():
            points = np.where(unlabelled[:, None], 0.0, points)
        return points

    def _notes_on_categories(self) -> list[str]:
        if len(self.category.ids) == 1:
            return []
        return [f"{len(self.category.ids)} categories name the same keypoints: they are read as one."]

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.image_path(image_id))

    def image_path(self, image_id: int) -> Path:
        """Where an image lies."""
        if self.folder is None:
            raise UserError(f"{self.path} was opened without a folder of images")
        return self.folder / self.file_names[image_id]

    def _check_images(self) -> None:
        if self.folder is not None and self.file_names:
            first = self.folder / next(iter(self.file_names.values()))
            if not self.folder.is_dir():
                raise UserError(f"no folder of images {self.folder} (for {self.path}): correct the source's path")
            if not first.exists():
                raise UserError(f"{self.path} names {first.name}, which {self.folder} does not hold")


def coco_lists(keypoints: np.ndarray, skeleton: Skeleton) -> dict[str, list[float]]:
    """The lists that a results file holds (K, 3) keypoints in: one, or COCO-WholeBody's five."""
    if skeleton.names != COCO_WHOLEBODY.names:
        return {"keypoints": keypoints.reshape(-1).tolist()}
    return {
        name: keypoints[slice(*COCO_WHOLEBODY.parts[part])].reshape(-1).tolist()
        for name, part in WHOLEBODY_LISTS.items()
    }


def _wholebody_array(entry: Mapping[str, Any], *, where: str) -> np.ndarray | None:
    """(133, 3) of COCO-WholeBody's five lists, or of one list `keypoints`; None where there is no list."""
    given = {name: entry[name] for name in WHOLEBODY_LISTS if entry.get(name) is not None}
    if not given:
        return None
    names = COCO_WHOLEBODY.names
    whole = given.get("keypoints")
    if len(given) == 1 and isinstance(whole, list) and len(whole) == 3 * len(names):
        return keypoint_array(whole, names, where=where)
    parts = []
    for name, part in WHOLEBODY_LISTS.items():
        start, stop = COCO_WHOLEBODY.parts[part]
        if name not in given:
            raise UserError(f"{where} lacks {name}: COCO-WholeBody's lists are {', '.join(WHOLEBODY_LISTS)}")
        if isinstance(given[name], list) and len(given[name]) != 3 * (stop - start):
            raise UserError(
                f"{where} has {len(given[name])} numbers in {name}; its {stop - start} keypoints make "
                f"{3 * (stop - start)}"
            )
        parts.append(keypoint_array(given[name], names[start:stop], where=where, key=name))
    return np.concatenate(parts)
