"""A teacher's maps of upright crops, carried over to the crops that a training shows of the same persons.

    a cell of the shown crop's map -> teacher's px -> student's px -> image px -> teacher's px upright -> a stored cell

Every arrow is an affine, so that one grid-sample reads a whole batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from posestill.codecs.base import MapForm
from posestill.data.crops import sample
from posestill.data.topdown import teacher_crop
from posestill.geometry import Framing, affine_to_input, crop_of_bbox, transform_batch
from posestill.teachers.bridge import to_student
from posestill.types import FeatureShape, PoseBatch


class UprightCrops:
    """Where the upright crops lie that a teacher was shown of some persons."""

    def __init__(self, boxes: np.ndarray, *, teacher: Framing, student: Framing) -> None:
        """For the bboxes (N, 4) x y w h, image px, of these persons in the order of their dataset."""
        self.boxes, self.teacher, self.student = boxes, teacher, student

    def resampled(
        self, stored: Tensor, batch: PoseBatch, form: MapForm, *, outside: Literal["zeros", "border"]
    ) -> Tensor:
        """Maps (B, C, h, w) of upright crops as maps of the same size of the crops in the batch, fp32.

        Channels stay where they are, also in a mirrored crop. Beyond the upright crop, of which the teacher said
        nothing, there is zero or what its border has.
        """
        # Mixed precision around it would round places to several px.
        with torch.autocast(stored.device.type, enabled=False):
            return sample(stored.float(), self.to_stored(batch, form), form.size, outside=outside)

    def to_stored(self, batch: PoseBatch, form: MapForm) -> Tensor:
        """(B, 2, 3) cells of a map of each crop in the batch -> cells of the map of that person's upright crop."""
        height, width = form.size
        corners = batch.to_image.new_tensor([[0, 0], [width, 0], [0, height]])  # far apart, so that rounding is small
        seen = form.to_input(corners).expand(len(batch), -1, -1)  # (B, 3, 2) px of the teacher's crop
        own = to_student(seen, teacher=self.teacher, student=self.student, mirrored=batch.mirrored())
        upright = transform_batch(transform_batch(own, batch.to_image), self._from_image(batch))
        cells = form.to_map(upright)  # (B, 3, 2)
        origin = cells[:, 0]
        return torch.stack([(cells[:, 1] - origin) / width, (cells[:, 2] - origin) / height, origin], dim=-1)

    def _from_image(self, batch: PoseBatch) -> Tensor:
        """(B, 2, 3) image px -> px of the upright crop that the teacher was shown."""
        crop = crop_of_bbox(self.boxes[batch.index.cpu().numpy()], self.student.size)
        affine = affine_to_input(teacher_crop(crop, self.teacher), self.teacher.size)
        return torch.from_numpy(affine).to(batch.to_image)


def mirrored_crops(batch: PoseBatch) -> PoseBatch:
    """The same crops with their columns reversed; labels and affines stay those of the crops as they were."""
    other = None if batch.teacher_image is None else batch.teacher_image.flip(-1)
    return replace(batch, image=batch.image.flip(-1), teacher_image=other)


def grid_of_features(shape: FeatureShape, framing: Framing, *, first_cell: float) -> MapForm:
    """Where the cells of a feature map (C, h, w) lie on the crop; `first_cell` is the place of the first one, px."""
    _, height, width = shape
    step = (framing.size[1] / width, framing.size[0] / height)
    return MapForm(input_size=framing.size, size=(height, width), px_per_cell=step, sigma=1.0, first_cell=first_cell)


def first_cell_of(upright: Tensor, mirrored: Tensor, framing: Framing) -> float:
    """Where a network's first feature cell lies, px: at 0, as strided convolutions have it, or amid the px under it.

    Seen in features (B, C, h, w) of crops and of the same crops mirrored: how strong they are, all channels together,
    is mirrored as well, about the middle of the px, which is the middle of the cells in the second case alone.
    """
    stride = framing.size[1] / upright.shape[-1]
    shift = 1 - 1 / stride
    strength, other = (each.float().square().mean(dim=1).sqrt() for each in (upright, mirrored))  # (B, h, w)
    flipped = strength.flip(-1)
    moved = torch.lerp(flipped, flipped.roll(1, dims=-1), shift)
    inner = slice(1, -1)  # borders differ by what is filled up around the crop
    likeness = [_correlation(each[..., inner], other[..., inner]) for each in (flipped, moved)]
    return (stride - 1) / 2 if likeness[0] >= likeness[1] else 0.0


def _correlation(one: Tensor, other: Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-12))
