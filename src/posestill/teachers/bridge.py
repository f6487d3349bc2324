"""A teacher's answer in the student's terms: its input px, its keypoints, by name."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posestill.codecs.base import MapForm, NumberForm
from posestill.geometry import fit_aspect
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.types import Coords, Heatmaps, Keypoints, PoseBatch, PoseOutput, Prediction, Size


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
        self.alike = found == list(range(len(teacher.skeleton)))  # the same keypoints in the same order

    def keypoints(self, answer: PoseOutput, batch: PoseBatch) -> Keypoints:
        """What the teacher said of a batch, in the student's input px; score 0 where it lacks the keypoint."""
        taught = self.teacher.codec.decode(answer.prediction)
        source = self.source.to(taught.xy.device)
        xy = taught.xy[:, source.clamp(min=0)]
        score = taught.score[:, source.clamp(min=0)] * (source >= 0)
        return Keypoints(
            xy=between_inputs(xy, self.teacher.input_size, self.student_size, batch.mirrored()), score=score
        )


class HeatmapBridge(Bridge):
    """Carries a teacher's heatmaps over to the student's keypoints and, where asked, to maps of the student's input."""

    def __init__(self, teacher: Teacher, student: PoseModel) -> None:
        super().__init__(teacher, student)
        if not isinstance(teacher.codec.form, MapForm):
            raise UserError(
                f"teacher: its heatmaps are needed, and this one gives {teacher.codec.prediction_type.__name__}: "
                "choose a heatmap teacher, asked live (cache: false)"
            )
        self.teacher_form = teacher.codec.form

    def maps(self, prediction: Prediction | None) -> tuple[Tensor, Tensor]:
        """The maps (B, K, h, w) of the student's keypoints, and (K,) 1 where the teacher has the keypoint."""
        assert isinstance(prediction, Heatmaps)
        maps, source = prediction.maps, self.source.to(prediction.maps.device)
        if not self.alike:
            maps = maps[:, source.clamp(min=0)]
        return maps, (source >= 0).to(maps.dtype)

    def resampled(self, maps: Tensor, form: MapForm, batch: PoseBatch) -> Tensor:
        """The teacher's maps (B, K, h, w) where the cells of maps of the student's input lie: (B, K, h', w'), fp32.

        0 outside the teacher's crop, of which it said nothing.
        """
        maps, taught = maps.float(), self.teacher_form  # places in half precision would be a third of a px off
        if form.has_the_cells_of(taught):
            return maps
        height, width = form.size
        rows, columns = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
        cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).to(maps.dtype)  # (h', w', 2)
        inside = form.to_input(cells).flatten(0, 1).expand(len(maps), -1, -1)  # (B, h' w', 2) the student's input px
        place = between_inputs(inside, self.student_size, self.teacher.input_size, batch.mirrored())
        last = maps.new_tensor([taught.size[1] - 1, taught.size[0] - 1])
        cell = taught.to_map(place).unflatten(1, (height, width))  # (B, h', w', 2) of the teacher's map
        seen = ((cell >= -0.5) & (cell <= last + 0.5)).all(dim=-1)
        found = F.grid_sample(maps, 2 * cell / last - 1, align_corners=True, padding_mode="border")
        return found * seen[:, None]


class DrawingBridge(HeatmapBridge):
    """Carries a coordinate student over to a teacher's heatmaps, where what it predicts can be drawn."""

    def __init__(self, teacher: Teacher, student: PoseModel) -> None:
        super().__init__(teacher, student)
        if not isinstance(student.codec.form, NumberForm):
            raise UserError(
                "model.codec: simulated heatmaps are drawn from coordinates, and this student gives "
                f"{student.codec.prediction_type.__name__}: choose the codec coords or rle"
            )
        self.draws_its_spread = student.codec.form.draws_spread

    def on_teacher_map(self, prediction: Prediction | None, batch: PoseBatch) -> Coords:
        """The student's coordinates as fractions of the teacher's map, differentiable; without a spread of its own, it
        gets the teacher's sigma.
        """
        assert isinstance(prediction, Coords)
        form, size = self.teacher_form, self.teacher.input_size
        own = prediction.xy.new_tensor([self.student_size[1], self.student_size[0]])
        cells = prediction.xy.new_tensor([form.size[1], form.size[0]])
        place = between_inputs(prediction.xy * own, self.student_size, size, batch.mirrored())
        spread = torch.full_like(place, form.sigma)
        if self.draws_its_spread:
            assert prediction.scale is not None
            spread = form.to_map(prediction.scale * own * px_ratio(self.student_size, size))
        return Coords(xy=form.to_map(place) / cells, scale=spread / cells, score=prediction.score)


def of_one_aspect(teacher: Teacher, student: PoseModel) -> bool:
    """True where both see the same crop, if at different sizes."""
    (height, width), (own_height, own_width) = teacher.input_size, student.config.size
    return height * own_width == width * own_height


def need_one_aspect(teacher: Teacher, student: PoseModel) -> None:
    """Refuse crops of two aspects: one shows more around a person, and features would not lie on each other."""
    if not of_one_aspect(teacher, student):
        raise UserError(
            f"teacher: its crops of {teacher.input_size} are of another aspect than the student's of "
            f"{student.config.size}: their features show other places; choose a model.size of the teacher's aspect"
        )


def between_inputs(xy: Tensor, given: Size, wanted: Size, mirrored: Tensor) -> Tensor:
    """(B, K, 2) points of crops of size `given` as points of the same crops at size `wanted`; mirrored (B,) bool.

    Both crops show the bbox's centre in their middle (W/2, H/2); a crop of another aspect shows more around it.
    """
    if given == wanted:
        return xy
    ratio = px_ratio(given, wanted)
    middle_given, middle_wanted = xy.new_tensor([given[1], given[0]]) / 2, xy.new_tensor([wanted[1], wanted[0]]) / 2
    # A mirrored crop was mirrored about (W - 1) / 2, half a pixel from the middle: undo it, scale, mirror again.
    upright = _mirror(xy, given, mirrored)
    return _mirror((upright - middle_given) * ratio + middle_wanted, wanted, mirrored)


def px_ratio(given: Size, wanted: Size) -> float:
    """Px of a crop of size `wanted` per px of the same person's crop of size `given`."""
    extent = fit_aspect(np.array([wanted[1], wanted[0]], dtype=float), given)  # of the given crop, in px of `wanted`
    return float(extent[0] / given[1])


def _mirror(xy: Tensor, size: Size, mirrored: Tensor) -> Tensor:
    flipped = torch.stack([size[1] - 1 - xy[..., 0], xy[..., 1]], dim=-1)
    return torch.where(mirrored[:, None, None], flipped, xy)
