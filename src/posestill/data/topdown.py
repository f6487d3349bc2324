"""From persons to a batch: draw the augmentation, make one affine, warp once, move the keypoints by the same affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from posestill.data.augment import AugmentConfig, Colours, change_colour, draw_colours, draw_crops, uniform_draws
from posestill.data.source import PoseSource
from posestill.geometry import (
    PADDING,
    Crop,
    Framing,
    affine_to_input,
    crop_of_bbox,
    fit_aspect,
    invert_affine,
    transform_points,
)
from posestill.schema import UserError
from posestill.types import Person, PoseBatch, Size

_LONGEST_SIDE = 32766
"""px of a side beyond which OpenCV warps no image"""


@dataclass(frozen=True)
class Labels:
    """Which persons of a source a run sees, and which of those show it their labels."""

    persons: np.ndarray
    """(N,) positions in source.people"""
    shown: np.ndarray
    """(N,) bool: the labels may be read"""
    drawn: np.ndarray | None = None
    """(N,) bool: batches are drawn from these; None: from everybody"""


@dataclass(frozen=True)
class View:
    """What is cut out of B images: the same persons are cut once for the student and once for a teacher's size."""

    affine: np.ndarray
    """(B, 2, 3) image px -> px of the cut"""
    size: Size


@dataclass(frozen=True)
class FixedViews:
    """A number of crops of each person that are drawn once and shown by turns: in epoch e the crop e mod count.

    They depend on the person's id and on a seed of their own, and so are the same in every run.
    """

    count: int
    seed: int = 0

    def number(self, epoch: np.ndarray) -> np.ndarray:
        """(B,) which crop is shown in each epoch (B,)."""
        return epoch % self.count

    def draws(self, people: Sequence[Person], epoch: np.ndarray) -> np.ndarray:
        """(B, COUNT) the uniform draws of the crops that B persons are shown by in each epoch (B,)."""
        ids = np.array([person.id for person in people], dtype=np.int64)
        return uniform_draws(self.seed, self.number(epoch), ids)


class Unreadable(UserError):
    """The picture of a person cannot be read; the message says why."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index
        """the person's position in its dataset"""


class TopDownDataset(Dataset[PoseBatch]):
    """Crops of persons as batches. An item is asked for as (epoch, index): the same pair gives the same pixels.

    Where `passes_over` is true, a person whose picture cannot be read is replaced by the next one in the order of the
    dataset that batches may be drawn from and that shows labels alike: a batch's `index` then tells another person than
    was asked for.
    """

    def __init__(
        self,
        source: PoseSource,
        *,
        size: Size,
        labels: Labels | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        teacher_size: Size | None = None,
        teacher_padding: float = PADDING,
        fixed_views: FixedViews | None = None,
        passes_over: bool = False,
    ) -> None:
        """With `fixed_views` every person is shown by these crops alone, whatever the `seed`."""
        self.passes_over = passes_over
        self.unreadable: dict[int, str] = {}
        """positions whose pictures could not be read in this process, and what is wrong with these"""
        self.source = source
        self.size = size
        self.augment = augment
        self.seed = seed
        own = teacher_size is None or (teacher_size == size and teacher_padding == PADDING)
        self.teacher_size = None if own else teacher_size
        self.teacher_padding = teacher_padding
        self.fixed_views = fixed_views
        count = len(source.people)
        self.labels = labels or Labels(persons=np.arange(count), shown=np.ones(count, dtype=bool))

    def __len__(self) -> int:
        return len(self.labels.persons)

    def person(self, index: int) -> Person:
        """The person at a position of this dataset."""
        return self.source.people[int(self.labels.persons[index])]

    def __getitem__(self, wanted: tuple[int, int]) -> PoseBatch:
        return self.__getitems__([wanted])

    def __getitems__(self, wanted: Sequence[tuple[int, int]]) -> PoseBatch:
        """The batch of some (epoch, index) pairs."""
        while True:
            try:
                return self._batch(np.array([(epoch, self.replaced(index)) for epoch, index in wanted]))
            except Unreadable as error:
                if not self.passes_over:
                    raise UserError(str(error)) from None
                self.unreadable[error.index] = str(error)

    def replaced(self, index: int) -> int:
        """The position itself or, where its picture is known to be unreadable, that of the person in its place."""
        if index not in self.unreadable:
            return index
        shown, drawn, count = self.labels.shown, self.labels.drawn, len(self)
        for step in range(1, count):
            other = (index + step) % count
            if (drawn is None or drawn[other]) and shown[other] == shown[index] and other not in self.unreadable:
                return other
        raise UserError(f"no picture to train on can be read; {self.unreadable[index]}")

    def read(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the picture of a person, or `Unreadable`."""
        try:
            return self.source.image(self.person(index).image_id)
        except UserError as error:
            raise Unreadable(index, str(error)) from None

    def is_readable(self, index: int) -> bool:
        """True where the picture of a person can be read now, whatever was noted before."""
        try:
            self.read(index)
        except Unreadable:
            return False
        return True

    def _batch(self, wanted: np.ndarray) -> PoseBatch:
        """The batch of (B, 2) pairs of epoch and index."""
        epoch, index = wanted.T  # (B,), (B,)
        people = [self.person(each) for each in index]
        labels = self.shown_labels(people, index)  # (B, K, 3) image px
        crop = crop_of_bbox(np.stack([person.bbox for person in people]), self.size)
        colours = None
        if self.augment is not None:
            draws, skeleton = self._draws(people, epoch, index), self.source.skeleton
            crop = draw_crops(crop, labels, draws, size=self.size, augment=self.augment, skeleton=skeleton)
            colours = draw_colours(draws, self.augment.colour) if self.augment.colour else None
        affine = affine_to_input(crop, self.size)  # (B, 2, 3)
        views = [View(affine, self.size)]
        for framing in self.framings()[1:]:
            views += [View(affine_to_input(teacher_crop(crop, framing), framing.size), framing.size)]
        images = self.pixels(index, views, colours)
        mirrored = np.broadcast_to(crop.mirrored, len(people))
        labels = np.where(mirrored[:, None, None], labels[:, list(self.source.skeleton.swap)], labels)
        weight = labels[..., 2] > 0  # (B, K)
        keypoints = np.where(weight[..., None], transform_points(labels[..., :2], affine), 0)
        return PoseBatch(
            image=images[0],
            keypoints=torch.from_numpy(keypoints.astype(np.float32)),
            weight=torch.from_numpy(weight.astype(np.float32)),
            to_image=torch.from_numpy(invert_affine(affine).astype(np.float32)),
            index=torch.from_numpy(index),
            teacher_image=images[1] if len(images) > 1 else None,
            view=None if self.fixed_views is None else torch.from_numpy(self.fixed_views.number(epoch)),
        )

    def _draws(self, people: Sequence[Person], epoch: np.ndarray, index: np.ndarray) -> np.ndarray:
        if self.fixed_views is not None:
            return self.fixed_views.draws(people, epoch)
        return uniform_draws(self.seed, epoch, index)

    def framings(self) -> list[Framing]:
        """What the student's crops show and, where the teacher is shown others, what those show."""
        own = [Framing(self.size)]
        return own if self.teacher_size is None else [*own, Framing(self.teacher_size, self.teacher_padding)]

    def shown_labels(self, people: Sequence[Person], index: np.ndarray) -> np.ndarray:
        """(B, K, 3) image px; zero where there are none or the run must not know them: nothing else reads labels."""
        labels = np.zeros((len(people), len(self.source.skeleton), 3))
        for row, (person, shown) in enumerate(zip(people, self.labels.shown[index], strict=True)):
            if shown and person.keypoints is not None:
                labels[row] = person.keypoints
        return labels

    def pixels(self, index: np.ndarray, views: Sequence[View], colours: Colours | None) -> list[Tensor]:
        """Of each view (B, 3, H, W) uint8: the crops of persons index (B,), in changed colours.

        A picture is read once for all its persons.
        """
        planes = planes_of(views)
        for rows in self._by_picture(index):
            image = four_channels(self.read(int(index[rows[0]])))
            for row in rows:
                for into, view in zip(planes, views, strict=True):
                    put(warp(image, view.affine[row], view.size), into, row, colours)
        return [torch.from_numpy(each) for each in planes]

    def _by_picture(self, index: np.ndarray) -> list[np.ndarray]:
        """The rows of persons index (B,), those in one picture together."""
        pictures = np.array([self.person(each).image_id for each in index.tolist()])
        order = np.argsort(pictures, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(pictures[order])) + 1)


def planes_of(views: Sequence[View]) -> list[np.ndarray]:
    """Room for the crops of each view: (B, 3, H, W) uint8."""
    return [np.empty((len(view.affine), 3, *view.size), dtype=np.uint8) for view in views]


def four_channels(image: np.ndarray) -> np.ndarray:
    """(H, W, 4): an RGB image and a channel that says nothing. OpenCV warps four twice as fast as three, and alike."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)


def put(crop: np.ndarray, into: np.ndarray, row: int, colours: Colours | None) -> None:
    """Write the colours of a crop of `four_channels`, changed, into its row of (B, 3, H, W)."""
    if colours is None:
        cv2.split(crop, [*into[row], np.empty(crop.shape[:2], dtype=np.uint8)])  # far faster than a transposed copy
        return
    crop = cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB)
    cv2.split(change_colour(crop, colours.matrix[row], colours.pull[row]), list(into[row]))


def teacher_crop(crop: Crop, framing: Framing) -> Crop:
    """What a teacher is shown of each of a student's crops: as much around its middle as the framing says."""
    return replace(crop, extent=fit_aspect(crop.extent, framing.size) * (framing.padding / PADDING))


def warp(image: np.ndarray, affine: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, C) uint8: the crop of `size` that a (2, 3) affine image px -> input px cuts out; black outside."""
    if max(image.shape[:2]) > _LONGEST_SIDE:
        image, affine = _part_of(image, affine, size)
    return cv2.warpAffine(image, affine, (size[1], size[0]), flags=cv2.INTER_LINEAR)


def _part_of(image: np.ndarray, affine: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The part of a huge image that a crop shows, at most so many px long, and the affine from there."""
    corners = np.array([[-1.0, -1.0], [size[1], -1.0], [-1.0, size[0]], [size[1], size[0]]])
    seen = transform_points(corners, invert_affine(affine))  # (4, 2) image px
    low = np.floor(seen.min(axis=0)).clip(0, [image.shape[1] - 1, image.shape[0] - 1]).astype(int)
    high = np.ceil(seen.max(axis=0)).clip(low, [image.shape[1], image.shape[0]]).astype(int) + 1
    part = image[low[1] : high[1], low[0] : high[0]]
    step = -(-max(part.shape[:2]) // _LONGEST_SIDE)  # above 1 where even the part is too long: pixels are left out
    linear = affine[:, :2] * step
    return np.ascontiguousarray(part[::step, ::step]), np.column_stack([linear, affine[:, 2] + affine[:, :2] @ low])
