"""Synthetic people: articulated, shaded, occluded figures with 17 or 133 keypoints, a pure function of (seed, index).

Nothing here is a photograph. They let a machine without data show what distillation does, and tests train something.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from posestill.data.source import SourceConfig
from posestill.data.synthetic.drawing import background, develop, draw_figure, fill, muted_colour, obstacle
from posestill.data.synthetic.figure import ALL_POSES, NUM_DRAWS, Figures, Profile, pose_people
from posestill.data.synthetic.parts import NUM_HAND_DRAWS
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from posestill.types import Person, Size

PROFILES = {
    "easy": Profile(
        yaw=40, roll=8, poses=("standing", "walking", "raised", "wide", "reaching", "waving"), looseness=0.9,
        fill=(0.74, 0.9), clutter=4, occluders=0.1, distractor=0.0, noise=4.0,
    ),
    "medium": Profile(
        yaw=80, roll=15, poses=(*ALL_POSES[:8],), looseness=1.2, fill=(0.66, 0.92), clutter=8, occluders=0.35,
        distractor=0.15, noise=7.0,
    ),
    "hard": Profile(
        yaw=180, roll=28, poses=ALL_POSES, looseness=1.5, fill=(0.6, 0.95), clutter=14, occluders=0.6, distractor=0.45,
        noise=10.0,
    ),
}  # fmt: skip

_BODY, _PICTURE, _NOISE, _HANDS = 1, 2, 3, 4
"""streams of draws: what changes in one does not shift another"""


class SyntheticConfig(SourceConfig):
    """Synthetic people are rendered, one labelled person an image."""

    people: int = 4000
    """The number of people, and of images. More people vary more and take longer to render."""
    profile: Literal["easy", "medium", "hard"] = "easy"
    """How hard the people are. From `easy` over `medium` to `hard` they turn and tilt more, take more kinds of poses,
    and have more clutter, occlusion and noise around them."""
    size: Size = (128, 96)
    """The (height, width) of an image in px. Larger images show more detail and take longer to render."""
    seed: int = 0
    """The seed of all people and images. Another seed gives other people."""
    keypoints: Literal[17, 133] = 17
    """Which keypoints are labelled. 17: COCO's. 133: COCO-WholeBody's, on the same people with feet, a face and
    fingers."""
    label_noise: float = 0.0
    """The standard deviation of an error that is added to the labels, as a share of the square root of the bbox's area.
    A larger one makes worse labels; at 0 they are exact."""
    cached: bool = True
    """True: each rendered image is kept in memory. False: an image is rendered whenever it is read, which takes
    longer."""

    def build(self) -> SyntheticSource:
        """The source; images are rendered when they are first asked for."""
        return SyntheticSource(self)


class SyntheticSource:
    """Person i stands in image i. Every image and label is a pure function of (seed, i)."""

    def __init__(self, config: SyntheticConfig) -> None:
        self.config = config
        self.skeleton = COCO_17 if config.keypoints == 17 else COCO_WHOLEBODY
        self.profile = PROFILES[config.profile]
        self._images: dict[int, np.ndarray] = {}

    @cached_property
    def figures(self) -> Figures:
        """All bodies at once."""
        draws = np.stack([self._draws(_BODY, index).random(NUM_DRAWS) for index in range(self.config.people)])
        hands = None
        if self.config.keypoints == 133:
            hands = np.stack([self._draws(_HANDS, each).random(NUM_HAND_DRAWS) for each in range(self.config.people)])
        return pose_people(draws, self.profile, self.config.size, hands)

    @cached_property
    def people(self) -> Sequence[Person]:
        """One labelled person an image; every keypoint inside the image is labelled."""
        return [self._person(index) for index in range(self.config.people)]

    @property
    def image_ids(self) -> Collection[int]:
        """One image a person."""
        return range(self.config.people)

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        if image_id in self._images:
            return self._images[image_id]
        image = self._render(image_id)
        if self.config.cached:
            self._images[image_id] = image
        return image

    def _draws(self, stream: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.config.seed, stream, index))

    def _person(self, index: int) -> Person:
        figures, size = self.figures, self.config.size
        bbox = clip_bbox(figures.bbox[index], size)
        places = figures.keypoints[index]
        hidden = figures.hidden[index].copy()
        for occluder in self._occluders(index):
            hidden |= _inside(places, occluder)
        if self.config.label_noise:
            spread = self.config.label_noise * np.sqrt(bbox[2] * bbox[3])
            places = places + spread * self._draws(_NOISE, index).standard_normal(places.shape)
        keypoints = label_keypoints(places, hidden, size)
        area = _silhouette(figures, index)
        if self.config.keypoints == 133:  # fingers reach beyond the body that the 17 keypoints are boxed by
            bbox = clip_bbox(_around(figures.bbox[index], figures.keypoints[index]), size)
        return Person(id=index, image_id=index, bbox=bbox, keypoints=keypoints, area=min(area, 0.9 * bbox[2] * bbox[3]))

    def _occluders(self, index: int) -> list[np.ndarray]:
        """Convex polygons (M, 2) image px that stand in front of the person."""
        rng = self._draws(_PICTURE, index)
        if rng.random() >= self.profile.occluders:
            return []
        return [obstacle(rng, self.figures.bbox[index])]

    def _render(self, index: int, *, with_person: bool = True) -> np.ndarray:
        rng = np.random.default_rng((self.config.seed, _PICTURE, index, 1))
        image = background(rng, self.config.size, self.profile.clutter)
        light = rng.uniform(-1, 1)
        if rng.random() < self.profile.distractor:
            other = int(rng.integers(self.config.people))
            shift = rng.choice([-1, 1]) * rng.uniform(0.35, 0.6) * self.config.size[1]
            draw_figure(image, self.figures, other, rng, light=light, shift=shift)
        if with_person:
            draw_figure(image, self.figures, index, rng, light=light)
        for occluder in self._occluders(index):
            fill(image, occluder, muted_colour(rng, 30, 220))
        return develop(image, rng, self.profile.noise)


def clip_bbox(bbox: np.ndarray, size: Size) -> np.ndarray:
    """Cut a bbox (4,) x y w h, image px, at the border of an image of `size` (height, width)."""
    (height, width), (x, y, wide, high) = size, bbox
    low, far = np.array([max(x, 0), max(y, 0)]), np.array([min(x + wide, width), min(y + high, height)])
    return np.concatenate([low, far - low])


def label_keypoints(places: np.ndarray, hidden: np.ndarray, size: Size) -> np.ndarray:
    """Label keypoints at `places` (K, 2), image px, as (K, 3) x y v; v is 1 if `hidden` (K,), 0 outside the image."""
    height, width = size
    labels = np.concatenate([places, np.where(hidden, 1.0, 2.0)[:, None]], axis=1)  # (K, 3)
    labels[(places < 0).any(axis=1) | (places > [width - 1, height - 1]).any(axis=1)] = 0
    return labels


def _around(bbox: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(4,) the bbox, grown to hold all of some places (J, 2)."""
    low, far = np.minimum(bbox[:2], places.min(axis=0)), np.maximum(bbox[:2] + bbox[2:], places.max(axis=0))
    return np.concatenate([low, far - low])


def _silhouette(figures: Figures, index: int) -> float:
    """About how many px a body covers, without drawing it: torso and capsules. Overlaps and outlines even out."""
    lengths = np.linalg.norm(figures.ends[index, :, 0] - figures.ends[index, :, 1], axis=-1)  # (P,)
    radii = figures.radii[index]  # (P, 2)
    capsules = lengths * radii.sum(axis=-1) + np.pi / 2 * (radii**2).sum(axis=-1)
    torso = max(cv2.contourArea(figures.hull[index].astype(np.float32)), float(capsules[0]))
    return float(1.25 * torso + 1.05 * capsules[1:].sum())


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    return np.array([cv2.pointPolygonTest(polygon, (float(x), float(y)), False) > 0 for x, y in points])
