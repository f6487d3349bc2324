"""COCO's greedy matching of predictions with people, and what it makes of precision and recall: all images at once.

N people, D predictions that count (at most 20 an image), P pairs of the two in one image, T = 10 OKS thresholds.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # (T,)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
MOST_PREDICTIONS = 20
"""an image; those of the highest scores count"""


def match(
    similarity: np.ndarray, predicted: np.ndarray, person: np.ndarray, *,
    rank: np.ndarray, ignored: np.ndarray, crowd: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(T, D) bool, whether a prediction has a person, and (T, D) bool, whether that person is ignored.

    COCO's greedy matching, all images and thresholds at once, place after place: the pairs come ordered by `rank`, and
    predictions of one rank are of different images, so they cannot compete for a person.
    """
    # pycocotools caps a threshold of 1 just below 1, so that rounding cannot lose a perfect match
    needed = np.minimum(OKS_THRESHOLDS, 1 - 1e-10)[:, None]  # (T, 1)
    matched, forgiven = np.zeros((2, len(needed), len(rank)), dtype=bool)
    taken = np.zeros((len(needed), len(ignored)), dtype=bool)  # (T, N); a crowd never is: it may be matched many times
    ends = np.searchsorted(rank[predicted], np.arange(MOST_PREDICTIONS + 1))
    for start, end in pairwise(np.unique(ends)):
        of_prediction, of_person, value = predicted[start:end], person[start:end], similarity[start:end]  # (p,)
        begins = np.diff(of_prediction, prepend=-1) != 0
        first, group = np.flatnonzero(begins), np.cumsum(begins) - 1  # one group of persons a prediction
        regular = ~ignored[of_person]
        eligible = (value >= needed) & ~taken[:, of_person]  # (T, p)
        has_regular = np.logical_or.reduceat(eligible & regular, first, axis=1)  # (T, groups)
        eligible &= regular | ~has_regular[:, group]  # an ignored person is taken only for want of a regular one
        best = np.maximum.reduceat(np.where(eligible, value, -1.0), first, axis=1)
        # pycocotools compares with `<`: of equally similar persons the last one wins
        last = np.where(eligible & (value == best[:, group]), np.arange(end - start), -1)
        winner = np.maximum.reduceat(last, first, axis=1)  # (T, groups), -1: none
        threshold, column = np.nonzero(winner >= 0)
        won = winner[threshold, column]
        matched[threshold, of_prediction[won]] = True
        forgiven[threshold, of_prediction[won]] = ignored[of_person[won]]
        taken[threshold, of_person[won]] = ~crowd[of_person[won]]
    return matched, forgiven


def precision_and_recall(hit: np.ndarray, miss: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, 101) precision at the recall thresholds and (T,) final recall, from (T, D) bool by falling score."""
    if count == 0:
        return np.full((len(hit), len(RECALL_THRESHOLDS)), -1.0), np.full(len(hit), -1.0)
    hits, misses = hit.cumsum(axis=1, dtype=np.int32), miss.cumsum(axis=1, dtype=np.int32)  # (T, D)
    recall = hits / count
    # the spacing, as in pycocotools, makes 0 / 0 a 0: a forgiven prediction before the first one that counts
    precision = hits / (hits + misses + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))  # a recall that is never reached has precision 0
    at = np.stack([np.searchsorted(of_threshold, RECALL_THRESHOLDS) for of_threshold in recall])  # (T, 101)
    return np.take_along_axis(envelope, at, axis=1), hit.sum(axis=1) / count
