"""Where persons and images come from: three members, and a dataset is one of ours."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
