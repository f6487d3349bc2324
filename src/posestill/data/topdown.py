"""From a person to a crop: draw the augmentation, make one affine, warp once, move the keypoints by the same affine.

Published parameters: Simple Baselines (ECCV 2018) and mmpose 1.x's body recipes. Every draw is keyed by
(seed, epoch, index), so that no worker, process or resume changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import cv2
import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch.utils.data import Dataset

from posestill.data.source import PoseSource
from posestill.geometry import Crop, affine_to_input, crop_of_bbox, fit_aspect, invert_affine, transform_points
from posestill.schema import Config
from posestill.skeletons import Skeleton
from posestill.types import Person, PoseBatch, Size

Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Config):
    """What is drawn for each crop. Each part is switched off by 0."""

    flip: Probability = 0.5
    """probability of a mirrored crop"""
    half_body: Probability = 0.3
    """probability of showing one half of a person, where more than `half_body_above` keypoints are labelled"""
    half_body_above: int = 8
    half_body_upper: Probability = 0.7
    """probability of the upper half"""
    half_body_padding: PositiveFloat = 1.5
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """the extent is multiplied by 1 + scale * draw"""
    rotation: Annotated[float, Field(ge=0, le=180)] = 80.0
    """degrees: the crop is turned by rotation * draw"""
    rotation_probability: Probability = 0.6
    shift: Annotated[float, Field(ge=0, le=1)] = 0.16
    """the centre moves by shift * draw of the padded box, on each axis"""
    shift_probability: Probability = 0.3
    colour: Annotated[float, Field(ge=0, le=1)] = 0.0
    """brightness, contrast and saturation are each multiplied by 1 + colour * draw, draw uniform in [-1, 1]; the
    published recipes use none"""


NO_AUGMENT = AugmentConfig(flip=0, half_body=0, scale=0, rotation=0, shift=0, colour=0)


@dataclass(frozen=True)
class Labels:
    """Which persons of a source a run sees, and which of those show it their labels."""

    persons: np.ndarray
    """(N,) positions in source.people"""
    shown: np.ndarray
    """(N,) bool: the labels may be read"""


class TopDownDataset(Dataset[PoseBatch]):
    """Crops of persons as batches. An item is asked for as (epoch, index): the same pair gives the same pixels."""

    def __init__(
        self,
        source: PoseSource,
        *,
        size: Size,
        labels: Labels | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        teacher_size: Size | None = None,
    ) -> None:
        self.source = source
        self.size = size
        self.augment = augment
        self.seed = seed
        self.teacher_size = None if teacher_size == size else teacher_size
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
        batch, count = len(wanted), len(self.source.skeleton)
        image = np.empty((batch, *self.size, 3), dtype=np.uint8)
        taught = None if self.teacher_size is None else np.empty((batch, *self.teacher_size, 3), dtype=np.uint8)
        keypoints = np.zeros((batch, count, 2), dtype=np.float32)
        weight = np.zeros((batch, count), dtype=np.float32)
        to_image = np.empty((batch, 2, 3), dtype=np.float32)
        for row, (epoch, index) in enumerate(wanted):
            person = self.person(index)
            if not self.labels.shown[index]:
                person = replace(person, keypoints=None)  # nothing below may look at labels that the run must not know
            pixels = self.source.image(person.image_id)
            rng = np.random.default_rng((self.seed, epoch, index))
            crop = crop_of_bbox(person.bbox, self.size)
            if self.augment is not None:
                crop = draw_crop(crop, person, self.size, self.augment, self.source.skeleton, rng)
            affine = affine_to_input(crop, self.size)
            image[row] = warp(pixels, affine, self.size)
            if taught is not None and self.teacher_size is not None:
                wider = replace(crop, extent=fit_aspect(crop.extent, self.teacher_size))
                taught[row] = warp(pixels, affine_to_input(wider, self.teacher_size), self.teacher_size)
            if self.augment is not None and self.augment.colour:
                change = draw_colour(self.augment.colour, rng)
                image[row] = change(image[row])
                if taught is not None:
                    taught[row] = change(taught[row])
            to_image[row] = invert_affine(affine)
            if person.keypoints is not None:
                labelled = person.keypoints
                if crop.mirrored:
                    labelled = labelled[list(self.source.skeleton.swap)]
                keypoints[row] = transform_points(labelled[:, :2], affine)
                weight[row] = labelled[:, 2] > 0
        return PoseBatch(
            image=torch.from_numpy(image).permute(0, 3, 1, 2).contiguous(),
            keypoints=torch.from_numpy(keypoints),
            weight=torch.from_numpy(weight),
            to_image=torch.from_numpy(to_image),
            index=torch.tensor([index for _, index in wanted]),
            teacher_image=None if taught is None else torch.from_numpy(taught).permute(0, 3, 1, 2).contiguous(),
        )


def warp(image: np.ndarray, affine: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, 3) uint8: the crop of `size` that a (2, 3) affine image px -> input px cuts out; black outside."""
    return cv2.warpAffine(image, affine, (size[1], size[0]), flags=cv2.INTER_LINEAR)


def draw_crop(
    crop: Crop, person: Person, size: Size, augment: AugmentConfig, skeleton: Skeleton, rng: np.random.Generator
) -> Crop:
    """An augmented crop: half body, shift, scale, rotation and mirror, in the published order of effect."""
    mirrored = bool(rng.random() < augment.flip)
    if rng.random() < augment.half_body:
        crop = _half_body(crop, person, size, augment, skeleton, rng)
    centre, extent, rotation = crop.centre, crop.extent, 0.0
    if rng.random() < augment.shift_probability:
        centre = centre + augment.shift * _truncated_normal(rng, 2) * extent
    extent = extent * (1 + augment.scale * _truncated_normal(rng, 1)[0])
    if rng.random() < augment.rotation_probability:
        rotation = float(augment.rotation * _truncated_normal(rng, 1)[0])
    return Crop(centre=centre, extent=extent, rotation=rotation, mirrored=mirrored)


def draw_colour(strength: float, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """A function that changes the brightness, contrast and saturation of an (H, W, 3) uint8 image."""
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, size=3)

    def change(image: np.ndarray) -> np.ndarray:
        values = image.astype(np.float32) * brightness
        grey = values @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        values = grey[..., None] + saturation * (values - grey[..., None])
        return np.clip(grey.mean() + contrast * (values - grey.mean()), 0, 255).astype(np.uint8)

    return change


def _truncated_normal(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) standard normal draws, drawn again until they lie in [-1, 1] (mmpose 1.x's rule)."""
    draws = rng.standard_normal(count)
    while (outside := np.abs(draws) > 1).any():
        draws[outside] = rng.standard_normal(int(outside.sum()))
    return draws


def _half_body(
    crop: Crop, person: Person, size: Size, augment: AugmentConfig, skeleton: Skeleton, rng: np.random.Generator
) -> Crop:
    """The crop of the upper or lower labelled keypoints; the crop itself where too few are labelled."""
    if person.keypoints is None or not skeleton.upper:
        return crop
    labelled = person.keypoints[:, 2] > 0  # (K,)
    if labelled.sum() <= augment.half_body_above:
        return crop
    upper = np.array([index for index in skeleton.upper if labelled[index]], dtype=int)
    lower = np.array([index for index in skeleton.lower if labelled[index]], dtype=int)
    chosen = upper if rng.random() < augment.half_body_upper else lower
    if len(upper) < 2:
        chosen = lower
    elif len(lower) < 3:
        chosen = upper
    if len(chosen) < 2:
        return crop
    points = person.keypoints[chosen, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    extent = fit_aspect(np.maximum(high - low, 1.0), size) * augment.half_body_padding
    return Crop(centre=points.mean(axis=0), extent=extent)
