"""COCO keypoint evaluation over arrays: OKS, AP and AR, mean OKS, PCK, normalised error.

N labelled people, M predictions, K keypoints; P pairs of a prediction and a person of one image; D predictions that
count (at most 20 an image); T = 10 OKS thresholds. Everything is in image px. The rules are those of COCO's keypoint
evaluation (cocodataset.org/#keypoints-eval) as pycocotools 2.0 carries them out; a quirk of it that the numbers depend
on is named where it is reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from posestill.metrics.matching import MOST_PREDICTIONS, OKS_THRESHOLDS, match, precision_and_recall
from posestill.schema import UserError
from posestill.types import Person

Sigmas = Sequence[float] | np.ndarray
AREA_RANGES = {"all": (0.0, 1e5**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e5**2)}
"""image px squared, both ends included: an area of exactly 96 x 96 is medium and large"""
_VALUES_AT_ONCE = 1 << 14  # of one (K, pairs) array: they stay in the processor's cache from one operation to the next


@dataclass(frozen=True, eq=False)
class LabelledPeople:
    """The ground truth: N people, whichever images they are in. A wrong shape raises `ValueError`."""

    image_id: np.ndarray
    """(N,)"""
    keypoints: np.ndarray
    """(N, K, 3) x y v in image px; a keypoint is labelled where v > 0"""
    bbox: np.ndarray
    """(N, 4) x y w h, image px"""
    area: np.ndarray
    """(N,) image px squared"""
    crowd: np.ndarray
    """(N,) bool"""

    def __post_init__(self) -> None:
        count = len(self.image_id)
        keypoints = (count, self.keypoints.shape[1] if self.keypoints.ndim == 3 else "K", 3)
        for field, shape in (("keypoints", keypoints), ("bbox", (count, 4)), ("area", (count,)), ("crowd", (count,))):
            _check_shape(field, getattr(self, field), shape)

    def __len__(self) -> int:
        return len(self.image_id)

    def only(self, kept: np.ndarray) -> LabelledPeople:
        """Those where kept (N,) is True."""
        fields = (self.image_id, self.keypoints, self.bbox, self.area, self.crowd)
        return LabelledPeople(*(each[kept] for each in fields))

    @property
    def labelled(self) -> np.ndarray:
        """(N, K) bool: the keypoints that are labelled, hidden ones included."""
        return self.keypoints[:, :, 2] > 0

    @classmethod
    def of(cls, people: Sequence[Person], num_keypoints: int) -> LabelledPeople:
        """The same people as arrays; one without labels (`keypoints` None) gets v = 0 throughout."""
        bare = np.zeros((num_keypoints, 3))
        keypoints = [bare if person.keypoints is None else person.keypoints for person in people]
        for person, points in zip(people, keypoints, strict=True):
            _check_shape(f"keypoints of person {person.id}", points, bare.shape)
        return cls(
            image_id=np.array([person.image_id for person in people], dtype=np.int64),
            keypoints=np.array(keypoints, dtype=np.float64).reshape(-1, num_keypoints, 3),
            bbox=np.array([person.bbox for person in people], dtype=np.float64).reshape(-1, 4),
            area=np.array([person.area for person in people], dtype=np.float64),
            crowd=np.array([person.crowd for person in people], dtype=bool),
        )


@dataclass(frozen=True, eq=False)
class PredictedPeople:
    """M predicted people, whichever images they are in. A wrong shape raises `ValueError`."""

    image_id: np.ndarray
    """(M,)"""
    keypoints: np.ndarray
    """(M, K, 2) x y, image px"""
    score: np.ndarray
    """(M,) confidence of the person: only its order counts"""
    area: np.ndarray | None = None
    """(M,) image px squared, for the medium and large ranges; None: that of the box around the keypoints"""

    def __post_init__(self) -> None:
        count = len(self.image_id)
        keypoints = (count, self.keypoints.shape[1] if self.keypoints.ndim == 3 else "K", 2)
        for field, shape in (("keypoints", keypoints), ("score", (count,)), ("area", (count,))):
            if getattr(self, field) is not None:
                _check_shape(field, getattr(self, field), shape)

    def __len__(self) -> int:
        return len(self.image_id)


class Pck(TypedDict):
    """Fractions of labelled keypoints that were found, 0..1."""

    overall: float
    """NaN when nothing is labelled"""
    per_keypoint: np.ndarray
    """(K,) NaN where never labelled"""


def oks(xy: np.ndarray, truth: LabelledPeople, *, oks_sigmas: Sigmas) -> np.ndarray:
    """(M, N) OKS of every prediction with every person, 0..1, whatever their images (COCO keypoint evaluation).

    `xy` is (M, K, 2) in image px, `oks_sigmas` (K,). For a person without labelled keypoints a keypoint's distance is
    how far it lies outside the person's bbox widened threefold. Raises `UserError` when K differs.

    A prediction that is NaN scores 0 at that keypoint (in pycocotools it makes the OKS NaN, which then matches).
    """
    predicted, person = np.indices((len(xy), len(truth))).reshape(2, -1)
    return _oks_of_pairs(xy, truth, predicted, person, oks_sigmas).reshape(len(xy), len(truth))


def mean_oks(xy: np.ndarray, truth: LabelledPeople, *, oks_sigmas: Sigmas) -> np.ndarray:
    """(N,) OKS of each top-down prediction with its own person, 0..1; NaN for a person without labels.

    `xy` is (N, K, 2) in image px, row i for person i. The mean OKS over persons is `np.nanmean` of this. Raises
    `UserError` when N or K differs.
    """
    _check_rows(xy, truth)
    every = np.arange(len(truth))
    return np.where(truth.labelled.any(axis=1), _oks_of_pairs(xy, truth, every, every, oks_sigmas), np.nan)


def best_of_image(predictions: PredictedPeople, truth: LabelledPeople, *, oks_sigmas: Sigmas) -> np.ndarray:
    """(N, K, 2) for each person the prediction of its image whose OKS with it is highest; NaN where there is none."""
    predicted, person = _pairs_within_images(predictions.image_id, truth.image_id)  # (P,), (P,)
    similarity = _oks_of_pairs(predictions.keypoints, truth, predicted, person, oks_sigmas)  # (P,)
    found = np.full((len(truth), *predictions.keypoints.shape[1:]), np.nan)
    order = np.argsort(similarity, kind="stable")  # the best is written last
    found[person[order]] = predictions.keypoints[predicted[order]]
    return found


def average_precision(truth: LabelledPeople, predictions: PredictedPeople, *, oks_sigmas: Sigmas) -> dict[str, float]:
    """COCO's ten numbers, 0..1: AP AP50 AP75 APm APl AR AR50 AR75 ARm ARl; -1 where there is nothing to evaluate.

    Equal to `COCOeval(iouType="keypoints")` of pycocotools with `kpt_oks_sigmas` set to `oks_sigmas` (K,), for an
    annotation file that lists the images of all people and predictions and has `num_keypoints` = the count of v > 0.
    One thing is not reproduced: pycocotools takes a match with annotation id 0 for no match. Raises `UserError` when K
    differs.
    """
    row, rank = _top_of_each_image(predictions)  # (D,), (D,)
    score = predictions.score[row].astype(np.float64)  # (D,)
    predicted, person = _pairs_within_images(predictions.image_id[row], truth.image_id)  # (P,), (P,)
    by_rank = np.argsort(rank[predicted], kind="stable")
    predicted, person = predicted[by_rank], person[by_rank]
    _check_keypoints(predictions.keypoints, truth, len(oks_sigmas))
    points = _by_keypoint(predictions.keypoints)  # (2, K, M)
    similarity = _oks_of_points(points, truth, row[predicted], person, oks_sigmas)  # (P,)
    near = similarity >= OKS_THRESHOLDS[0]  # no other pair can ever match
    predicted, person, similarity = predicted[near], person[near], similarity[near]
    # loadRes's area of a prediction: that of its bbox where results carry one, else of the box around its keypoints
    extent = (np.ptp(points, axis=1).prod(axis=0) if predictions.area is None else predictions.area)[row]  # (D,)
    del points  # the largest array of all
    crowd = truth.crowd.astype(bool)  # (N,)
    by_score = np.argsort(-score, kind="stable")  # ties: the lower image id, then the earlier prediction, comes first

    precision, recall = {}, {}
    for name, (least, most) in AREA_RANGES.items():
        ignored = crowd | ~truth.labelled.any(axis=1) | (truth.area < least) | (truth.area > most)  # (N,)
        matched, forgiven = match(similarity, predicted, person, rank=rank, ignored=ignored, crowd=crowd)
        forgiven = np.where(matched, forgiven, (extent < least) | (extent > most))  # (T, D)
        precision[name], recall[name] = precision_and_recall(
            (matched & ~forgiven)[:, by_score], (~matched & ~forgiven)[:, by_score], int(np.count_nonzero(~ignored))
        )
    half, three_quarters = 0, 5  # of OKS_THRESHOLDS
    return {
        f"{kind}{suffix}": float(value.mean())
        for kind, of_range in (("AP", precision), ("AR", recall))
        for suffix, value in (
            ("", of_range["all"]),
            ("50", of_range["all"][half]),
            ("75", of_range["all"][three_quarters]),
            ("m", of_range["medium"]),
            ("l", of_range["large"]),
        )
    }


def pck(xy: np.ndarray, truth: LabelledPeople, *, pck_pair: tuple[int, int] | None, threshold: float = 0.2) -> Pck:
    """The fraction of labelled keypoints within `threshold` x the person's reference length, overall and per keypoint.

    `xy` is (N, K, 2) in image px, row i for person i. The reference is the distance between the two keypoints of
    `pck_pair` (e.g. the torso: PCK, Yang and Ramanan, TPAMI 2013) where both are labelled, otherwise the longer side
    of the bbox. A NaN prediction counts as not found. Raises `UserError` when N or K differs.
    """
    _check_rows(xy, truth)
    labelled = truth.labelled  # (N, K)
    reference = truth.bbox[:, 2:].max(axis=1)  # (N,) image px
    if pck_pair is not None:
        one, other = pck_pair
        length = np.linalg.norm(truth.keypoints[:, one, :2] - truth.keypoints[:, other, :2], axis=-1)
        reference = np.where(labelled[:, one] & labelled[:, other], length, reference)
    found = labelled & (_distance(xy, truth) <= threshold * reference[:, None])  # (N, K)
    with np.errstate(invalid="ignore"):  # 0 / 0: never labelled
        per_keypoint = found.sum(axis=0) / labelled.sum(axis=0)
        return {"overall": float(found.sum() / labelled.sum()), "per_keypoint": per_keypoint}


def normalised_error(xy: np.ndarray, truth: LabelledPeople) -> np.ndarray:
    """(K,) mean distance of each keypoint, as a fraction of sqrt(bbox w x h); NaN where never labelled.

    `xy` is (N, K, 2) in image px, row i for person i. A person whose bbox has no extent has no scale and is left out;
    a NaN prediction makes its keypoint's mean NaN. Raises `UserError` when N or K differs.
    """
    _check_rows(xy, truth)
    squared = truth.bbox[:, 2] * truth.bbox[:, 3]  # (N,)
    counted = truth.labelled & (squared > 0)[:, None]  # (N, K)
    scale = np.sqrt(np.where(squared > 0, squared, 1.0))
    total = np.where(counted, _distance(xy, truth) / scale[:, None], 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0: never labelled
        return total / counted.sum(axis=0)


def explain(
    metrics: Mapping[str, float], truth: LabelledPeople, predictions: PredictedPeople, *, oks_sigmas: Sigmas
) -> list[str]:
    """Why AP is -1 or 0 and what to do about it, a sentence or two a cause; empty when AP is above 0.

    `metrics` is what `average_precision` returned for the same people, predictions and `oks_sigmas`.
    """
    empty = [f"{name} is -1: no labelled person is of {size} area." for name, size in
             (("APm", "medium"), ("APl", "large")) if metrics[name] == -1]  # fmt: skip
    if metrics["AP"] > 0:
        return empty
    has_labels, crowd = truth.labelled.any(axis=1), truth.crowd.astype(bool)
    evaluated = np.flatnonzero(has_labels & ~crowd)
    if len(evaluated) == 0:
        return [
            f"No labelled person: {has_labels.sum()} of {len(truth)} persons have a labelled keypoint (v above 0), and "
            f"{(has_labels & crowd).sum()} of those are marked as crowd, so AP does not exist. Evaluate on annotations "
            "that carry keypoints, and check their path and `iscrowd`."
        ]
    sentences = []
    area = truth.area[evaluated]
    if wrong := np.count_nonzero(~((area > 0) & (area <= AREA_RANGES["all"][1]))):
        sentences.append(
            f"{wrong} of {len(area)} labelled persons have an area that is missing, zero or out of range, and OKS is "
            "measured against it. Write `area` into the annotations, in image px squared: that of the person's mask, "
            "or about half of the bbox's w x h where there is no mask."
        )
    if len(predictions) == 0:
        return [*sentences, "There is no prediction at all. Check that neither a filter nor a threshold removes them."]
    for what, values in (("score", predictions.score), ("keypoints", predictions.keypoints)):
        if missing := np.isnan(values).reshape(len(predictions), -1).any(axis=1).sum():
            sentences.append(
                f"{missing} of {len(predictions)} predictions have NaN in their {what}. Look for the step at which the "
                "loss became NaN, and lower the learning rate or train in full precision."
            )
    predicted, person = _pairs_within_images(predictions.image_id, truth.image_id[evaluated])
    if len(person) == 0:
        return [
            *sentences,
            f"No image id of the predictions (the first: {predictions.image_id[0]}) is that of a labelled person (the "
            f"first: {truth.image_id[evaluated[0]]}). Check that both are of the same split, with the ids unchanged.",
        ]
    best = np.zeros(len(evaluated))  # OKS of any prediction in the person's image; 0 where there is none
    np.maximum.at(best, person, _oks_of_pairs(predictions.keypoints, truth, predicted, evaluated[person], oks_sigmas))
    if best.max() < OKS_THRESHOLDS[0]:
        sentences.append(
            f"Every OKS is below 0.5, where AP begins to count: the best is {best.max():.3f}, the mean over "
            f"{len(best)} labelled persons {best.mean():.3f}. Follow mean OKS, which improves long before AP does, and "
            "train longer; if it does not rise, check that the predictions are in image px and in the skeleton's order."
        )
    elif not sentences:
        sentences.append(
            f"Some predictions reach an OKS of 0.5 (the best {best.max():.3f}) but are not among the "
            f"{MOST_PREDICTIONS} of the highest score in their image. Remove duplicates, or correct the scores."
        )
    return sentences


def _oks_of_pairs(
    xy: np.ndarray, truth: LabelledPeople, predicted: np.ndarray, person: np.ndarray, oks_sigmas: Sigmas
) -> np.ndarray:
    """(P,) OKS of rows `predicted` (P,) of `xy` with rows `person` (P,) of `truth`."""
    _check_keypoints(xy, truth, len(oks_sigmas))
    return _oks_of_points(_by_keypoint(xy), truth, predicted, person, oks_sigmas)


def _oks_of_points(
    points: np.ndarray, truth: LabelledPeople, predicted: np.ndarray, person: np.ndarray, oks_sigmas: Sigmas
) -> np.ndarray:
    """(P,) the same for predictions (2, K, M)."""
    variance = (2 * np.asarray(oks_sigmas, dtype=np.float64)) ** 2  # (K,)
    places = _by_keypoint(truth.keypoints)  # (3, K, N)
    labelled = places[2] > 0  # (K, N)
    has_labels = labelled.any(axis=0)  # (N,)
    counted = labelled | ~has_labels  # (K, N)
    # the spacing keeps an area of 0 from dividing by 0, as in pycocotools
    scale = truth.area.astype(np.float64) + np.spacing(1)  # (N,)
    similarity = np.empty(len(person))  # (P,)
    step = max(1, _VALUES_AT_ONCE // len(variance))
    for start in range(0, len(person), step):
        row, of = predicted[start : start + step], person[start : start + step]  # (p,)
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinite predictions are dealt with below
            offset = points[:, :, row] - places[:2, :, of]  # (2, K, p)
            bare = ~has_labels[of]
            if bare.any():
                offset[:, :, bare] = _outside(points[:, :, row[bare]], truth.bbox[of[bare]])
            offset *= offset
            exponent = (offset[0] + offset[1]) / variance[:, None] / scale[of] / 2  # (K, p)
            closeness = np.exp(-exponent)
        closeness[~counted[:, of] | np.isnan(closeness)] = 0
        similarity[start : start + step] = closeness.sum(axis=0) / counted[:, of].sum(axis=0)
    return similarity


def _by_keypoint(points: np.ndarray) -> np.ndarray:
    """(C, K, N) of (N, K, C): sums over keypoints then add whole rows, which is several times as fast."""
    return np.ascontiguousarray(points.T, dtype=np.float64)


def _outside(points: np.ndarray, bbox: np.ndarray) -> np.ndarray:
    """(2, K, p) how far points (2, K, p) lie outside boxes (p, 4) widened threefold."""
    corner, extent = bbox.T[:2, None], bbox.T[2:, None]  # (2, 1, p)
    return np.maximum(corner - extent - points, 0) + np.maximum(points - (corner + 2 * extent), 0)


def _top_of_each_image(predictions: PredictedPeople) -> tuple[np.ndarray, np.ndarray]:
    """(D,) the rows that count, image by image and best score first, and (D,) their place in the image, from 0."""
    row = np.lexsort((-predictions.score.astype(np.float64), predictions.image_id))  # stable; a NaN score comes last
    image_id = predictions.image_id[row]
    rank = np.arange(len(row)) - np.searchsorted(image_id, image_id)
    return row[rank < MOST_PREDICTIONS], rank[rank < MOST_PREDICTIONS]


def _pairs_within_images(of_prediction: np.ndarray, of_person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs that share an image id: (P,) row of the prediction, ascending, and (P,) row of the person."""
    order = np.argsort(of_person, kind="stable")
    first = np.searchsorted(of_person[order], of_prediction, side="left")
    count = np.searchsorted(of_person[order], of_prediction, side="right") - first
    predicted = np.repeat(np.arange(len(of_prediction)), count)  # (P,)
    within = np.arange(len(predicted)) - np.repeat(np.cumsum(count) - count, count)
    return predicted, order[np.repeat(first, count) + within]


def _distance(xy: np.ndarray, truth: LabelledPeople) -> np.ndarray:
    """(N, K) image px; without meaning where not labelled."""
    return np.linalg.norm(xy.astype(np.float64) - truth.keypoints[:, :, :2], axis=-1)


def _check_shape(what: str, array: np.ndarray, shape: tuple[int | str, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape}, not ({', '.join(map(str, shape))})")


def _check_rows(xy: np.ndarray, truth: LabelledPeople) -> None:
    if len(xy) != len(truth):
        raise UserError(f"{len(xy)} predictions for {len(truth)} persons: give one for each person, in the same order")
    _check_keypoints(xy, truth, truth.keypoints.shape[1])


def _check_keypoints(xy: np.ndarray, truth: LabelledPeople, num_sigmas: int) -> None:
    if xy.ndim != 3 or xy.shape[2] != 2:
        raise ValueError(f"xy has shape {xy.shape}, not (N, K, 2)")
    if not xy.shape[1] == truth.keypoints.shape[1] == num_sigmas:
        raise UserError(
            f"the predictions have {xy.shape[1]} keypoints, the labelled people {truth.keypoints.shape[1]}, and there "
            f"are {num_sigmas} OKS sigmas: evaluate with the skeleton of the data set that the model was trained for"
        )
