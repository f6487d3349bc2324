"""Detectors: networks that find people with their boxes in a whole picture, from a file or from the Hub."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from posestill.data.images import FoundBoxes
from posestill.models.hub import find_network, is_reference, is_saved_network
from posestill.models.threads import ThreadTrial
from posestill.schema import UserError
from posestill.teachers.file import open_layout
from posestill.teachers.one_stage import ONE_STAGE, OneStage
from posestill.teachers.runtime import open_network
from posestill.teachers.threads import fastest
from posestill.teachers.transformers import load_network, transformers_library

_OF_A_TEACHER = re.compile(r"^teacher(\.\w+)*: ")
PEOPLE = ("person", "people", "human", "pedestrian")
"""what detectors call the class of persons"""


class Detector:
    """Finds the persons in a picture."""

    def choose_threads(self, image: np.ndarray) -> ThreadTrial | None:
        """Take as many threads as it looks at such a picture fastest with; what was tried, if anything."""
        return None

    def __call__(self, image: np.ndarray) -> FoundBoxes:
        """The boxes of the people in an (H, W, 3) uint8 RGB picture, surest first."""
        raise NotImplementedError


def open_detector(path: Path, *, threshold: float = 0.3) -> Detector:
    """The detector in a file, in a folder that transformers saved, or of the Hub (`hf:OWNER/NAME@REVISION`).

    People scored below `threshold` are left out. A `UserError` says why it cannot serve.
    """
    if is_reference(str(path)) or is_saved_network(path):
        return TransformersDetector(str(path), threshold=threshold)
    return FileDetector(path, threshold=threshold)


class FileDetector(Detector):
    """A network in a file that a runtime executes."""

    def __init__(self, path: Path, *, threshold: float = 0.3) -> None:
        """People scored below `threshold` are left out. A `UserError` says why a file cannot serve."""
        try:
            self.network = open_network(path)
            layout = open_layout(self.network)
        except UserError as error:  # which speaks of teachers, the usual guests of a runtime
            raise UserError(f"detector: {_OF_A_TEACHER.sub('', str(error))}") from None
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
        people = self.layout.people(self.network, image, least_score=self.threshold)
        return FoundBoxes(people.bbox, people.score)


class TransformersDetector(Detector):
    """An object detector of transformers, such as RT-DETR, of whose classes people are one."""

    def __init__(self, name: str, *, threshold: float) -> None:
        """`name` is a repository of the Hub or a folder. A `UserError` says why it cannot serve."""
        library = transformers_library(name)  # before anything is fetched
        saved = find_network(name, where="detector")
        labels = saved.settings().get("id2label") or {}
        people = [int(index) for index, label in labels.items() if str(label).lower() in PEOPLE]
        if not people:
            shown = ", ".join(map(str, [*labels.values()][:5])) or "none by name"
            raise UserError(f"detector: {saved.name} knows no person (its classes: {shown}, ...)")
        self.person, self.threshold = people[0], threshold
        self.network = load_network(saved, "AutoModelForObjectDetection")
        self.processor = library.AutoImageProcessor.from_pretrained(saved.folder, local_files_only=True)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> FoundBoxes:
        """The boxes of the people in an (H, W, 3) uint8 RGB picture, surest first."""
        given = self.processor(images=image, return_tensors="pt", input_data_format="channels_last")
        answer = self.network(pixel_values=given["pixel_values"])
        (found,) = self.processor.post_process_object_detection(
            answer, threshold=self.threshold, target_sizes=[image.shape[:2]]
        )
        kept = found["labels"] == self.person
        corners, score = found["boxes"][kept].double().numpy(), found["scores"][kept].double().numpy()
        order = np.argsort(-score, kind="stable")
        return FoundBoxes(
            np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)[order], score[order]
        )
