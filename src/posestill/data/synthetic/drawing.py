"""Paints synthetic people: a background, bodies part by part, and what a camera adds."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from posestill.data.synthetic.figure import PARTS, Figures
from posestill.data.synthetic.parts import FINGERS
from posestill.types import Size

_SKIN = np.array([(236, 188, 160), (224, 172, 140), (198, 140, 104), (160, 106, 74), (118, 78, 56), (92, 60, 44)])
_HAIR = np.array([(40, 30, 26), (74, 50, 34), (120, 84, 50), (172, 140, 92), (110, 108, 106), (28, 28, 32)])
_FRACTION_BITS = 3
"""OpenCV draws at 1/8 px"""


def background(rng: np.random.Generator, size: Size, clutter: int) -> np.ndarray:
    """Draw an empty scene, (H, W, 3) uint8 RGB, of soft patches of light and at most `clutter` shapes."""
    height, width = size
    tone = muted_colour(rng, 50, 200)
    patches = tone + rng.normal(0, 26, size=(5, 4, 1)) + rng.normal(0, 9, size=(5, 4, 3))
    patches = np.clip(patches, 0, 255).astype(np.uint8)
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(clutter + 1)):
        centre, reach = rng.uniform(0, 1, size=2) * [width, height], rng.uniform(0.05, 0.3) * height
        colour = muted_colour(rng, 20, 230)
        kind = rng.random()
        if kind < 0.45:
            corners = centre + rng.uniform(-reach, reach, size=(4, 2))
            fill(image, cv2.convexHull(corners.astype(np.float32))[:, 0], colour)
        elif kind < 0.75:
            _disc(image, centre, 0.5 * reach, colour)
        else:  # a limb-like bar
            other = centre + rng.uniform(-2, 2, size=2) * reach
            _capsule(image, centre, other, rng.uniform(1, 4), rng.uniform(1, 4), colour)
    return image


def draw_figure(
    image: np.ndarray, figures: Figures, index: int, rng: np.random.Generator, *, light: float, shift: float = 0.0
) -> None:
    """Paint one body onto an image, the farthest part first.

    `light` says from where it is lit, from -1 (the left) to 1 (the right); `shift` moves the body to the right, px.
    """
    skin, hair = _SKIN[rng.integers(len(_SKIN))], _HAIR[rng.integers(len(_HAIR))]
    shirt, trousers = muted_colour(rng, 40, 235, 36), muted_colour(rng, 25, 170, 24)
    shoes = muted_colour(rng, 20, 230, 24)
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
            fill(image, cv2.convexHull(grown.astype(np.float32))[:, 0], colour)
            continue
        start, end = ends[part]
        first, last = radii[part]
        further = figures.keypoints[index, 17:] + [shift, 0]
        if len(further) and name.startswith("foot"):
            sole = further[0:3] if name.endswith("_l") else further[3:6]
            fill(image, cv2.convexHull(sole.astype(np.float32))[:, 0], colour)
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
        fill(image, cv2.convexHull(lips.astype(np.float32))[:, 0], skin * np.array([0.8, 0.5, 0.5]))


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


def develop(image: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Give the image as a camera takes it, with an exposure, softness and a grain of `noise` grey levels."""
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))
    gain, lift = rng.uniform(0.8, 1.15), rng.uniform(-15, 15)
    grain = rng.standard_normal((image.shape[0], image.shape[1]), dtype=np.float32) * noise
    return np.clip(image * np.float32(gain) + np.float32(lift) + grain[..., None], 0, 255).astype(np.uint8)


def muted_colour(rng: np.random.Generator, low: float, high: float, chroma: float = 20.0) -> np.ndarray:
    """Draw a colour (3,) as clothes and walls have it: a grey level from `low` to `high` and a little `chroma`."""
    return np.clip(rng.uniform(low, high) + rng.normal(0, chroma, size=3), 0, 255)


def obstacle(rng: np.random.Generator, bbox: np.ndarray) -> np.ndarray:
    """Draw a convex polygon (M, 2) image px that covers some part of the person in a bbox (4,) x y w h, image px."""
    x, y, wide, high = bbox
    centre = np.array([x, y]) + rng.uniform(0.05, 0.95, size=2) * [wide, high]
    reach = rng.uniform(0.1, 0.24) * high
    angles = np.sort(rng.uniform(0, 2 * np.pi, size=7))
    corners = centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return np.asarray(cv2.convexHull(corners.astype(np.float32))[:, 0])


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * (1 << _FRACTION_BITS)).astype(np.int32)


def _colour(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue


def fill(image: np.ndarray, polygon: np.ndarray, colour: np.ndarray) -> None:
    """Paint a convex polygon (M, 2) image px in a colour (3,) RGB."""
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
    fill(image, corners, colour)
    _disc(image, start, first, colour)
    _disc(image, end, last, colour)
