"""A teacher's answer in the student's terms: its input px, its keypoints, by name."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posestill.geometry import fit_aspect
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.types import Keypoints, PoseBatch, Size


class Bridge:
    """Decodes a teacher's prediction and carries it over to the student's input and skeleton."""

    def __init__(self, teacher: Teacher, student: PoseModel) -> None:
        self.teacher = teacher
        self.student_size = student.config.size
        position = {name: index for index, name in enumerate(teacher.skeleton.names)}
        found = [position.get(name, -1) for name in student.skeleton.names]
        if max(found) < 0:
            raise UserError(
                f"teacher: none of the student's keypoints ({', '.join(student.skeleton.names[:3])}, ...) is among the "
                f"teacher's ({', '.join(teacher.skeleton.names[:3])}, ...): the names must agree"
            )
        self.source = torch.tensor(found)
        """(K,) the teacher's index of each keypoint of the student; -1 where it has none"""

    def keypoints(self, batch: PoseBatch) -> Keypoints:
        """Keypoints in the student's input px; score 0 where the teacher lacks the keypoint."""
        taught = self.teacher.codec.decode(self.teacher(batch).prediction)
        source = self.source.to(taught.xy.device)
        xy = taught.xy[:, source.clamp(min=0)]
        score = taught.score[:, source.clamp(min=0)] * (source >= 0)
        return Keypoints(
            xy=between_inputs(xy, self.teacher.input_size, self.student_size, batch.mirrored()), score=score
        )


def between_inputs(xy: Tensor, given: Size, wanted: Size, mirrored: Tensor) -> Tensor:
    """(B, K, 2) points of crops of size `given` as points of the same crops at size `wanted`; mirrored (B,) bool.

    Both crops show the bbox's centre in their middle (W/2, H/2); a crop of another aspect shows more around it.
    """
    if given == wanted:
        return xy
    extent = fit_aspect(np.array([wanted[1], wanted[0]], dtype=float), given)  # in px of `wanted`
    ratio = extent[0] / given[1]
    middle_given, middle_wanted = xy.new_tensor([given[1], given[0]]) / 2, xy.new_tensor([wanted[1], wanted[0]]) / 2
    # A mirrored crop was mirrored about (W - 1) / 2, half a pixel from the middle: undo it, scale, mirror again.
    upright = _mirror(xy, given, mirrored)
    return _mirror((upright - middle_given) * ratio + middle_wanted, wanted, mirrored)


def _mirror(xy: Tensor, size: Size, mirrored: Tensor) -> Tensor:
    flipped = torch.stack([size[1] - 1 - xy[..., 0], xy[..., 1]], dim=-1)
    return torch.where(mirrored[:, None, None], flipped, xy)
