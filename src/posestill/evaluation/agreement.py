"""How far a student agrees with its teacher where nobody has labels: by keypoint, and by how sure the teacher is.

The measure is OKS's term of each keypoint, which averages to the OKS of a person: 1 where both say the same place, 0.6
where they are two spreads apart (`oks_sigmas` times the root of the person's area), 0 where they are far apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from posestill.metrics.oks import LabelledPeople
from posestill.skeletons import Skeleton
from posestill.teachers.answers import similarity
from posestill.types import Person

CONFIDENCES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""the ends of the ranges by which keypoints are put together"""
PARTS = 4
"""of the persons, by the teacher's mean confidence"""


@dataclass(frozen=True)
class Range:
    """The agreement on the keypoints or persons of which the teacher is about equally sure."""

    low: float
    """the least confidence"""
    high: float
    """the greatest"""
    count: int
    agreement: float
    """0..1; NaN where there is none"""


@dataclass(frozen=True)
class Agreement:
    """Of a student with its teacher's answers on N persons."""

    by_keypoint: dict[str, float]
    """mean over the persons where the teacher is sure of the keypoint; NaN where it never is"""
    confidence: dict[str, float]
    """the teacher's mean confidence in each keypoint, over all persons"""
    by_confidence: tuple[Range, ...]
    """of all keypoints, whether or not they are judged by"""
    by_person: tuple[Range, ...]
    """quarters of the persons by the teacher's mean confidence, the least sure first"""

    def as_json(self) -> dict[str, Any]:
        """The same as plain values, for a file."""
        return {
            "by_keypoint": self.by_keypoint,
            "confidence": self.confidence,
            "by_confidence": [vars(each) for each in self.by_confidence],
            "by_person": [vars(each) for each in self.by_person],
        }


def agreement_with(
    answers: np.ndarray, xy: np.ndarray, people: Sequence[Person], skeleton: Skeleton, *, threshold: float
) -> Agreement:
    """How well a student's places xy (N, K, 2) agree with a teacher's answers (N, K, 3) x y confidence, image px.

    `people` give the area that distances are measured by; confidences above `threshold` are those of sure keypoints.
    """
    area = np.array([person.area for person in people])  # (N,)
    distance = np.linalg.norm(xy - answers[..., :2], axis=-1)  # (N, K)
    alike = similarity(distance, area=area, skeleton=skeleton)  # (N, K)
    confidence = answers[..., 2]
    sure = confidence > threshold
    ranges = []
    for low, high in pairwise(CONFIDENCES):
        inside = (confidence >= low) & ((confidence < high) | (high == CONFIDENCES[-1]))
        ranges.append(Range(low, high, int(inside.sum()), _mean(alike[inside])))
    mean = confidence.mean(axis=1)
    persons = np.array([_mean(row[own]) for row, own in zip(alike, sure, strict=True)])
    quarters = []
    for rows in np.array_split(np.argsort(mean, kind="stable"), PARTS):
        if len(rows):
            quarters.append(Range(float(mean[rows].min()), float(mean[rows].max()), len(rows), _mean(persons[rows])))
    return Agreement(
        by_keypoint={name: _mean(alike[sure[:, at], at]) for at, name in enumerate(skeleton.names)},
        confidence={name: float(confidence[:, at].mean()) for at, name in enumerate(skeleton.names)},
        by_confidence=tuple(ranges),
        by_person=tuple(quarters),
    )


def by_keypoint(places: np.ndarray, people: Sequence[Person], skeleton: Skeleton) -> dict[str, float]:
    """The mean of OKS's term of each keypoint at places (N, K, 2) image px, over the N people who show its label.

    NaN where nobody does; a person who was missed (NaN) counts as 0.
    """
    truth = LabelledPeople.of(people, len(skeleton))
    distance = np.linalg.norm(places - truth.keypoints[..., :2], axis=-1)  # (N, K)
    terms = np.nan_to_num(similarity(distance, area=truth.area, skeleton=skeleton))
    return {name: _mean(terms[truth.labelled[:, at], at]) for at, name in enumerate(skeleton.names)}


def _mean(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(present.mean()) if len(present) else float("nan")
