"""Which person of a frame is which person of the frames before, and where it is looked for next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posestill.data.images import FoundBoxes
from posestill.geometry import bbox_of_joints
from posestill.metrics.nms import oks_nms
from posestill.skeletons import Skeleton

LEAST_SURE_KEYPOINTS = 0.25
"""the share of its keypoints that must be sure, or a person counts as lost"""
_LEAST_OVERLAP = 0.3
"""intersection over union of two boxes from which on they may be one person's"""
_REMEMBERED = 15
"""frames after which a person who was not seen has another number when it comes back"""


@dataclass
class _Track:
    number: int
    box: np.ndarray
    unseen: int = 0


class Tracks:
    """The persons of one video, numbered from 1."""

    def __init__(self, skeleton: Skeleton, *, threshold: float) -> None:
        """Keypoints scored from `threshold` on are sure."""
        self.skeleton, self.threshold = skeleton, threshold
        self._tracks: list[_Track] = []
        self._next = 1

    def sure(self, poses: np.ndarray) -> np.ndarray:
        """(N,) bool: of which poses (N, K, 3) enough keypoints are sure."""
        share: np.ndarray = (poses[..., 2] >= self.threshold).mean(axis=-1)
        return share >= LEAST_SURE_KEYPOINTS

    def following(self) -> FoundBoxes:
        """Where the persons of the last frame are looked for in the next one."""
        boxes = [each.box for each in self._tracks if each.unseen == 0]
        return FoundBoxes(np.array(boxes).reshape(-1, 4), np.ones(len(boxes)))

    def boxes(self, poses: np.ndarray, given: np.ndarray) -> np.ndarray:
        """(N, 4) the box around the sure keypoints of each pose (N, K, 3); the given one where too few are sure."""
        found = given.astype(np.float64).copy()
        for row in np.flatnonzero(self.sure(poses)):
            points = poses[row, poses[row, :, 2] >= self.threshold, :2]
            if len(points) >= 2 and np.isfinite(points).all():
                found[row] = bbox_of_joints(points)
        return found

    def doubles(self, poses: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N,) bool: which poses (N, K, 3) are another's a second time, as two boxes came to follow one person."""
        score, area = poses[..., 2].mean(axis=-1), boxes[:, 2] * boxes[:, 3]
        return ~oks_nms(poses[..., :2], score, area, oks_sigmas=self.skeleton.oks_sigmas)

    def update(self, poses: np.ndarray, given: np.ndarray) -> np.ndarray:
        """(N,) the numbers of the persons of a frame, by the overlap of their boxes with those before.

        Persons whose keypoints are not sure are not followed into the next frame.
        """
        boxes, sure = self.boxes(poses, given), self.sure(poses)
        numbers = np.zeros(len(boxes), dtype=np.int64)
        before = np.array([each.box for each in self._tracks]).reshape(-1, 4)
        shared = np.maximum(overlaps(boxes, before), overlaps(given, before))  # who was looked for there is the same
        free = np.ones(len(self._tracks), dtype=bool)
        for row, column in zip(
            *np.unravel_index(np.argsort(-shared, axis=None, kind="stable"), shared.shape), strict=True
        ):
            if shared[row, column] >= _LEAST_OVERLAP and not numbers[row] and free[column]:
                numbers[row], free[column] = self._tracks[column].number, False
        for row in np.flatnonzero(numbers == 0):
            numbers[row], self._next = self._next, self._next + 1
        known = {each.number: each for each in self._tracks}
        for each in known.values():
            each.unseen += 1
        for number, box, is_sure in zip(numbers.tolist(), boxes, sure, strict=True):
            known[number] = _Track(number, box, 0 if is_sure else 1)
        self._tracks = [each for each in known.values() if each.unseen <= _REMEMBERED]
        return numbers

    @property
    def numbers(self) -> set[int]:
        """Of everybody who is remembered."""
        return {each.number for each in self._tracks}


def joined(found: FoundBoxes, others: FoundBoxes) -> FoundBoxes:
    """Some boxes, and those of the others that none of them overlaps."""
    shared = overlaps(others.boxes, found.boxes)  # (M, N)
    apart = shared.max(axis=1, initial=0.0) < _LEAST_OVERLAP
    return FoundBoxes(
        np.concatenate([found.boxes, others.boxes[apart]]), np.concatenate([found.score, others.score[apart]])
    )


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4) x y w h."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    inside = (high - low).clip(0).prod(axis=-1)  # (N, M)
    whole = boxes[:, 2:].prod(axis=-1)[:, None] + others[:, 2:].prod(axis=-1)[None] - inside
    shared: np.ndarray = inside / np.maximum(whole, 1e-9)
    return shared
