"""People as labels, teacher and student see them, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from posestill.data.source import PoseSource
from posestill.data.topdown import warp
from posestill.draw import draw_poses
from posestill.engine.judged import Poses
from posestill.evaluation.evaluate import EvaluateConfig, labelled_people, predict_poses, spread_evenly
from posestill.geometry import affine_to_input, bbox_of_joints, crop_of_bbox, transform_points
from posestill.html.page import Drawing, Strip, percent
from posestill.models.pose_model import PoseModel
from posestill.skeletons import Skeleton
from posestill.types import Person, Size

PICTURE: Size = (256, 192)
"""(height, width) of each picture of one person, px"""
_ENOUGH, _MUCH = 4, 2.5
"""keypoints that tell where a person is, and how much larger than theirs a box is that shows mainly something else"""
LEGEND = "A person's left side is orange, the right side blue."


def drawn_people(poses: Poses, rows: Sequence[int], *, truth: str) -> list[Strip]:
    """Some of the people (positions in `poses`) with their labels, the teacher's poses and the student's.

    `truth` is what the first picture is called. Poses are drawn at the keypoints that the truth shows, each with its
    OKS; where the teacher's answers are the truth, the teacher is drawn once.
    """
    teacher = None if truth == "teacher" else poses.teacher
    student_oks, teacher_oks, between = poses.right(poses.student), None, None
    if teacher is not None:
        teacher_oks, between = poses.right(teacher), poses.alike()
    strips = []
    for row in rows:
        person = poses.people[row]
        assert person.keypoints is not None
        image, shown = poses.source.image(person.image_id), person.keypoints[:, 2] > 0
        seen = {truth: person.keypoints[:, :2]}
        if teacher is not None and teacher_oks is not None:
            seen[f"teacher, OKS {percent(teacher_oks[row])}"] = teacher[row]
        seen[f"student, OKS {percent(student_oks[row])}"] = poses.student[row]
        drawings = [
            Drawing(draw_person(image, person, places, shown, poses.skeleton), caption)
            for caption, places in seen.items()
        ]
        both = "" if between is None else f" · teacher and student alike: {percent(between[row])}"
        strips.append(Strip(f"Person {person.id}{both}", drawings))
    return strips


def draw_person(
    image: np.ndarray, person: Person, places: np.ndarray, shown: np.ndarray, skeleton: Skeleton, size: Size = PICTURE
) -> np.ndarray:
    """A person cut out (H, W, 3), with a pose (K, 2) image px drawn at the keypoints that are shown (K,)."""
    affine = affine_to_input(crop_of_bbox(_box_to_show(person), size), size)
    pose = np.column_stack([transform_points(places, affine), shown & np.isfinite(places).all(axis=1)])
    return draw_poses(warp(image, affine, size), pose[None], skeleton, threshold=0.5)


def _box_to_show(person: Person) -> np.ndarray:
    """(4,) x y w h, image px: the bbox or, where it is much larger than the person, that of its keypoints."""
    assert person.keypoints is not None
    known = person.keypoints[person.keypoints[:, 2] > 0, :2]
    if len(known) < _ENOUGH:
        return person.bbox
    around = bbox_of_joints(known)
    return around if person.bbox[2:].prod() > _MUCH * around[2:].prod() else person.bbox


def seen_by(models: Mapping[str, PoseModel], source: PoseSource, *, count: int) -> list[Strip]:
    """People spread evenly over the labelled ones of a source, as labels and each model see them."""
    usable = labelled_people(source)
    chosen = usable[spread_evenly(len(usable), count)]
    found = {name: predict_poses(model, source, chosen, EvaluateConfig()).keypoints for name, model in models.items()}
    strips = []
    for row, position in enumerate(chosen.tolist()):
        person = source.people[position]
        assert person.keypoints is not None
        image, shown = source.image(person.image_id), person.keypoints[:, 2] > 0
        seen = {"labels": person.keypoints[:, :2], **{name: poses[row, :, :2] for name, poses in found.items()}}
        drawings = [
            Drawing(draw_person(image, person, places, shown, source.skeleton), name) for name, places in seen.items()
        ]
        strips.append(Strip(f"Person {person.id}", drawings))
    return strips
