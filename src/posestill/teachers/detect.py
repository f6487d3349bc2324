"""Detectors: a network in a file that finds people with their boxes in a whole picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posestill.data.images import FoundBoxes
from posestill.models.threads import ThreadTrial
from posestill.schema import UserError
from posestill.teachers.file import open_layout
from posestill.teachers.one_stage import ONE_STAGE, OneStage
from posestill.teachers.runtime import open_network
from posestill.teachers.threads import fastest


class Detector:
    """Finds the persons in a picture."""

    def __init__(self, path: Path, *, threshold: float = 0.3) -> None:
        """People scored below `threshold` are left out. A `UserError` says why a file cannot serve."""
        try:
            self.network = open_network(path)
            layout = open_layout(self.network)
        except UserError as error:  # which speaks of teachers, the usual guests of a runtime
            raise UserError(f"detector: {str(error).partition(': ')[2] or error}") from None
        if not isinstance(layout, OneStage):
            raise UserError(
                f"detector: {path.name} (layout {layout.name}) sees one person a crop and gives no boxes: a detector's "
                f"layout is one of {', '.join(ONE_STAGE)}"
            )
        self.layout, self.threshold = layout, threshold

    def choose_threads(self, image: np.ndarray) -> ThreadTrial | None:
        """Take as many threads as it looks at such a picture fastest with; what was tried, if anything."""
        found = fastest(self.network, lambda network: self.layout.people(network, image))
        self.network = found.network
        return found.trial

    def __call__(self, image: np.ndarray) -> FoundBoxes:
        """The boxes of the people in an (H, W, 3) uint8 RGB picture, surest first."""
        people = self.layout.people(self.network, image)
        kept = people.score >= self.threshold
        return FoundBoxes(people.bbox[kept], people.score[kept])
