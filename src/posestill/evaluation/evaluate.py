"""From a model and a source to AP: crops in order, keypoints back on the image, every person exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather_object
from pydantic import PositiveFloat, PositiveInt

from posestill.codecs.base import Rescoring
from posestill.data.batches import in_order
from posestill.data.coco import coco_lists
from posestill.data.images import TaughtSource
from posestill.data.loading import batch_loader
from posestill.data.source import PoseSource, count_people, notes_of
from posestill.data.topdown import Labels, TopDownDataset
from posestill.evaluation.agreement import Agreement, agreement_with
from posestill.evaluation.detections import DetectedPeople
from posestill.geometry import crop_of_bbox, transform_batch
from posestill.metrics import oks
from posestill.metrics.nms import oks_nms
from posestill.metrics.wholebody import WHOLE, wholebody_precision
from posestill.models.pose_model import PoseModel
from posestill.schema import Config, UserError
from posestill.skeletons import Skeleton
from posestill.types import Size

KEYPOINT_SCORE_COUNTS = 0.2
"""Keypoint scores above this enter a person's score (the field's vis_thr)."""


class EvaluateConfig(Config):
    """These settings say how a model is evaluated."""

    flip_test: bool = True
    """True: each prediction is averaged with that of the mirrored crop, which takes twice the computation. False: each
    crop is predicted once."""
    batch_size: PositiveInt = 64
    """Persons whose crops are predicted at once. A larger batch keeps a GPU busier and takes more memory."""
    every: PositiveFloat | None = None
    """How often a run evaluates its model, in the unit of the run's length (epochs or steps). None: at the end only."""
    boxes: Path | None = None
    """A COCO detection-results file whose boxes persons are cut out by, as in the papers; mean OKS, PCK and normalised
    error are then those of the pose that fits each person best. None: the annotated boxes."""
    box_threshold: float = 0.0
    """The score below which a detected box is left out. A higher threshold leaves out more false boxes, and more
    persons."""
    oks_nms: float | None = 0.9
    """Of two poses from detections in one image whose OKS with each other exceeds this, the worse one is left out. A
    lower value removes more doubles, and more neighbours who are real; None: all stay."""
    rescoring: Literal["published", "mean", "sum", "box"] = "published"
    """How the score by which AP ranks persons is made. `published`: as for the model's representation; one of the
    others for all compares them fairly. `mean`: the box's score times the mean of the keypoint scores above 0.2. `sum`:
    the box's score, the mean and the maximum of the keypoint scores added up. `box`: the box's score alone."""
    best_by: Literal["mean_oks", "AP", "PCK"] = "mean_oks"
    """The figure by which a run that evaluates more than once picks the model in `best/`: mean OKS over persons, COCO's
    AP, or PCK."""


@dataclass(frozen=True)
class PredictedPoses:
    """What a model says of N persons, in the order of their source."""

    person: np.ndarray
    """(N,) positions in the people of the source that gave the boxes"""
    image_id: np.ndarray
    """(N,)"""
    keypoints: np.ndarray
    """(N, K, 3) x y score, image px"""
    score: np.ndarray
    """(N,) the person's score, by which AP ranks"""

    def only(self, kept: np.ndarray) -> PredictedPoses:
        """Those where kept (N,) is True."""
        return PredictedPoses(self.person[kept], self.image_id[kept], self.keypoints[kept], self.score[kept])


@dataclass(frozen=True)
class Share:
    """Where a share of an evaluation is computed: this process is number `rank` of `world`."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)
    rank: int = 0
    world: int = 1
    workers: int = 0
    """processes that cut crops; 0: this one"""
    progress: Callable[[int], None] | None = None
    """told how many persons are done"""


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation, and under which conditions they hold."""

    metrics: dict[str, float]
    per_keypoint: dict[str, dict[str, float]]
    conditions: dict[str, Any]
    notes: list[str]
    poses: PredictedPoses
    similarity: np.ndarray
    """(M,) OKS of each labelled person's own pose"""
    places: np.ndarray
    """(M, K, 2) that pose, image px; NaN where the person was missed"""
    agreement: Agreement | None = None
    """with the teacher, where its answers stand in for labels"""

    def as_json(self) -> dict[str, Any]:
        """Everything but the arrays, for a file."""
        return {
            **self.metrics,
            "conditions": self.conditions,
            "per_keypoint": self.per_keypoint,
            "notes": self.notes,
            **({} if self.agreement is None else {"agreement": self.agreement.as_json()}),
        }


def evaluate_model(
    model: PoseModel, source: PoseSource, settings: EvaluateConfig | None = None, share: Share | None = None
) -> Evaluation:
    """The figures of a model on a source's labelled persons, cut out by their own boxes or by a detector's.

    Persons without labels and crowds are not predicted from their own boxes: AP ignores what stands on them. With
    several processes each predicts its share and all return the same evaluation.
    """
    settings, share = settings or EvaluateConfig(), share or Share()
    notes = []
    if not model.skeleton.partners_known:
        settings = settings.model_copy(update={"flip_test": False})
        notes.append("Nothing tells which keypoints are mirror partners: there is no flip test.")
    labelled = labelled_people(source)
    taught = source if isinstance(source, TaughtSource) else None
    truth = getattr(source, "truth", None)
    if taught is not None and settings.boxes is not None:
        raise UserError("evaluate.boxes: held-out pictures have boxes of their own (data.train.boxes): leave them out")
    if settings.boxes is None:
        poses = predict_poses(model, source, labelled, settings, share)
    else:
        category_id = getattr(source, "category_id", 1)
        boxes = DetectedPeople(source, settings.boxes, category_id=category_id, threshold=settings.box_threshold)
        notes += boxes.notes
        poses = predict_poses(model, boxes, np.arange(len(boxes.people)), settings, share)
        if settings.oks_nms is not None:
            poses = poses.only(_best_of_the_alike(poses, boxes, settings.oks_nms, size=model.config.size))
    counted = count_people(source.people)
    conditions = {
        **({} if truth is None else {"truth": truth}),
        "boxes": _whose_boxes(source) if settings.boxes is None else str(settings.boxes),
        **({} if settings.boxes is None else {"oks_nms": settings.oks_nms, "box_threshold": settings.box_threshold}),
        "flip_test": settings.flip_test,
        "input_size": list(model.config.size),
        "persons": len(labelled),
        "unlabelled": counted.unlabelled,
        "crowds": counted.crowds,
        "left_out_for_bbox": counted.without_bbox,
        "keypoint_score": "trained" if model.codec.has_score else "none (1)",
        "person_score": _rescoring(model, settings),
    }
    notes += notes_of(source)
    if truth is not None:
        notes.append(
            f"Truth: {truth}. There are no labels here: the figures say how far the model agrees with its teacher on "
            f"{len(labelled)} people, not how right either of them is."
        )
    if not model.codec.has_score:
        notes.append("The model has no trained confidence: every keypoint score is 1 and persons rank by box score.")
    if lost := int((~np.isfinite(poses.keypoints).all(axis=(1, 2))).sum()):
        notes.append(f"{lost} of {len(poses.person)} predictions hold NaN or infinity and count as missed.")
    found = score_poses(poses, source, own_boxes=settings.boxes is None, conditions=conditions, notes=notes)
    if taught is None:
        return found
    people, answers = [source.people[position] for position in labelled], taught.answers[labelled]
    xy = poses.keypoints[..., :2]
    agreement = agreement_with(answers, xy, people, source.skeleton, threshold=taught.threshold)
    return replace(found, agreement=agreement)


def labelled_people(source: PoseSource) -> np.ndarray:
    """(M,) positions of the persons that are evaluated: labelled, no crowd, with a box."""
    return np.array(
        [
            position
            for position, person in enumerate(source.people)
            if not person.crowd and person.keypoints is not None and person.bbox[2] > 0 and person.bbox[3] > 0
        ],
        dtype=int,
    )


def spread_evenly(count: int, most: int) -> np.ndarray:
    """Positions of at most `most` of `count` things, spread evenly from the first to the last."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def predict_poses(
    model: PoseModel, source: PoseSource, persons: np.ndarray, settings: EvaluateConfig, share: Share | None = None
) -> PredictedPoses:
    """Keypoints in image px of some persons (N,) of a source, each exactly once over all processes.

    There is no flip test where nothing tells which keypoints are mirror partners.
    """
    share = share or Share()
    flip_test = settings.flip_test and model.skeleton.partners_known
    dataset = TopDownDataset(source, size=model.config.size, labels=Labels(persons, np.zeros(len(persons), dtype=bool)))
    own = list(range(share.rank, len(dataset), share.world))
    rescoring = _rescoring(model, settings)
    rows: list[tuple[int, np.ndarray, float]] = []
    for batch in batch_loader(dataset, in_order(own, settings.batch_size), workers=share.workers):
        batch = batch.to(share.device)
        found = model.predict(batch.image, flip_test=flip_test)
        xy = transform_batch(found.xy, batch.to_image)  # (B, K, 2) image px
        poses = torch.cat([xy, found.score[..., None]], dim=-1).cpu().double().numpy()  # (B, K, 3)
        for index, keypoints in zip(batch.index.tolist(), poses, strict=True):
            score = person_score(keypoints[:, 2], dataset.person(index).score, rescoring=rescoring)
            rows.append((index, keypoints, score))
        if share.progress is not None:
            share.progress(len(batch))
    if share.world > 1:
        rows = gather_object(rows)
    rows.sort(key=lambda row: row[0])
    chosen = persons[[row[0] for row in rows]] if rows else persons[:0]
    return PredictedPoses(
        person=chosen,
        image_id=np.array([source.people[position].image_id for position in chosen], dtype=np.int64),
        keypoints=np.array([row[1] for row in rows]).reshape(-1, len(source.skeleton), 3),
        score=np.array([row[2] for row in rows], dtype=float),
    )


def score_poses(
    poses: PredictedPoses, source: PoseSource, *, own_boxes: bool, conditions: dict[str, Any], notes: Sequence[str] = ()
) -> Evaluation:
    """The figures of poses against a source's labels: AP over all its people, the rest over those that are evaluated.

    With `own_boxes` the poses are those of the evaluated people, in order; otherwise each of these is judged by the
    pose of its image that fits it best.
    A skeleton with parts (COCO-WholeBody) also gets AP_body, AR_body and so on, every part ranked by the one score.
    """
    skeleton, people = source.skeleton, source.people
    sigmas = np.array(skeleton.oks_sigmas)
    truth = oks.LabelledPeople.of(people, len(skeleton))
    own = oks.LabelledPeople.of([people[position] for position in labelled_people(source)], len(skeleton))
    places = poses.keypoints[..., :2]  # (N, K, 2)
    predicted = oks.PredictedPeople(image_id=poses.image_id, keypoints=places, score=poses.score)
    of_parts: dict[str, dict[str, float]] = {}
    if skeleton.parts:
        of_parts = wholebody_precision(truth, predicted, parts=skeleton.parts, oks_sigmas=sigmas)
        metrics = of_parts.pop(WHOLE)
    else:
        metrics = oks.average_precision(truth, predicted, oks_sigmas=sigmas)
    xy = places if own_boxes else oks.best_of_image(predicted, own, oks_sigmas=sigmas)  # (M, K, 2)
    similarity = oks.mean_oks(xy, own, oks_sigmas=sigmas)  # (M,)
    correct = oks.pck(xy, own, pck_pair=skeleton.pck_pair)
    found = np.isfinite(xy).all(axis=(1, 2))  # a detector may miss a person
    error = oks.normalised_error(xy[found], own.only(found))  # (K,)
    return Evaluation(
        metrics={
            **metrics,
            "mean_oks": _mean(similarity),
            "PCK": correct["overall"],
            "normalised_error": _mean(error),
            **{f"{figure}_{part}": ten[figure] for part, ten in of_parts.items() for figure in ("AP", "AR")},
        },
        per_keypoint={
            name: {"PCK": float(correct["per_keypoint"][index]), "normalised_error": float(error[index])}
            for index, name in enumerate(skeleton.names)
        },
        conditions=conditions,
        notes=[*notes, *oks.explain(metrics, truth, predicted, oks_sigmas=sigmas)],
        poses=poses,
        similarity=similarity,
        places=xy,
    )


def _best_of_the_alike(poses: PredictedPoses, boxes: PoseSource, threshold: float, *, size: Size) -> np.ndarray:
    """(N,) bool: OKS-NMS, image by image, at the area of each pose's crop for inputs of `size`."""
    area = np.array([crop_of_bbox(boxes.people[position].bbox, size).extent.prod() for position in poses.person])
    kept = np.zeros(len(poses.person), dtype=bool)
    order = np.argsort(poses.image_id, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(poses.image_id[order])) + 1):
        sigmas = boxes.skeleton.oks_sigmas
        kept[rows] = oks_nms(poses.keypoints[rows, :, :2], poses.score[rows], area[rows], oks_sigmas=sigmas,
                             threshold=threshold)  # fmt: skip
    return kept


def _whose_boxes(source: PoseSource) -> str:
    """Whose boxes a source has: annotated ones are the truth, others are what pictures without labels were given."""
    return str(getattr(source, "boxes", "ground truth"))


def _rescoring(model: PoseModel, settings: EvaluateConfig) -> Rescoring:
    return model.codec.rescoring if settings.rescoring == "published" else settings.rescoring


def _mean(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(present.mean()) if len(present) else float("nan")


def as_coco_results(poses: PredictedPoses, skeleton: Skeleton, *, category_id: int = 1) -> list[dict[str, Any]]:
    """The COCO results list: image_id, category_id, keypoints x y score (COCO-WholeBody: in its five lists), score."""
    return [
        {"image_id": image_id, "category_id": category_id, **coco_lists(keypoints, skeleton), "score": score}
        for image_id, keypoints, score in zip(
            poses.image_id.tolist(), poses.keypoints, poses.score.tolist(), strict=True
        )
    ]


def person_score(keypoint_scores: np.ndarray, box_score: float, *, rescoring: Rescoring) -> float:
    """How sure a model is of a person, from its keypoint scores (K,) and its box's; see `Rescoring`."""
    if rescoring == "box":
        return box_score
    if rescoring == "sum":
        return float(box_score + keypoint_scores.mean() + keypoint_scores.max())
    counting = keypoint_scores[keypoint_scores > KEYPOINT_SCORE_COUNTS]
    return float(box_score * counting.mean()) if len(counting) else 0.0
