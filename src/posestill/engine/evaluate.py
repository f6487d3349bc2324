"""From a model and a source to AP: crops in order, keypoints back on the image, every person exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from posestill.data.batches import in_order
from posestill.data.coco import coco_lists
from posestill.data.source import PoseSource
from posestill.data.topdown import Labels, TopDownDataset
from posestill.geometry import transform_batch
from posestill.metrics import oks
from posestill.metrics.wholebody import WHOLE, wholebody_precision
from posestill.models.pose_model import PoseModel
from posestill.schema import Config

KEYPOINT_SCORE_COUNTS = 0.2
"""Keypoint scores above this enter a person's score (the field's vis_thr)."""


class EvaluateConfig(Config):
    """How a model is evaluated."""

    flip_test: bool = True
    batch_size: int = 64
    every: float | None = None
    """during training, in the unit of the run's length (epochs or steps); None: at the end only"""
    best_by: Literal["mean_oks", "AP", "PCK"] = "mean_oks"
    """which figure picks `best/`"""


@dataclass(frozen=True)
class PredictedPoses:
    """What a model says of N persons, in the order of the source."""

    person: np.ndarray
    """(N,) positions in source.people"""
    keypoints: np.ndarray
    """(N, K, 3) x y score, image px"""
    score: np.ndarray
    """(N,) the person's score, by which AP ranks"""


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation, and under which conditions they hold."""

    metrics: dict[str, float]
    per_keypoint: dict[str, dict[str, float]]
    conditions: dict[str, Any]
    notes: list[str]
    poses: PredictedPoses
    similarity: np.ndarray
    """(N,) OKS of each pose with its own person"""

    def as_json(self) -> dict[str, Any]:
        """Everything but the arrays, for a file."""
        return {
            **self.metrics,
            "conditions": self.conditions,
            "per_keypoint": self.per_keypoint,
            "notes": self.notes,
        }


def evaluate_model(
    model: PoseModel,
    source: PoseSource,
    *,
    flip_test: bool,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | None = None,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """The figures of a model on a source's labelled persons, cut out by their own boxes.

    Persons without labels and crowds are not predicted: AP ignores what stands on them. With several processes
    (`world` > 1) each predicts its share and all return the same evaluation.
    """
    persons = np.array(
        [
            position
            for position, person in enumerate(source.people)
            if not person.crowd and person.keypoints is not None and person.bbox[2] > 0 and person.bbox[3] > 0
        ],
        dtype=int,
    )
    poses = predict_poses(
        model, source, persons, flip_test=flip_test, batch_size=batch_size, workers=workers, device=device, rank=rank,
        world=world, progress=progress,
    )  # fmt: skip
    notes = []
    if not model.codec.has_score:
        notes.append("The model has no trained confidence: every keypoint score is 1 and persons rank by box score.")
    conditions = {
        "boxes": "ground truth",
        "flip_test": flip_test,
        "input_size": list(model.config.size),
        "persons": len(persons),
        "keypoint_score": "trained" if model.codec.has_score else "none (1)",
    }
    return score_poses(poses, source, conditions=conditions, notes=notes)


def predict_poses(
    model: PoseModel,
    source: PoseSource,
    persons: np.ndarray,
    *,
    flip_test: bool,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | None = None,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int], None] | None = None,
) -> PredictedPoses:
    """Keypoints in image px of some persons (N,) of a source, each exactly once over all processes."""
    device = device or torch.device("cpu")
    dataset = TopDownDataset(source, size=model.config.size, labels=Labels(persons, np.zeros(len(persons), dtype=bool)))
    own = list(range(rank, len(dataset), world))
    loader = batch_loader(dataset, in_order(own, batch_size), workers=workers)
    rows: list[tuple[int, np.ndarray, float]] = []
    for batch in loader:
        batch = batch.to(device)
        found = model.predict(batch.image, flip_test=flip_test)
        xy = transform_batch(found.xy, batch.to_image)  # (B, K, 2) image px
        poses = torch.cat([xy, found.score[..., None]], dim=-1).cpu().double().numpy()  # (B, K, 3)
        for index, keypoints in zip(batch.index.tolist(), poses, strict=True):
            box_score = dataset.person(index).score
            rows.append((index, keypoints, person_score(keypoints[:, 2], box_score, has_score=model.codec.has_score)))
        if progress is not None:
            progress(len(batch))
    if world > 1:
        rows = gather_object(rows)
    rows.sort(key=lambda row: row[0])
    count = len(source.skeleton)
    return PredictedPoses(
        person=persons[[row[0] for row in rows]] if rows else persons[:0],
        keypoints=np.array([row[1] for row in rows]).reshape(-1, count, 3),
        score=np.array([row[2] for row in rows], dtype=float),
    )


def score_poses(
    poses: PredictedPoses, source: PoseSource, *, conditions: dict[str, Any], notes: Sequence[str] = ()
) -> Evaluation:
    """The figures of poses against a source's labels: AP over all its people, the rest over those predicted.

    A skeleton with parts (COCO-WholeBody) also gets AP_body, AR_body and so on, every part ranked by the one score.
    """
    skeleton, people = source.skeleton, source.people
    sigmas = np.array(skeleton.oks_sigmas)
    truth = oks.LabelledPeople.of(people, len(skeleton))
    own = oks.LabelledPeople.of([people[position] for position in poses.person], len(skeleton))
    predicted = oks.PredictedPeople(image_id=own.image_id, keypoints=poses.keypoints[..., :2], score=poses.score)
    of_parts: dict[str, dict[str, float]] = {}
    if skeleton.parts:
        of_parts = wholebody_precision(truth, predicted, parts=skeleton.parts, oks_sigmas=sigmas)
        metrics = of_parts.pop(WHOLE)
    else:
        metrics = oks.average_precision(truth, predicted, oks_sigmas=sigmas)
    similarity = oks.mean_oks(predicted.keypoints, own, oks_sigmas=sigmas)  # (N,)
    correct = oks.pck(predicted.keypoints, own, pck_pair=skeleton.pck_pair)
    error = oks.normalised_error(predicted.keypoints, own)  # (K,)
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
    )


def _mean(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(present.mean()) if len(present) else float("nan")


def as_coco_results(poses: PredictedPoses, source: PoseSource, *, category_id: int = 1) -> list[dict[str, Any]]:
    """The COCO results list: image_id, category_id, keypoints x y score (COCO-WholeBody: in its five lists), score."""
    return [
        {
            "image_id": source.people[position].image_id,
            "category_id": category_id,
            **coco_lists(keypoints, source.skeleton),
            "score": float(score),
        }
        for position, keypoints, score in zip(poses.person.tolist(), poses.keypoints, poses.score, strict=True)
    ]


def person_score(keypoint_scores: np.ndarray, box_score: float, *, has_score: bool) -> float:
    """How sure a model is of a person: the box score times the mean of those keypoint scores (K,) that count.

    Without trained confidences it is the box score alone.
    """
    if not has_score:
        return box_score
    counting = keypoint_scores[keypoint_scores > KEYPOINT_SCORE_COUNTS]
    return float(box_score * counting.mean()) if len(counting) else 0.0


def batch_loader(dataset: TopDownDataset, batches: Any, *, workers: int) -> DataLoader[Any]:
    """A plain loader of `PoseBatch`es for lists of (epoch, index); it draws nothing from the global generator."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),
    )


def _as_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # many processes, each with OpenCV's own threads, would stand in each other's way
