"""A teacher's answer in the student's terms: its input px, its keypoints, by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posestill.codecs.base import MapForm, NumberForm
from posestill.geometry import Framing, fit_aspect
from posestill.keypoints.names import same_keypoint
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError, did_you_mean
from posestill.teachers.base import Teacher
from posestill.types import Coords, Heatmaps, Keypoints, PoseBatch, PoseOutput, Prediction, Size


class Bridge:
    """Decodes a teacher's prediction and carries it over to the student's input and skeleton."""

    def __init__(self, teacher: Teacher, student: PoseModel) -> None:
        self.teacher = teacher
        self.framings = {"teacher": teacher.framing, "student": Framing(student.config.size)}
        first, second = _sources(teacher, student.skeleton.names)
        if max(first) < 0:
            raise UserError(
                f"teacher: none of the student's keypoints ({', '.join(student.skeleton.names[:3])}, ...) is among the "
                f"teacher's ({', '.join(teacher.skeleton.names[:3])}, ...): say which are the same by teacher.names, "
                "such as {RAnkle: right_ankle}"
            )
        self.source = torch.tensor(first)
        """(K,) the teacher's index of each keypoint of the student; -1 where it has none"""
        self.other = torch.tensor(second)
        """(K,) the second of two keypoints of the teacher whose middle is meant; elsewhere the same as `source`"""
        self.alike = first == second == list(range(len(teacher.skeleton)))  # the same keypoints in the same order
        self.without = tuple(name for name, at in zip(student.skeleton.names, first, strict=True) if at < 0)
        """the student's keypoints of which this teacher says nothing"""

    def keypoints(self, answer: PoseOutput, batch: PoseBatch) -> Keypoints:
        """What the teacher said of a batch, in the student's input px; score 0 where it lacks the keypoint."""
        taught = self.teacher.codec.decode(answer.prediction)
        first, second = (each.to(taught.xy.device) for each in (self.source, self.other))
        known = first >= 0
        first, second = first.clamp(min=0), second.clamp(min=0)
        xy = (taught.xy[:, first] + taught.xy[:, second]) / 2
        score = torch.minimum(taught.score[:, first], taught.score[:, second]) * known
        return Keypoints(xy=to_student(xy, **self.framings, mirrored=batch.mirrored()), score=score)


def _sources(teacher: Teacher, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """For each name of the student the positions of one or two keypoints of the teacher; -1 where it has none."""
    theirs = teacher.skeleton.names
    for name, said in teacher.names.items():
        if name not in names:
            raise UserError(f"teacher.names: the student has no keypoint '{name}'{did_you_mean(name, names)}")
        for each in (said,) if isinstance(said, str) else said:
            if each not in theirs:
                raise UserError(
                    f"teacher.names.{name}: the teacher has no keypoint '{each}'{did_you_mean(each, theirs)}"
                )
    first, second = [], []
    for name in names:
        meant = teacher.names.get(name) or same_keypoint(name, theirs)
        pair = (meant, meant) if meant is None or isinstance(meant, str) else meant
        one, other = (-1 if each is None else theirs.index(each) for each in pair)
        first.append(one)
        second.append(other)
    return first, second


class HeatmapBridge(Bridge):
    """Carries a teacher's heatmaps over to the student's keypoints and, where asked, to maps of the student's input."""

    def __init__(self, teacher: Teacher, student: PoseModel) -> None:
        super().__init__(teacher, student)
        if not isinstance(teacher.codec.form, MapForm):
            raise UserError(
                f"teacher: its heatmaps are needed, and this one gives {teacher.codec.prediction_type.__name__}: "
                "choose a heatmap teacher, and where it is asked once keep its maps (teacher.cache={keep: maps})"
            )
        self.teacher_form = teacher.codec.form

    def maps(self, prediction: Prediction | None) -> tuple[Tensor, Tensor]:
        """The maps (B, K, h, w) of the student's keypoints, and (K,) 1 where the teacher has the keypoint itself."""
        assert isinstance(prediction, Heatmaps)
        maps, source = prediction.maps, self.source.to(prediction.maps.device)
        known = (source >= 0) & (source == self.other.to(source.device))
        if not self.alike:
            maps = maps[:, source.clamp(min=0)]
        return maps, known.to(maps.dtype)

    def resampled(self, maps: Tensor, form: MapForm, batch: PoseBatch) -> Tensor:
        """The teacher's maps (B, K, h, w) where the cells of maps of the student's input lie: (B, K, h', w'), fp32.

        0 outside the teacher's crop, of which it said nothing.
        """
        maps, taught = maps.float(), self.teacher_form  # places in half precision would be a third of a px off
        if form.has_the_cells_of(taught) and self.framings["teacher"] == self.framings["student"]:
            return maps
        height, width = form.size
        rows, columns = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
        cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).to(maps.dtype)  # (h', w', 2)
        inside = form.to_input(cells).flatten(0, 1).expand(len(maps), -1, -1)  # (B, h' w', 2) the student's input px
        place = to_teacher(inside, **self.framings, mirrored=batch.mirrored())
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
        form, (height, width) = self.teacher_form, self.framings["student"].size
        own = prediction.xy.new_tensor([width, height])
        cells = prediction.xy.new_tensor([form.size[1], form.size[0]])
        place = to_teacher(prediction.xy * own, **self.framings, mirrored=batch.mirrored())
        spread = torch.full_like(place, form.sigma)
        if self.draws_its_spread:
            assert prediction.scale is not None
            spread = form.spread_on_map(prediction.scale * own / px_ratio(**self.framings))
        return Coords(xy=form.to_map(place) / cells, scale=spread / cells, score=prediction.score)


def worth_knowing(teacher: Teacher, student: PoseModel) -> list[str]:
    """What one should know of a teacher before it teaches this student, a line each."""
    lines = list(teacher.remarks)
    if without := Bridge(teacher, student).without:
        lines.append(f"the teacher says nothing of {', '.join(without)}: labels alone teach these")
    licence = str(teacher.lineage.get("licence") or "")
    words = licence.lower().replace("-", " ").replace("_", " ").split()
    if "nc" in words or "noncommercial" in words or "non commercial" in " ".join(words):
        lines.append(f"WARNING: the teacher's licence ({licence}) is not for commercial use and may bind the student")
    return lines


def of_one_aspect(teacher: Teacher, student: PoseModel) -> bool:
    """True where both see the same part of the picture, if at different sizes."""
    (height, width), (own_height, own_width) = teacher.input_size, student.config.size
    return height * own_width == width * own_height and teacher.framing.padding == Framing((1, 1)).padding


def need_one_aspect(teacher: Teacher, student: PoseModel) -> None:
    """Refuse crops of two aspects or paddings: one shows more around a person, and features would lie elsewhere."""
    if of_one_aspect(teacher, student):
        return
    padding, own = teacher.framing.padding, Framing((1, 1)).padding
    if padding != own:
        raise UserError(
            f"teacher: its crops are boxes padded by {padding}, and the student's are padded by {own}: their features "
            "show other places; choose a method that learns from predictions, such as pseudo_label"
        )
    raise UserError(
        f"teacher: its crops of {teacher.input_size} are of another aspect than the student's of "
        f"{student.config.size}: their features show other places; choose a model.size of the teacher's aspect"
    )


def to_student(xy: Tensor, *, teacher: Framing, student: Framing, mirrored: Tensor) -> Tensor:
    """(B, K, 2) places in the teacher's input px as places in the student's; mirrored (B,) bool.

    Both crops show the bbox's centre in their middle (W/2, H/2). The teacher's is cut around the student's: of another
    aspect it shows more, and its own padding may show more or less.
    """
    if teacher == student:
        return xy
    return _scaled_about_the_middle(xy, px_ratio(teacher, student), teacher.size, student.size, mirrored)


def to_teacher(xy: Tensor, *, teacher: Framing, student: Framing, mirrored: Tensor) -> Tensor:
    """(B, K, 2) places in the student's input px as places in the teacher's: the way back of `to_student`."""
    if teacher == student:
        return xy
    return _scaled_about_the_middle(xy, 1 / px_ratio(teacher, student), student.size, teacher.size, mirrored)


def px_ratio(teacher: Framing, student: Framing) -> float:
    """Px of the student's crop per px of the teacher's."""
    own = np.array([student.size[1], student.size[0]], dtype=float)
    extent = fit_aspect(own, teacher.size)  # of the teacher's crop at the student's padding, in the student's px
    return float(extent[0] / teacher.size[1]) * (teacher.padding / student.padding)


def _scaled_about_the_middle(xy: Tensor, ratio: float, given: Size, wanted: Size, mirrored: Tensor) -> Tensor:
    middle_given, middle_wanted = xy.new_tensor([given[1], given[0]]) / 2, xy.new_tensor([wanted[1], wanted[0]]) / 2
    # A mirrored crop was mirrored about (W - 1) / 2, half a pixel from the middle: undo it, scale, mirror again.
    upright = _mirror(xy, given, mirrored)
    return _mirror((upright - middle_given) * ratio + middle_wanted, wanted, mirrored)


def _mirror(xy: Tensor, size: Size, mirrored: Tensor) -> Tensor:
    flipped = torch.stack([size[1] - 1 - xy[..., 0], xy[..., 1]], dim=-1)
    return torch.where(mirrored[:, None, None], flipped, xy)
