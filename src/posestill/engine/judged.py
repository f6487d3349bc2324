"""Student and teacher on the same people: what both say of them, and how right both are where somebody has labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from posestill.data.images import TaughtSource
from posestill.data.source import PoseSource
from posestill.evaluation.agreement import by_keypoint
from posestill.evaluation.evaluate import EvaluateConfig, Share, labelled_people, predict_poses, spread_evenly
from posestill.metrics import oks
from posestill.metrics.oks import LabelledPeople
from posestill.models.pose_model import PoseModel
from posestill.skeletons import Skeleton
from posestill.teachers.answers import ask_about
from posestill.teachers.base import Teacher
from posestill.types import Person

MOST = 300
"""so many people, spread evenly over the labelled ones, both are asked about: a teacher may take a second for one"""


@dataclass(frozen=True, eq=False)
class Poses:
    """What a student and, where there is one, its teacher say of M people, against what is taken for the truth."""

    source: PoseSource
    people: Sequence[Person]
    """(M,) with the keypoints to be judged by: labels, or a teacher's answers where it is sure"""
    student: np.ndarray
    """(M, K, 2) image px; NaN where the person was missed"""
    teacher: np.ndarray | None
    """(M, K, 2) image px"""

    @property
    def skeleton(self) -> Skeleton:
        """Of all of them."""
        return self.source.skeleton

    def right(self, places: np.ndarray) -> np.ndarray:
        """(M,) the OKS of places (M, K, 2) with the truth; NaN for a person without any."""
        return oks.mean_oks(places, self._truth(), oks_sigmas=self._sigmas())

    def alike(self) -> np.ndarray:
        """(M,) the OKS of the student's places with the teacher's, at the keypoints that the truth shows."""
        assert self.teacher is not None
        truth = self._truth()
        answers = np.concatenate([self.teacher, truth.keypoints[..., 2:]], axis=-1)
        return oks.mean_oks(self.student, replace(truth, keypoints=answers), oks_sigmas=self._sigmas())

    def _truth(self) -> LabelledPeople:
        return LabelledPeople.of(self.people, len(self.skeleton))

    def _sigmas(self) -> np.ndarray:
        return np.array(self.skeleton.oks_sigmas)


@dataclass(frozen=True)
class Judged:
    """How right one of the two is, by labels."""

    mean_oks: float
    pck: float
    by_keypoint: dict[str, float]
    """the mean of OKS's term over the people who show the keypoint; NaN where nobody does"""


@dataclass(frozen=True)
class OnLabels:
    """Student and teacher on the same labelled people."""

    poses: Poses
    of: int
    """labelled people there are in all"""
    boxes: str
    """by which both were shown people"""
    keypoints: tuple[str, ...]
    """that labels, student and teacher share"""
    student: Judged
    teacher: Judged | None

    @property
    def persons(self) -> int:
        """How many people both were judged by."""
        return len(self.poses.people)

    def as_json(self) -> dict[str, Any]:
        """The figures as plain values, for a file."""
        judged = {"student": self.student, **({} if self.teacher is None else {"teacher": self.teacher})}
        return {
            "persons": self.persons,
            "of": self.of,
            "boxes": self.boxes,
            "keypoints": list(self.keypoints),
            "mean_oks": {name: each.mean_oks for name, each in judged.items()},
            "pck": {name: each.pck for name, each in judged.items()},
            "by_keypoint": {name: each.by_keypoint for name, each in judged.items()},
        }


class _Some:
    """A few people of a source."""

    def __init__(self, source: PoseSource, people: Sequence[Person]) -> None:
        self.skeleton, self.people, self._source = source.skeleton, people, source

    @property
    def image_ids(self) -> Collection[int]:
        """Of the images that these people stand in."""
        return {person.image_id for person in self.people}

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._source.image(image_id)


def on_labels_of(
    student: PoseModel, teacher: Teacher | None, source: PoseSource, settings: EvaluateConfig, device: torch.device
) -> OnLabels | None:
    """Both on labelled people of a source, cut out by their own boxes; None where nobody has labels.

    A teacher that says nothing of any of their keypoints is left out; else both are judged by those that it knows.
    """
    labelled = labelled_people(source)
    if not len(labelled):
        return None
    chosen = labelled[spread_evenly(len(labelled), MOST)]
    some = _Some(source, [source.people[position] for position in chosen])
    own = predict_poses(student, some, np.arange(len(chosen)), settings, Share(device=device)).keypoints[..., :2]
    answers = None if teacher is None else _answers(teacher, some, device, flip_test=settings.flip_test)
    if answers is None:
        return _judged(Poses(some, some.people, own, None), of=len(labelled), boxes="ground truth")
    known = answers[..., 2].max(axis=0) > 0
    people = [_showing(person, known) for person in some.people]
    return _judged(Poses(some, people, own, answers[..., :2]), of=len(labelled), boxes="ground truth")


def on_labels_of_pictures(
    student: PoseModel, held: TaughtSource, labelled: PoseSource, settings: EvaluateConfig, device: torch.device
) -> OnLabels | None:
    """Both on the labelled people in held-out pictures, each judged by the pose of its picture that fits it best.

    Both were shown people by the boxes of the pictures, as in use. None where nobody has labels.
    """
    persons = labelled_people(labelled)
    if not len(persons):
        return None
    own = predict_poses(student, held, np.arange(len(held.people)), settings, Share(device=device))
    people = [labelled.people[position] for position in persons]
    truth, sigmas = LabelledPeople.of(people, len(held.skeleton)), np.array(held.skeleton.oks_sigmas)
    student_places, teacher_places = (
        oks.best_of_image(
            oks.PredictedPeople(image_id=own.image_id, keypoints=each[..., :2], score=own.score),
            truth,
            oks_sigmas=sigmas,
        )
        for each in (own.keypoints, held.answers)
    )
    return _judged(Poses(labelled, people, student_places, teacher_places), of=len(persons), boxes=held.boxes)


def with_teachers_answers(
    student: PoseModel, held: TaughtSource, settings: EvaluateConfig, device: torch.device
) -> Poses:
    """Both on held-out people without labels: the truth is what the teacher says where it is sure."""
    persons = labelled_people(held)
    chosen = persons[spread_evenly(len(persons), MOST)]
    own = predict_poses(student, held, chosen, settings, Share(device=device))
    people = [held.people[position] for position in chosen]
    return Poses(held, people, own.keypoints[..., :2], held.answers[chosen, :, :2])


def _answers(teacher: Teacher, source: PoseSource, device: torch.device, *, flip_test: bool) -> np.ndarray | None:
    """(M, K, 3) x y confidence, image px, of the keypoints of a source's people; None where it knows none."""
    if "prediction" not in teacher.provides:
        return None
    told = ask_about(teacher, source, device=device, flip_test=flip_test)
    found = told.named(teacher, source.skeleton.names).keypoints
    return found if found[..., 2].any() else None


def _showing(person: Person, known: np.ndarray) -> Person:
    """The same person with the labels of some keypoints (K,) only."""
    assert person.keypoints is not None
    return replace(person, keypoints=person.keypoints * known[:, None])


def _judged(poses: Poses, *, of: int, boxes: str) -> OnLabels:
    truth = LabelledPeople.of(poses.people, len(poses.skeleton))

    def judge(places: np.ndarray) -> Judged:
        similarity = poses.right(places)
        return Judged(
            mean_oks=float(np.nanmean(similarity)) if np.isfinite(similarity).any() else float("nan"),
            pck=oks.pck(places, truth, pck_pair=poses.skeleton.pck_pair)["overall"],
            by_keypoint=by_keypoint(places, poses.people, poses.skeleton),
        )

    shown = np.flatnonzero(truth.labelled.any(axis=0))
    return OnLabels(
        poses=poses,
        of=of,
        boxes=boxes,
        keypoints=tuple(poses.skeleton.names[at] for at in shown),
        student=judge(poses.student),
        teacher=None if poses.teacher is None else judge(poses.teacher),
    )
