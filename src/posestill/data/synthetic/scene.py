"""Puts several synthetic people into one picture, each with the labels that those in front of it leave to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from posestill.data.synthetic.drawing import background, develop, draw_figure, fill, muted_colour, obstacle
from posestill.data.synthetic.figure import NUM_DRAWS, Figures, Profile, pose_people
from posestill.data.synthetic.people import clip_bbox, label_keypoints
from posestill.types import Person, Size

_CELL = (240, 180)
"""(height, width) px of the frame that the nearest possible person is posed in"""
_NEARNESS = {1: (0.75, 1.0), 2: (0.6, 1.0), 3: (0.5, 0.9), 4: (0.45, 0.8)}
"""number of people -> their sizes, least and largest, as a share of the nearest possible person's"""
_CROWD_PEOPLE, _CROWD_NEARNESS, _CROWD_WIDTH = 7, 0.22, 0.45
"""a crowd in the distance: how many people, how large, and what share of the picture's width they take"""
_SEEN_AT_LEAST = 0.5
"""nobody stands where those in front would leave a smaller share to be seen"""
_UNLABELLED = 0.15
"""probability that one of several people has no keypoints"""
_OBSTACLE = 0.25
"""probability that something stands in front of somebody"""
_BARE = (255, 0, 255)
"""RGB that nobody wears: what has another colour after a body was painted is covered by it"""


@dataclass(frozen=True)
class Scene:
    """A scene is a picture and the people that are annotated in it."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB"""
    people: tuple[Person, ...]
    """the farthest first, their ids counted from 0; a crowd is one of them, without keypoints"""


def compose_scene(
    rng: np.random.Generator, profile: Profile, size: Size, *, people: int, with_crowd: bool = False, image_id: int = 0
) -> Scene:
    """Compose a picture of `size` (height, width) with 1 to 4 `people`, in front of a crowd where one is asked for.

    There are fewer people where the nearer ones would hide more than half of another.
    """
    light = rng.uniform(-1, 1)
    image = background(rng, size, profile.clutter)
    bodies = _stand(rng, profile, size, count=people, nearness=_NEARNESS[people])
    unlabelled = (rng.random(people) < _UNLABELLED) & (people > 1)
    thing = obstacle(rng, bodies[0].bbox) if rng.random() < _OBSTACLE else None

    front = np.zeros(size, dtype=bool)  # what those nearer to the camera cover
    if thing is not None:
        canvas = _bare_canvas(size)
        fill(canvas, thing, np.zeros(3))
        front |= _is_painted(canvas)
    shown: list[_Body] = []
    found: list[Person] = []
    for body, without_labels in zip(reversed(bodies), unlabelled, strict=True):
        cover = body.cover(size)
        seen = cover & ~front
        if seen.sum() >= _SEEN_AT_LEAST * cover.sum():
            shown.append(body)
            keypoints = None if without_labels else body.labels(front)
            bbox, area = clip_bbox(body.bbox, size), float(seen.sum())
            found.append(Person(id=0, image_id=image_id, bbox=bbox, keypoints=keypoints, area=area))
            front |= cover
    if with_crowd:
        crowd = _stand(rng, profile, size, count=_CROWD_PEOPLE, nearness=(_CROWD_NEARNESS,) * 2, across=_CROWD_WIDTH)
        cover = np.any([body.cover(size) for body in crowd], axis=0)
        shown += reversed(crowd)
        area = float((cover & ~front).sum())
        bbox = clip_bbox(_around([body.bbox for body in crowd]), size)
        found.append(Person(id=0, image_id=image_id, bbox=bbox, keypoints=None, area=area, crowd=True))

    for body in reversed(shown):
        body.paint(image, light)
    if thing is not None:
        fill(image, thing, muted_colour(rng, 30, 220))
    numbered = tuple(replace(person, id=index) for index, person in enumerate(reversed(found)))
    return Scene(develop(image, rng, profile.noise), numbered)


@dataclass(frozen=True)
class _Body:
    """One person at its place in the picture."""

    figures: Figures
    """of all who stand there"""
    index: int
    """which of them"""
    clothes: int
    """seed of its colours"""

    @property
    def bbox(self) -> np.ndarray:
        """(4,) x y w h image px, which may leave the picture."""
        return np.asarray(self.figures.bbox[self.index])

    def paint(self, image: np.ndarray, light: float) -> None:
        draw_figure(image, self.figures, self.index, np.random.default_rng(self.clothes), light=light)

    def cover(self, size: Size) -> np.ndarray:
        """(H, W) bool: where the body is painted."""
        canvas = _bare_canvas(size)
        self.paint(canvas, 0.0)
        return _is_painted(canvas)

    def labels(self, front: np.ndarray) -> np.ndarray:
        """(K, 3) x y v: hidden behind its own parts or behind what `front` (H, W) covers, 0 outside the picture."""
        labels = label_keypoints(self.figures.keypoints[self.index], self.figures.hidden[self.index], front.shape)
        column, row = labels[:, :2].round().astype(int).T
        labels[:, 2] -= front[row, column] & (labels[:, 2] == 2)
        return labels


def _stand(
    rng: np.random.Generator, profile: Profile, size: Size, *, count: int, nearness: tuple[float, float],
    across: float = 1.0,
) -> list[_Body]:  # fmt: skip
    """People side by side on the ground over a share of the picture's width, the farthest and smallest first."""
    figures = pose_people(rng.random((count, NUM_DRAWS)), profile, _CELL)
    height, width = size
    scale = np.sort(rng.uniform(*nearness, size=count))
    middle = rng.uniform(across / 2, 1 - across / 2)
    place = (rng.permutation(count) + rng.uniform(0.2, 0.8, size=count)) / count - 0.5  # (N,) from side to side
    foot = np.stack(
        [width * (middle + across * place), height * (0.6 + 0.4 * scale + rng.uniform(-0.03, 0.03, size=count))],
        axis=-1,
    )  # (N, 2) the middle of the bbox's lower edge, image px
    stood = figures.bbox[:, :2] + figures.bbox[:, 2:] * [0.5, 1.0]  # (N, 2) the same in the frame of its pose
    moved = figures.moved(scale, foot - scale[:, None] * stood)
    return [_Body(moved, index, int(clothes)) for index, clothes in enumerate(rng.integers(2**32, size=count))]


def _around(boxes: list[np.ndarray]) -> np.ndarray:
    """(4,) the bbox that holds all of some bboxes."""
    corners = np.array(boxes)  # (N, 4)
    low, far = corners[:, :2].min(axis=0), (corners[:, :2] + corners[:, 2:]).max(axis=0)
    return np.concatenate([low, far - low])


def _bare_canvas(size: Size) -> np.ndarray:
    return np.full((*size, 3), _BARE, dtype=np.uint8)


def _is_painted(canvas: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(canvas != _BARE, -1, 0)
    return np.asarray(red | green | blue)
