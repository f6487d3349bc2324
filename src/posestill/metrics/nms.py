"""One person found twice: suppression of poses that are too much alike (OKS-NMS of the top-down papers)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def oks_nms(
    keypoints: np.ndarray, score: np.ndarray, area: np.ndarray, *, oks_sigmas: Sequence[float], threshold: float = 0.9
) -> np.ndarray:
    """(N,) bool: which poses (N, K, 2) of one image stay; one goes when its OKS with a better one exceeds `threshold`.

    `area` (N,) is that of each pose's crop, px squared: two poses are compared at the mean of theirs, over all
    keypoints (mmpose's hard OKS-NMS).
    """
    spread = 2 * (2 * np.asarray(oks_sigmas)) ** 2  # (K,)
    kept = np.zeros(len(score), dtype=bool)
    waiting = np.argsort(-score, kind="stable")
    while len(waiting):
        best, rest = waiting[0], waiting[1:]
        kept[best] = True
        squared = ((keypoints[rest] - keypoints[best]) ** 2).sum(axis=-1)  # (R, K)
        size = (area[rest] + area[best]) / 2 + np.spacing(1)
        similarity = np.exp(-squared / spread / size[:, None]).mean(axis=-1)  # (R,)
        waiting = rest[similarity <= threshold]
    return kept
