"""The persons of a video from frame to frame: where they are looked for, which is which, and smoothed keypoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posestill.data.images import FoundBoxes
from posestill.predict.smooth import OneEuro, OneEuroConfig
from posestill.predict.tracks import Tracks, joined
from posestill.skeletons import Skeleton

Finder = Callable[[np.ndarray], FoundBoxes]
"""where people are in an (H, W, 3) uint8 RGB picture"""
Ask = Callable[[np.ndarray], np.ndarray]
"""(N, K, 3) the poses in boxes (N, 4) of a frame"""


@dataclass(frozen=True)
class Following:
    """How the persons of a video are followed from frame to frame."""

    track: bool = False
    """True: a person is looked for where its keypoints were in the frame before. False: in boxes found anew"""
    find_every: int = 30
    """frames after which a detector is asked again although nobody was lost, as somebody may have come"""
    smooth: OneEuroConfig | None = None
    """None: keypoints stay as they are"""

    @property
    def is_wanted(self) -> bool:
        """True where persons must be known again."""
        return self.track or self.smooth is not None


def whole_frame(image: np.ndarray) -> FoundBoxes:
    """The whole picture as one person."""
    return FoundBoxes(np.array([[0.0, 0.0, image.shape[1], image.shape[0]]]), np.ones(1))


class People:
    """The persons of one video."""

    def __init__(self, following: Following, skeleton: Skeleton, *, threshold: float) -> None:
        """Keypoints scored from `threshold` on are sure."""
        self.following = following
        self.tracks = Tracks(skeleton, threshold=threshold)
        self._filters: dict[int, OneEuro] = {}
        self._asked = 0
        """the frame in which the finder was asked last"""

    def follow(
        self, frame: int, *, ask: Ask, find: Callable[[], FoundBoxes], has_detector: bool
    ) -> tuple[FoundBoxes, np.ndarray]:
        """The boxes of the persons in a frame and their poses (N, K, 3).

        They are looked for where they were in the frame before. Where one of them is lost there, all are looked for
        anew (`find`), and those who are not lost stay even if a detector overlooks them.
        """
        found = self.tracks.following()
        is_due = has_detector and frame - self._asked >= self.following.find_every
        poses = None
        if len(found.boxes):
            poses = ask(found.boxes)
            sure = self.tracks.sure(poses)
            if not sure.all():
                found, poses = FoundBoxes(found.boxes[sure], found.score[sure]), None
        if poses is None or is_due:
            self._asked = frame
            if has_detector or not len(found.boxes):
                found = joined(find(), found)
            poses = ask(found.boxes)
        once = ~self.tracks.doubles(poses, found.boxes)
        return FoundBoxes(found.boxes[once], found.score[once]), poses[once]

    def known_again(self, poses: np.ndarray, boxes: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """The poses (N, K, 3) of a frame, smoothed where that is wanted, and the persons' numbers (N,)."""
        numbers = self.tracks.update(poses, boxes)
        poses = poses.copy()
        if self.following.smooth is not None:
            for row, number in enumerate(numbers.tolist()):
                smooth = self._filters.setdefault(number, OneEuro(self.following.smooth))
                poses[row, :, :2] = smooth(poses[row, :, :2], seconds, size=float(boxes[row, 2:].max()))
            kept = self.tracks.numbers
            self._filters = {number: each for number, each in self._filters.items() if number in kept}
        return poses, numbers
