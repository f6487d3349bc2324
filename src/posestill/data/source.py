"""Where persons and images come from: three members, and a dataset is one of ours."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from posestill.schema import Config
from posestill.skeletons import Skeleton
from posestill.types import Person


class PoseSource(Protocol):
    """Persons with their boxes (and labels, where there are any), and the images they stand in."""

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of these people."""
        ...

    @property
    def people(self) -> Sequence[Person]:
        """All of them, in a fixed order."""
        ...

    @property
    def image_ids(self) -> Collection[int]:
        """Of every image, also of those without people."""
        ...

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. A source may be read by several processes: no call changes another's answer."""
        ...


class SourceConfig(Config):
    """These are the settings of a source; `build` opens it."""

    def build(self) -> PoseSource:
        """The source itself. Fails with a message that names the file and the remedy."""
        raise NotImplementedError


@dataclass(frozen=True)
class PeopleCount:
    """How many persons of a source are what: everybody is counted once."""

    labelled: int
    """with labels and a bbox"""
    unlabelled: int
    """with a bbox, without labels"""
    crowds: int
    without_bbox: int
    """no crowds, but without a bbox to be cut out by: left out"""

    def __str__(self) -> str:
        everyone = self.labelled + self.unlabelled + self.crowds + self.without_bbox
        return (
            f"{everyone} persons: {self.labelled} with labels, {self.unlabelled} without labels, {self.crowds} crowds, "
            f"{self.without_bbox} left out for their bbox"
        )


def count_people(people: Sequence[Person]) -> PeopleCount:
    """Count persons by what can be made of them."""
    crowds = sum(person.crowd for person in people)
    boxed = [person for person in people if not person.crowd and person.bbox[2] > 0 and person.bbox[3] > 0]
    labelled = sum(person.keypoints is not None for person in boxed)
    return PeopleCount(labelled, len(boxed) - labelled, crowds, len(people) - crowds - len(boxed))


def notes_of(source: PoseSource) -> list[str]:
    """What a source says of its labels as a whole, in sentences that stand wherever figures do."""
    return list(getattr(source, "notes", ()))
