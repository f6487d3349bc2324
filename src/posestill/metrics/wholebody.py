"""COCO-WholeBody evaluation over arrays: COCO's keypoint evaluation once for the whole and once for each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from posestill.metrics.oks import LabelledPeople, PredictedPeople, Sigmas, average_precision

WHOLE = "wholebody"
"""what the evaluation of all keypoints together is called among those of the parts"""
HANDS = ("lefthand", "righthand")


def wholebody_precision(
    truth: LabelledPeople,
    predictions: PredictedPeople,
    *,
    parts: Mapping[str, tuple[int, int]],
    oks_sigmas: Sigmas,
    part_scores: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, float]]:
    """COCO's ten numbers by part, 0..1, -1 where there is nothing to evaluate: `wholebody`, each part, and `hand`.

    `parts` gives (start, stop) of each part's keypoints (`Skeleton.parts`), `oks_sigmas` is (K,), `part_scores` holds
    (M,) scores for those parts (or `wholebody`) that do not rank by the person's own score. Every part is measured
    against the person's area; a person without a labelled keypoint of the part is ignored in that part's evaluation;
    a prediction that carries no area has that of the box around its keypoints of the part. `hand` is the mean of the
    left and the right (one of them where the other is -1). Source: the metric of COCO-WholeBody (Jin et al., ECCV
    2020; github.com/jin-s13/COCO-WholeBody). Raises `UserError` when K differs.

    The numbers are those of pycocotools run on each part. xtcocotools differs in two ways: for every part it takes the
    area of the box around the 17 body keypoints (pass it as the predictions' `area`; only APm and APl can change), and
    it leaves out a prediction whose keypoints of the part all have a score of 0.
    """
    scores = part_scores or {}
    sigmas = np.asarray(oks_sigmas)
    figures = {
        WHOLE: average_precision(
            truth, replace(predictions, score=scores.get(WHOLE, predictions.score)), oks_sigmas=sigmas
        )
    }
    for part, (start, stop) in parts.items():
        figures[part] = average_precision(
            replace(truth, keypoints=truth.keypoints[:, start:stop]),
            replace(
                predictions,
                keypoints=predictions.keypoints[:, start:stop],
                score=scores.get(part, predictions.score),
            ),
            oks_sigmas=sigmas[start:stop],
        )
    if set(HANDS) <= set(parts):
        left, right = (figures[hand] for hand in HANDS)
        figures["hand"] = {name: _mean_of_existing(left[name], right[name]) for name in left}
    return figures


def _mean_of_existing(one: float, other: float) -> float:
    existing = [value for value in (one, other) if value != -1]
    return sum(existing) / len(existing) if existing else -1.0
