"""What is drawn for each crop: flip, half body, shift, scale, rotation and colour, for a whole batch at once.

Published parameters: Simple Baselines (ECCV 2018) and mmpose 1.x's body recipes. Every draw is a function of (seed,
epoch, index) alone, so that no worker, process or resume changes it, and crops cut from files and crops cut from
memory show the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from pydantic import Field, PositiveFloat

from posestill.geometry import PADDING, Crop, Framing, fit_aspect
from posestill.schema import Config
from posestill.skeletons import Skeleton
from posestill.types import Size

Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Config):
    """These settings say what is drawn at random for each crop. Each part is switched off by 0."""

    flip: Probability = 0.5
    """The probability that a crop is mirrored."""
    half_body: Probability = 0.3
    """The probability that a crop shows only the upper or the lower half of a person of whom more than
    `half_body_above` keypoints are labelled. The higher it is, the more cut-off persons the model sees."""
    half_body_above: int = 8
    """The number of labelled keypoints that a person must exceed to be shown by halves. A higher number spares more
    persons."""
    half_body_upper: Probability = 0.7
    """The probability that the half which is shown is the upper one, where both have enough labelled keypoints."""
    half_body_padding: PositiveFloat = 1.5
    """How much larger the crop of a half is than the box around its keypoints. A larger padding shows more around
    them."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """How much crops vary in size: a crop's extent is multiplied by 1 + scale * draw (see `draws`). At 0.5 that is 0.5
    to 1.5."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 80.0
    """How far crops are turned, in degrees: by rotation * draw (see `draws`)."""
    rotation_probability: Probability = 0.6
    """The probability that a crop is turned at all."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.16
    """How far a crop's centre moves on each axis: by shift * draw (see `draws`), as a share of the crop's own
    extent."""
    shift_probability: Probability = 0.3
    """The probability that a crop is shifted at all."""
    draws: Literal["truncated", "clipped"] = "truncated"
    """How shift, scale and rotation are drawn. `truncated`: from a normal distribution kept to [-1, 1] (mmpose 1.x).
    `clipped`: from a normal distribution with the tails cut to -1 and 1 (for rotation -2 and 2), the shift uniformly
    (mmpose 0.x, the release of DistilPose)."""
    colour: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much colours vary: brightness, contrast and saturation are each multiplied by 1 + colour * draw, with draw
    uniform in [-1, 1]. The published recipes have 0, which leaves colours as they are."""


NO_AUGMENT = AugmentConfig(flip=0, half_body=0, scale=0, rotation=0, shift=0, colour=0)

GREY = np.array([0.299, 0.587, 0.114])
"""How much red, green and blue make a grey (ITU-R BT.601)."""

_FLIP, _HALF, _UPPER, _SHIFTED, _SHIFT, _SCALE, _TURNED, _TURN, _COLOUR, COUNT = 0, 1, 2, 3, slice(4, 6), 6, 7, 8, 9, 12
"""Which column of the uniform draws decides what."""


def uniform_draws(seed: int, epoch: np.ndarray, index: np.ndarray, *, count: int = COUNT) -> np.ndarray:
    """(B, count) uniform draws in [0, 1) for epoch (B,) and index (B,): splitmix64 (OOPSLA 2014) as a hash of each."""
    key = _mixed(np.full(len(index), seed, dtype=np.uint64))
    key = _mixed(key + epoch.astype(np.uint64))
    key = _mixed(key + index.astype(np.uint64))
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return (_mixed(key[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def draw_crops(
    crop: Crop, keypoints: np.ndarray, draws: np.ndarray, *, size: Size, augment: AugmentConfig, skeleton: Skeleton
) -> Crop:
    """Augmented crops: half body, shift, scale, rotation and mirror, in the published order of effect.

    `crop` holds B upright crops, `keypoints` (B, K, 3) their labels in image px (v = 0 where there are none), `draws`
    (B, COUNT) uniform numbers.
    """
    if augment.half_body and skeleton.upper:
        half, there = _half_body(keypoints, draws[:, _UPPER], size=size, augment=augment, skeleton=skeleton)
        there &= draws[:, _HALF] < augment.half_body
        crop = replace(
            crop,
            centre=np.where(there[:, None], half.centre, crop.centre),
            extent=np.where(there[:, None], half.extent, crop.extent),
        )
    shifted = draws[:, _SHIFTED] < augment.shift_probability
    shift = augment.shift * _spread(draws[:, _SHIFT], augment, "uniform") * shifted[:, None]
    turned = draws[:, _TURNED] < augment.rotation_probability
    return Crop(
        centre=crop.centre + shift * crop.extent,
        extent=crop.extent * (1 + augment.scale * _spread(draws[:, _SCALE], augment, 1))[:, None],
        rotation=augment.rotation * _spread(draws[:, _TURN], augment, 2) * turned,
        mirrored=draws[:, _FLIP] < augment.flip,
    )


@dataclass(frozen=True)
class Reach:
    """The part of the image that any draw may show of each of N persons, image px."""

    low: np.ndarray
    """(N, 2) least x y"""
    high: np.ndarray
    """(N, 2) greatest x y"""

    def joined(self, other: Reach) -> Reach:
        """What shows at least as much as both."""
        return Reach(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def shrunk(self, share: float) -> Reach:
        """That share of each side, around the same middle."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return Reach(middle - share * half, middle + share * half)


def reach_of(
    crop: Crop, keypoints: np.ndarray, *, size: Size, augment: AugmentConfig | None, skeleton: Skeleton, shown: Framing
) -> Reach:
    """How far the draws of N upright crops for inputs of `size` reach, where each is `shown` by that framing.

    `keypoints` (N, K, 3) are the labels in image px by which half bodies are cut out.
    """
    reach = _reach_around(crop, augment, shown)
    if augment is None or not augment.half_body or not skeleton.upper:
        return reach
    for wants_upper in (0.0, 1.0):
        draw = np.full(len(keypoints), wants_upper)
        half, there = _half_body(keypoints, draw, size=size, augment=augment, skeleton=skeleton)
        around = reach.joined(_reach_around(half, augment, shown))
        reach = Reach(
            np.where(there[:, None], around.low, reach.low), np.where(there[:, None], around.high, reach.high)
        )
    return reach


def _reach_around(crop: Crop, augment: AugmentConfig | None, shown: Framing) -> Reach:
    wide = fit_aspect(crop.extent, shown.size) * (shown.padding / PADDING)  # (N, 2)
    if augment is None:
        return Reach(crop.centre - wide / 2, crop.centre + wide / 2)
    half = np.hypot(wide[:, :1], wide[:, 1:]) / 2 if augment.rotation else wide / 2
    half = half * (1 + augment.scale) + augment.shift * crop.extent
    return Reach(crop.centre - half, crop.centre + half)


@dataclass(frozen=True)
class Colours:
    """Changes of B images' brightness, contrast and saturation: each a matrix, and a pull towards the mean grey."""

    matrix: np.ndarray
    """(B, 3, 3) RGB -> RGB"""
    pull: np.ndarray
    """(B,) how much of the image's mean grey is added to every channel"""


def draw_colours(draws: np.ndarray, strength: float) -> Colours:
    """Brightness, contrast and saturation each multiplied by 1 + strength * (-1..1), from draws (B, COUNT).

    All three are linear in a pixel's colour: v -> brightness v; v -> grey + saturation (v - grey), with the pixel's own
    grey; v -> mean + contrast (v - mean), with the image's mean grey.
    """
    brightness, contrast, saturation = (1 + strength * (2 * draws[:, _COLOUR:] - 1)).T[..., None, None]  # (B, 1, 1)
    own = np.broadcast_to(GREY, (3, 3))
    matrix = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * own)
    return Colours(matrix=matrix, pull=((1 - contrast) * brightness)[:, 0, 0])


def change_colour(image: np.ndarray, matrix: np.ndarray, pull: float) -> np.ndarray:
    """An (H, W, 3) uint8 image in changed colours."""
    affine = np.empty((3, 4))
    affine[:, :3] = matrix
    affine[:, 3] = pull * (GREY @ cv2.mean(image)[:3])
    return cv2.transform(image, affine)


def _spread(uniform: np.ndarray, augment: AugmentConfig, clip: float | Literal["uniform"]) -> np.ndarray:
    """What `augment.draws` makes of uniform draws; clipped draws end at `clip` standard deviations, or are uniform."""
    if augment.draws == "truncated":
        return truncated_normal(uniform)
    if clip == "uniform":
        return 2 * uniform - 1
    return torch.special.ndtri(torch.from_numpy(uniform)).clamp(-clip, clip).numpy()


def truncated_normal(uniform: np.ndarray) -> np.ndarray:
    """Standard normal draws kept to [-1, 1] (mmpose 1.x's rule), from uniform ones of the same shape."""
    low, high = 0.15865525393145707, 0.8413447460685429  # the normal distribution at -1 and 1
    return torch.special.ndtri(torch.from_numpy(low + (high - low) * uniform)).numpy()


def _half_body(
    keypoints: np.ndarray, draw: np.ndarray, *, size: Size, augment: AugmentConfig, skeleton: Skeleton
) -> tuple[Crop, np.ndarray]:
    """The crops of the upper or lower labelled keypoints, and (B,) where enough of them are labelled."""
    labelled = keypoints[..., 2] > 0  # (B, K)
    is_upper = np.isin(np.arange(len(skeleton)), skeleton.upper)  # (K,)
    upper, lower = labelled & is_upper, labelled & ~is_upper
    wants_upper = draw < augment.half_body_upper
    wants_upper = np.where(upper.sum(1) < 2, False, np.where(lower.sum(1) < 3, True, wants_upper))
    chosen = np.where(wants_upper[:, None], upper, lower)  # (B, K)
    there = (labelled.sum(1) > augment.half_body_above) & (chosen.sum(1) >= 2)
    points, inside = keypoints[..., :2], chosen[..., None]
    low = np.where(inside, points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(inside, points, -np.inf).max(axis=1, initial=-np.inf)
    spread = np.where(there[:, None], high - low, 1.0)
    extent = fit_aspect(np.maximum(spread, 1.0), size) * augment.half_body_padding
    centre = (points * inside).sum(1) / np.maximum(chosen.sum(1), 1)[:, None]
    return Crop(centre=centre, extent=extent), there


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
