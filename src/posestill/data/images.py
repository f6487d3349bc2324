"""Pictures without labels as a source: their persons come from boxes, from a detector, or are the whole frame."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from posestill.data.boxes import BoxFile
from posestill.data.coco import CocoSource
from posestill.data.coco_entries import AREA_OF_BBOX
from posestill.data.pictures import Pictures
from posestill.data.source import PoseSource, SourceConfig
from posestill.geometry import bbox_of_joints
from posestill.keypoints.names import same_keypoint
from posestill.schema import UserError
from posestill.skeletons import Skeleton, from_category
from posestill.types import Person

TEACHERS_ANSWERS = "the teacher's answers"
"""the truth of pictures without labels"""


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str | Path) else given


class ImagesConfig(SourceConfig):
    """Pictures without labels: folders read with all folders in them, single files, or videos."""

    folder: Annotated[tuple[Path, ...], BeforeValidator(_as_list), Field(min_length=1)]
    """A folder of pictures, which is read with all folders in it, a picture, a video, or a list of such."""
    frame_step: PositiveInt = 10
    """Of a video every so many-th frame is taken. A larger step gives fewer pictures, which differ more from one
    another."""
    boxes: Path | None = None
    """A file that says where persons are: COCO annotations (only their boxes are read), COCO detections, or a JSON of
    {file name: [[x, y, w, h], ...]}. None: the detector says so or, without one, the whole frame is one person."""
    detector: Path | None = None
    """A network that finds people with their boxes: a file such as movenet-multipose.onnx, a folder that transformers
    saved, or `hf:OWNER/NAME@REVISION` of the Hugging Face Hub. None: the boxes say where persons are or, without them,
    the whole frame is one person."""
    box_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The score below which a box of the detector or of a file of detections is left out. A higher threshold leaves out
    more false boxes, and more persons."""
    keypoints: tuple[str, ...] | None = None
    """The names of the student's keypoints, all of which the teacher must have, in any order. None: those of the
    teacher."""

    least_confidence: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The teacher's mean confidence below which a person is doubtful. Where more than half of the persons are, a run
    stops before it trains; at 0 nobody is doubtful."""

    @model_validator(mode="after")
    def _one_finder(self) -> ImagesConfig:
        if self.boxes is not None and self.detector is not None:
            raise ValueError("boxes and detector both say where persons are: give one of them")
        return self

    @property
    def finder(self) -> str:
        """What says where persons are, in words."""
        if self.boxes is not None:
            return str(self.boxes)
        return "whole-frame" if self.detector is None else f"{self.detector.name}'s"

    def build(self) -> PoseSource:
        """The source, where these settings alone describe it; else a `UserError` says what is missing."""
        if self.keypoints is None:
            raise UserError(
                "pictures without labels have the teacher's keypoints, and there is no teacher here: name them by "
                "data.train.keypoints"
            )
        if self.detector is not None:
            raise UserError("data.train.detector: only a run with a teacher asks a detector; give boxes here")
        pictures = Pictures(self.folder, frame_step=self.frame_step)
        skeleton = from_category({"name": "person", "keypoints": self.keypoints})
        return ImageSource(pictures, self.people(pictures), skeleton, boxes=self.finder)

    def people(self, pictures: Pictures) -> list[Person]:
        """Everybody that the file of boxes names or, without one, one person a picture: the whole frame."""
        if self.boxes is None:
            whole = [np.array([[0.0, 0.0, each.size[1], each.size[0]]]) for each in pictures.all]
            return as_people({position: FoundBoxes(box, np.ones(1)) for position, box in enumerate(whole)})
        videos = {picture.path for picture in pictures.all if picture.frame is not None}
        if videos:
            raise UserError(
                f"boxes: the frames of {min(videos).name} have no file names by which {self.boxes} could name them: "
                "give a detector, or write the frames into a folder"
            )
        named = BoxFile(self.boxes, threshold=self.box_threshold).match([each.path for each in pictures.all])
        return as_people(
            {position: FoundBoxes(each.boxes, each.score) for position, each in enumerate(named) if each is not None}
        )


class HeldOutConfig(SourceConfig):
    """A share of pictures without labels is kept from training, and a teacher's answers stand in for labels there.

    Whole folders or videos where there are several, else the last pictures in the order of their names, after a gap.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of the pictures that is held out. A larger share measures the agreement with the teacher better and
    leaves less to train on."""
    threshold: float = 0.3
    """The confidence that a keypoint of the teacher must exceed to stand in for a label. A higher threshold judges by
    surer keypoints only, and by fewer."""
    annotations: Path | None = None
    """A COCO file with labels of some of the pictures, by their file names. These pictures are then held out, in the
    place of the share, and student and teacher are measured against the labels, too. None: there are no labels."""

    def build(self) -> PoseSource:
        """Refused: what is held out is known only together with what is trained on and with the teacher."""
        raise UserError(
            "data.val: the pictures that a run holds out have no labels of their own, so they cannot be opened alone: "
            "give labelled data (data.val in a recipe, --annotations with --images)"
        )


@dataclass(frozen=True)
class FoundBoxes:
    """Where people are in one picture."""

    boxes: np.ndarray
    """(N, 4) x y w h, image px"""
    score: np.ndarray
    """(N,)"""


class ImageSource:
    """People without labels in pictures; image ids count the pictures from 1."""

    def __init__(
        self,
        pictures: Pictures,
        people: Sequence[Person],
        skeleton: Skeleton,
        *,
        boxes: str,
        only: Sequence[int] | None = None,
    ) -> None:
        """`boxes` says whose they are. `only`: positions of the pictures that are this source's; None: all of them."""
        self.pictures, self.skeleton, self.boxes = pictures, skeleton, boxes
        self._ids = range(1, len(pictures) + 1) if only is None else {position + 1 for position in only}
        self.people: Sequence[Person] = [each for each in people if each.image_id in self._ids]

    @property
    def image_ids(self) -> Collection[int]:
        """Of every picture, also of those without people."""
        return self._ids

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.pictures.read(image_id - 1)

    def only(self, positions: Sequence[int], people: Sequence[Person] | None = None) -> ImageSource:
        """The same people, or others, in some of the pictures."""
        those = self.people if people is None else people
        return ImageSource(self.pictures, those, self.skeleton, boxes=self.boxes, only=positions)


class TaughtSource:
    """The people of a source with a teacher's answers in the place of labels; nobody must take them for the truth."""

    truth = TEACHERS_ANSWERS

    def __init__(self, source: ImageSource, answers: np.ndarray, *, threshold: float) -> None:
        """`answers` (N, K, 3) x y confidence, image px; keypoints above `threshold` stand in for labels."""
        self.skeleton, self.boxes, self._source = source.skeleton, source.boxes, source
        self.answers, self.threshold = answers, threshold
        self.people: Sequence[Person] = [
            with_answer(person, answer, threshold=threshold)
            for person, answer in zip(source.people, answers, strict=True)
        ]

    @property
    def image_ids(self) -> Collection[int]:
        """Those of the source."""
        return self._source.image_ids

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._source.image(image_id)


def labelled_pictures(source: ImageSource, annotations: Path) -> ImageSource:
    """The labelled people of a COCO file in the pictures of a source that it names, in the source's keypoints.

    A `UserError` tells where the file names none of the pictures, or knows none of the keypoints.
    """
    truth = CocoSource(annotations, images=None)
    files = {position: each.path for position, each in enumerate(source.pictures.all) if each.frame is None}
    if not files:
        raise UserError(f"data.val.annotations: {annotations} cannot name frames of a video: write them into a folder")
    named = BoxFile(annotations).match(list(files.values()))
    own = {each.image_id: position for position, each in zip(files, named, strict=True) if each is not None}
    where = [same_keypoint(name, truth.skeleton.names) for name in source.skeleton.names]
    if not any(where):
        raise UserError(
            f"data.val.annotations: none of the teacher's keypoints ({', '.join(source.skeleton.names[:3])}, ...) is "
            f"among those of {annotations} ({', '.join(truth.skeleton.names[:3])}, ...)"
        )
    people = []
    for person in truth.people:
        if person.image_id in own:
            keypoints = None
            if person.keypoints is not None:
                keypoints = np.zeros((len(where), 3))
                for row, name in enumerate(where):
                    if name is not None:
                        keypoints[row] = person.keypoints[truth.skeleton.names.index(name)]
            people.append(replace(person, image_id=own[person.image_id] + 1, keypoints=keypoints))
    labelled = source.only(sorted(own.values()), people)
    labelled.boxes = "ground truth"
    return labelled


def as_people(found: Mapping[int, FoundBoxes]) -> list[Person]:
    """Persons without labels from boxes by the position of their picture; a box without extent is left out."""
    people: list[Person] = []
    for position, each in found.items():
        for box, score in zip(each.boxes, each.score.tolist(), strict=True):
            if box[2] > 0 and box[3] > 0:
                area = AREA_OF_BBOX * float(box[2] * box[3])
                people.append(Person(len(people) + 1, position + 1, box, None, area, score=score))
    return people


def with_answer(person: Person, answer: np.ndarray, *, threshold: float) -> Person:
    """A person with a teacher's answer (K, 3) x y confidence as its keypoints: v = 2 above `threshold`, else 0.

    Its area is that of the pose, which in a whole frame is much less than the box's.
    """
    sure = answer[:, 2] > threshold
    if not sure.any():
        return person
    keypoints = np.where(sure[:, None], np.concatenate([answer[:, :2], np.full((len(answer), 1), 2.0)], axis=1), 0.0)
    return replace(person, keypoints=keypoints, area=min(person.area, _area_of_pose(answer[sure, :2])))


def _area_of_pose(points: np.ndarray) -> float:
    """The area (image px squared) that COCO's rule gives the person whose keypoints (N, 2) these are."""
    return AREA_OF_BBOX * float(bbox_of_joints(points)[2:].prod())
