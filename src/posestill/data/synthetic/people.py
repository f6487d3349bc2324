"""Synthetic people: articulated, shaded, occluded figures with 17 or 133 keypoints, a pure function of (seed, index).

Nothing here is a photograph. They let a machine without data show what distillation does, and tests train something.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from itertools import pairwise
from multiprocessing import get_context
from typing import Literal

import cv2
import numpy as np

from posestill.data.source import SourceConfig
from posestill.data.synthetic.figure import ALL_POSES, NUM_DRAWS, PARTS, Figures, Profile, pose_people
from posestill.data.synthetic.parts import FINGERS, NUM_HAND_DRAWS
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

_SKIN = np.array([(236, 188, 160), (224, 172, 140), (198, 140, 104), (160, 106, 74), (118, 78, 56), (92, 60, 44)])
_HAIR = np.array([(40, 30, 26), (74, 50, 34), (120, 84, 50), (172, 140, 92), (110, 108, 106), (28, 28, 32)])
_FRACTION_BITS = 3
"""OpenCV draws at 1/8 px"""
_BODY, _PICTURE, _NOISE, _HANDS = 1, 2, 3, 4
"""streams of draws: what changes in one does not shift another"""


class SyntheticConfig(SourceConfig):
    """Synthetic people, one labelled person an image."""

    people: int = 4000
    profile: Literal["easy", "medium", "hard"] = "easy"
    size: Size = (128, 96)
    """(height, width) of an image, px"""
    seed: int = 0
    keypoints: Literal[17, 133] = 17
    """COCO's body, or COCO-WholeBody: the same people, with feet, a face and fingers"""
    label_noise: float = 0.0
    """standard deviation of the labels' error, as a share of the square root of the bbox's area"""
    cached: bool = True
    """keep each rendered image in memory"""

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

    def render_all(self, workers: int = 1, progress: Callable[[int], None] | None = None) -> None:
        """Fill the cache in advance, with several processes if wanted; `progress` is told of each finished chunk."""
        chunks = [range(at, min(at + 250, self.config.people)) for at in range(0, self.config.people, 250)]
        if workers <= 1:
            rendered: Iterator[list[np.ndarray]] = (_render_some(self.config, chunk) for chunk in chunks)
            for chunk, images in zip(chunks, rendered, strict=True):
                self._keep(chunk, images, progress)
            return
        # 'spawn' starts clean: a fork of a process that runs torch's threads may hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for chunk, images in zip(chunks, pool.map(_render_some, [self.config] * len(chunks), chunks), strict=True):
                self._keep(chunk, images, progress)

    def _keep(self, chunk: range, images: list[np.ndarray], progress: Callable[[int], None] | None) -> None:
        self._images.update(zip(chunk, images, strict=True))
        if progress is not None:
            progress(len(images))

    def _draws(self, stream: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.config.seed, stream, index))

    def _person(self, index: int) -> Person:
        figures, (height, width) = self.figures, self.config.size
        bbox = _clipped(figures.bbox[index], self.config.size)
        places = figures.keypoints[index]
        hidden = figures.hidden[index].copy()
        for occluder in self._occluders(index):
            hidden |= _inside(places, occluder)
        if self.config.label_noise:
            spread = self.config.label_noise * np.sqrt(bbox[2] * bbox[3])
            places = places + spread * self._draws(_NOISE, index).standard_normal(places.shape)
        visibility = np.where(hidden, 1.0, 2.0)
        outside = (places < 0).any(axis=1) | (places > [width - 1, height - 1]).any(axis=1)
        keypoints = np.concatenate([places, visibility[:, None]], axis=1)  # (K, 3)
        keypoints[outside] = 0
        area = _silhouette(figures, index)
        if self.config.keypoints == 133:  # fingers reach beyond the body that the 17 keypoints are boxed by
            bbox = _clipped(_around(figures.bbox[index], figures.keypoints[index]), self.config.size)
        return Person(id=index, image_id=index, bbox=bbox, keypoints=keypoints, area=min(area, 0.9 * bbox[2] * bbox[3]))

    def _occluders(self, index: int) -> list[np.ndarray]:
        """Convex polygons (M, 2) image px that stand in front of the person."""
        rng = self._draws(_PICTURE, index)
        if rng.random() >= self.profile.occluders:
            return []
        x, y, wide, high = self.figures.bbox[index]
        centre = np.array([x, y]) + rng.uniform(0.05, 0.95, size=2) * [wide, high]
        reach = rng.uniform(0.1, 0.24) * high
        angles = np.sort(rng.uniform(0, 2 * np.pi, size=7))
        return [
            cv2.convexHull((centre + reach * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(np.float32))[:, 0]
        ]

    def _render(self, index: int, *, with_person: bool = True) -> np.ndarray:
        rng = np.random.default_rng((self.config.seed, _PICTURE, index, 1))
        image = _background(rng, self.config.size, self.profile.clutter)
        light = rng.uniform(-1, 1)
        if rng.random() < self.profile.distractor:
            other = int(rng.integers(self.config.people))
            shift = rng.choice([-1, 1]) * rng.uniform(0.35, 0.6) * self.config.size[1]
            _draw_figure(image, self.figures, other, rng, light=light, shift=shift)
        if with_person:
            _draw_figure(image, self.figures, index, rng, light=light)
        for occluder in self._occluders(index):
            _fill(image, occluder, _muted(rng, 30, 220))
        return _develop(image, rng, self.profile.noise)


def _clipped(bbox: np.ndarray, size: Size) -> np.ndarray:
    """(4,) the part of a bbox that lies in the image."""
    (height, width), (x, y, wide, high) = size, bbox
    low, far = np.array([max(x, 0), max(y, 0)]), np.array([min(x + wide, width), min(y + high, height)])
    return np.concatenate([low, far - low])


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


def _render_some(config: SyntheticConfig, indices: range) -> list[np.ndarray]:
    source = SyntheticSource(config)
    return [source._render(index) for index in indices]


def _background(rng: np.random.Generator, size: Size, clutter: int) -> np.ndarray:
    """(H, W, 3) uint8: soft patches of light, and shapes."""
    height, width = size
    tone = _muted(rng, 50, 200)
    patches = tone + rng.normal(0, 26, size=(5, 4, 1)) + rng.normal(0, 9, size=(5, 4, 3))
    patches = np.clip(patches, 0, 255).astype(np.uint8)
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(clutter + 1)):
        centre, reach = rng.uniform(0, 1, size=2) * [width, height], rng.uniform(0.05, 0.3) * height
        colour = _muted(rng, 20, 230)
        kind = rng.random()
        if kind < 0.45:
            corners = centre + rng.uniform(-reach, reach, size=(4, 2))
            _fill(image, cv2.convexHull(corners.astype(np.float32))[:, 0], colour)
        elif kind < 0.75:
            _disc(image, centre, 0.5 * reach, colour)
        else:  # a limb-like bar
            other = centre + rng.uniform(-2, 2, size=2) * reach
            _capsule(image, centre, other, rng.uniform(1, 4), rng.uniform(1, 4), colour)
    return image


def _draw_figure(
    image: np.ndarray, figures: Figures, index: int, rng: np.random.Generator, *, light: float, shift: float = 0.0
) -> None:
    """Paint one body, the farthest part first; `light` in [-1, 1] comes from the left to the right."""
    skin, hair = _SKIN[rng.integers(len(_SKIN))], _HAIR[rng.integers(len(_HAIR))]
    shirt, trousers, shoes = _muted(rng, 40, 235, 36), _muted(rng, 25, 170, 24), _muted(rng, 20, 230, 24)
    long_sleeves, long_trousers = rng.random() < 0.5, rng.random() < 0.7
    colours = {
        "torso": shirt, "neck": skin, "upper_arm": shirt, "forearm": shirt if long_sleeves else skin, "thigh": trousers,
        "shank": trousers if long_trousers else skin, "foot": shoes,
    }  # fmt: skip
    ends, radii, depth = figures.ends[index] + [shift, 0], figures.radii[index], figures.depth[index]
    middle, spread = depth.mean(), depth.std() + 0.1
    for part in np.argsort(-depth):
        name = PARTS[part]
        shade = 1.0 - 0.1 * float(np.clip((depth[part] - middle) / spread, -1.5, 1.5))
        if name == "head":
            _draw_head(image, figures, index, skin * shade, hair * shade, shift)
            continue
        colour = colours[name.removesuffix("_l").removesuffix("_r")] * shade
        if name == "torso":
            hull = figures.hull[index] + [shift, 0]
            grown = hull + np.sign(hull - hull.mean(axis=0)) * radii[part].mean() * 0.25
            _fill(image, cv2.convexHull(grown.astype(np.float32))[:, 0], colour)
            continue
        start, end = ends[part]
        first, last = radii[part]
        further = figures.keypoints[index, 17:] + [shift, 0]
        if len(further) and name.startswith("foot"):
            sole = further[0:3] if name.endswith("_l") else further[3:6]
            _fill(image, cv2.convexHull(sole.astype(np.float32))[:, 0], colour)
        _capsule(image, start, end, first, last, colour)
        aside = np.array([0.35 * light, -0.3]) * first  # the lit side
        lit = np.clip(colour * 1.18 + 8, 0, 255)
        _capsule(image, start + aside, end + aside, 0.5 * first, 0.5 * last, lit)
        if name.startswith("forearm"):
            _disc(image, end, 1.25 * last, skin * shade)
            if len(further):
                hand = further[74:95] if name.endswith("_l") else further[95:116]
                _draw_fingers(image, hand, 0.27 * last, skin * shade)


def _draw_fingers(image: np.ndarray, hand: np.ndarray, radius: float, skin: np.ndarray) -> None:
    """Five thin lines; `hand` is (21, 2) image px, `radius` px."""
    for finger, joints in enumerate(FINGERS):
        tone = skin * (0.84 if finger % 2 else 1.0)  # neighbours stay apart
        for start, end in pairwise((0, *joints)):
            _capsule(image, hand[start], hand[end], max(radius, 0.4), max(radius, 0.4), tone)


def _draw_face(
    image: np.ndarray, face: np.ndarray, seen: np.ndarray, radius: float, skin: np.ndarray, hair: np.ndarray
) -> None:
    """Eyebrows and a mouth, as far as they are `seen` (68,); `face` is (68, 2) image px, `radius` px the head's."""
    thin = max(0.045 * radius, 0.35)
    for first, last in ((17, 22), (22, 27)):
        for start, end in pairwise(face[first:last][seen[first:last]]):
            _capsule(image, start, end, thin, thin, hair * 0.8)
    if len(lips := face[48:60][seen[48:60]]) > 2:
        _fill(image, cv2.convexHull(lips.astype(np.float32))[:, 0], skin * np.array([0.8, 0.5, 0.5]))


def _draw_head(
    image: np.ndarray, figures: Figures, index: int, skin: np.ndarray, hair: np.ndarray, shift: float
) -> None:
    """The head: hair behind, face in front, with eyes, nose and ears where the face is seen."""
    part = PARTS.index("head")
    (crown, chin), radius = figures.ends[index, part] + [shift, 0], float(figures.radii[index, part].mean())
    nose, eye_l, eye_r, ear_l, ear_r = figures.keypoints[index, :5] + [shift, 0]
    centre, facing = (crown + chin) / 2, float(figures.facing[index])
    turned = nose - centre
    for ear in (ear_l, ear_r):
        if np.linalg.norm(ear - centre) > 0.55 * radius:
            _disc(image, ear, 0.28 * radius, skin * 0.9)
    _capsule(image, crown, chin, radius, 0.85 * radius, skin)
    backwards = -0.35 * turned + 0.45 * (crown - centre)
    if facing < -0.1:  # seen from behind: hair all over
        _capsule(image, crown, centre, radius, 0.95 * radius, hair)
        return
    _disc(image, centre + backwards * (1.1 if facing > 0.5 else 1.4), 0.88 * radius, hair)
    _disc(image, centre + 0.35 * turned + 0.28 * (chin - centre), 0.78 * radius, skin)
    hidden = figures.hidden[index]
    if len(hidden) == 133:
        _draw_face(image, figures.keypoints[index, 23:91] + [shift, 0], ~hidden[23:91], radius, skin, hair)
    for eye, covered in ((eye_l, hidden[1]), (eye_r, hidden[2])):
        if not covered:
            _disc(image, eye, max(0.11 * radius, 0.5), np.array([30.0, 26.0, 26.0]))
    if not hidden[0]:
        _disc(image, nose, max(0.14 * radius, 0.5), skin * 0.72)


def _develop(image: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """What a camera adds: exposure, softness and grain."""
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))
    gain, lift = rng.uniform(0.8, 1.15), rng.uniform(-15, 15)
    grain = rng.standard_normal((image.shape[0], image.shape[1]), dtype=np.float32) * noise
    return np.clip(image * np.float32(gain) + np.float32(lift) + grain[..., None], 0, 255).astype(np.uint8)


def _muted(rng: np.random.Generator, low: float, high: float, chroma: float = 20.0) -> np.ndarray:
    """(3,) a colour as clothes and walls have it: a grey level and a little colour."""
    return np.clip(rng.uniform(low, high) + rng.normal(0, chroma, size=3), 0, 255)


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    return np.array([cv2.pointPolygonTest(polygon, (float(x), float(y)), False) > 0 for x, y in points])


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * (1 << _FRACTION_BITS)).astype(np.int32)


def _colour(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue


def _fill(image: np.ndarray, polygon: np.ndarray, colour: np.ndarray) -> None:
    cv2.fillConvexPoly(image, _fixed(polygon), _colour(colour), cv2.LINE_AA, _FRACTION_BITS)


def _disc(image: np.ndarray, centre: np.ndarray, radius: float, colour: np.ndarray) -> None:
    place, reach = _fixed(centre), round(radius * (1 << _FRACTION_BITS))
    cv2.circle(image, (int(place[0]), int(place[1])), max(reach, 1), _colour(colour), -1, cv2.LINE_AA, _FRACTION_BITS)


def _capsule(
    image: np.ndarray, start: np.ndarray, end: np.ndarray, first: float, last: float, colour: np.ndarray
) -> None:
    """A limb from `start` to `end` whose radius goes from `first` to `last` px."""
    along = end - start
    across = np.array([-along[1], along[0]]) / (np.hypot(along[0], along[1]) + 1e-6)
    corners = np.stack([start + first * across, end + last * across, end - last * across, start - first * across])
    _fill(image, corners, colour)
    _disc(image, start, first, colour)
    _disc(image, end, last, colour)
