"""Boxes from a detector in place of the annotated ones: what the papers' protocol evaluates on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from posestill.data.coco import AREA_OF_BBOX, read_json
from posestill.data.source import PoseSource
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.types import Person

SMALLEST_SIDE = 1e-3
"""px: boxes thinner than this are left out"""


class DetectedPeople:
    """The persons of a COCO detection-results file on the images of another source; they carry no labels."""

    def __init__(self, source: PoseSource, path: Path, *, category_id: int = 1, threshold: float = 0.0) -> None:
        """`path` lists image_id, category_id, bbox and score; boxes scored below `threshold` are left out."""
        content = read_json(path, what="file of detections")
        if not isinstance(content, list):
            raise UserError(f"{path} is not a list of detections: image_id, category_id, bbox, score each")
        wanted = set(source.image_ids)
        people: list[Person] = []
        for position, entry in enumerate(content):
            try:
                if entry.get("category_id", category_id) != category_id or entry["image_id"] not in wanted:
                    continue
                bbox, score = np.asarray(entry["bbox"], dtype=np.float64), float(entry["score"])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise UserError(f"{path}: entry {position} lacks a proper {error}") from None
            if bbox.shape != (4,):
                raise UserError(f"{path}: entry {position} has a bbox of {bbox.size} numbers; x y w h are wanted")
            if not (np.isfinite(bbox).all() and np.isfinite(score) and np.abs(bbox).max() < 1e6):
                raise UserError(f"{path}: entry {position} has a bbox or a score that is no sensible number")
            if score >= threshold and min(bbox[2:]) >= SMALLEST_SIDE:
                area = AREA_OF_BBOX * float(bbox[2] * bbox[3])
                people.append(Person(len(people), int(entry["image_id"]), bbox, None, area, score=score))
        if not people:
            raise UserError(f"{path} has no box of category {category_id} on the {len(wanted)} images of the data")
        self.people: Sequence[Person] = people
        self.path = path
        self._source = source

    @property
    def image_ids(self) -> Collection[int]:
        """Those of the source."""
        return self._source.image_ids

    @property
    def skeleton(self) -> Skeleton:
        """That of the source."""
        return self._source.skeleton

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._source.image(image_id)
