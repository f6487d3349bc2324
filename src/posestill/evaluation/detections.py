"""Boxes from a detector in place of the annotated ones: what the papers' protocol evaluates on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from posestill.data.coco_entries import AREA_OF_BBOX
from posestill.data.coco_notes import notes_on_boxes
from posestill.data.detection_file import read_detections
from posestill.data.source import PoseSource
from posestill.documents.fields import some
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.types import Person

SMALLEST_SIDE = 1e-3
"""px: boxes thinner than this are left out"""


class DetectedPeople:
    """The persons of a COCO detection-results file on the images of another source; they carry no labels."""

    def __init__(self, source: PoseSource, path: Path, *, category_id: int = 1, threshold: float = 0.0) -> None:
        """`path` lists image_id, category_id, bbox and score; boxes scored below `threshold` are left out."""
        entries = read_detections(path, category_ids=[category_id])
        every = [each for each in entries.found if each.image_id is not None]  # which is so in all of them
        wanted = set(source.image_ids)
        of_images = [each for each in every if each.image_id in wanted]
        chosen = [each for each in of_images if each.score >= threshold]
        people: list[Person] = []
        for each in chosen:
            if min(each.bbox[2:]) >= SMALLEST_SIDE:
                area = AREA_OF_BBOX * float(each.bbox[2] * each.bbox[3])
                people.append(Person(len(people), int(each.image_id or 0), each.bbox, None, area, score=each.score))
        if not of_images:
            seen = sorted({each.image_id for each in every if each.image_id is not None})
            raise UserError(
                f"{path} has no box of category {category_id} on the {len(wanted)} images of the data: its image_ids "
                f"are {some(seen)}, those of the data {some(sorted(wanted))}"
            )
        if not people:
            raise UserError(
                f"{path} has no box of category {category_id} on the {len(wanted)} images of the data that is scored "
                f"{threshold:g} or above and has a width and a height"
            )
        notes = list(entries.notes)
        if thin := len(chosen) - len(people):
            notes.append(f"{thin} boxes without width or height are left out.")
        if elsewhere := len(every) - len(of_images):
            notes.append(f"{elsewhere} boxes on images that the data does not have are left out.")
        sizes = getattr(source, "sizes", {})
        notes += [note for note in notes_on_boxes(people, [each.bbox.tolist() for each in people], sizes)
                  if "x1 y1" in note]  # fmt: skip
        self.notes = tuple(f"{path.name}: {note}" for note in notes)
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
