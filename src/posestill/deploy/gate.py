"""The gate: an export counts only if the persons of a validation set come out of it as they come out of PyTorch.

The path that is judged is the one that ships: crops by `decoder.py`, the file in its runtime, decoding by `decoder.py`.
Where it is off, each of these three is swapped for posestill's own in turn, so that the one which drifted has a name.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from posestill.data.source import PoseSource
from posestill.data.topdown import Labels, TopDownDataset
from posestill.deploy import decoder
from posestill.deploy.graph import Precision, prediction_of
from posestill.deploy.runtimes import TARGETS, ExportedNetwork
from posestill.evaluation.evaluate import (
    KEYPOINT_SCORE_COUNTS,
    PredictedPoses,
    labelled_people,
    person_score,
    score_poses,
)
from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.skeletons import Skeleton
from posestill.types import Person

TOLERANCE: dict[Precision, float] = {"fp32": 0.1, "fp16": 0.5, "int8": 1.0}
"""points of AP (of 100) that a file may lose, where the user says nothing"""
LEAST_AP = 0.01
"""below this AP labels cannot tell a good export from a bad one"""
LOT = 16
"""persons in memory at a time"""
ROUNDS = 15
"""how often each file is timed, by turns"""
WORST = 1e3
"""px that an answer which is no number counts as off"""
Stage = Literal["crop", "network", "decoding"]
STAGES: tuple[Stage, ...] = ("crop", "network", "decoding")


@dataclass(frozen=True)
class Judged:
    """One file beside PyTorch."""

    title: str
    file: str
    precision: Precision
    ap: float
    """with the labels or, where only agreement is judged, with PyTorch's own answers in their place"""
    mean_oks: float
    lost: float
    """points (of 100) of AP or, where only agreement is judged, of mean OKS"""
    tolerance: float
    px_median: float
    """of the distances to PyTorch's keypoints, px of the crop"""
    px_99: float
    stages: dict[Stage, float]
    """mean px that each stage moves the keypoints by"""
    milliseconds: float
    """median of the network alone, batch 1"""
    size: int
    """bytes"""

    @property
    def passes(self) -> bool:
        """Whether it loses no more than it may."""
        return self.lost <= self.tolerance

    @property
    def drifted(self) -> Stage:
        """The stage that moves the keypoints most."""
        return max(STAGES, key=lambda stage: self.stages[stage])


@dataclass(frozen=True)
class Gate:
    """What the gate found."""

    ap: float
    """PyTorch's"""
    mean_oks: float
    milliseconds: float
    persons: int
    labels: bool
    """False: only agreement with PyTorch was judged"""
    why: str
    """no labels: why"""
    rows: tuple[Judged, ...]

    @property
    def failed(self) -> tuple[Judged, ...]:
        """The files that lose too much."""
        return tuple(row for row in self.rows if not row.passes)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        pytorch = {"AP": self.ap, "mean_oks": self.mean_oks, "milliseconds": self.milliseconds}
        return {
            "persons": self.persons,
            "judged_by": "labels" if self.labels else f"agreement with PyTorch alone: {self.why}",
            "px": "of the crop; keypoints that PyTorch is sure of, where the model has scores",
            "threads": torch.get_num_threads(),
            "pytorch": pytorch,
            "files": [
                {**vars(row), "passes": row.passes, **({} if row.passes else {"drifted": row.drifted})}
                for row in self.rows
            ],
        }


def judge(
    model: PoseModel,
    files: Sequence[Path],
    source: PoseSource,
    *,
    labels: bool = True,
    tolerance: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Gate:
    """Run a source's persons through PyTorch and through every file; `labels` False: only agreement is judged."""
    networks = [ExportedNetwork(path) for path in files]
    persons = labelled_people(source)
    reference = folded(model)
    found = [_Found() for _ in networks]
    own = _Found()
    for at in range(0, len(persons), LOT):
        lot = _Lot(reference, source, persons[at : at + LOT])
        own.add(lot.poses, np.zeros((3, *lot.truth.shape[:2])), np.zeros(lot.truth.shape[:2]))
        for network, each in zip(networks, found, strict=True):
            each.add(*lot.through(network))
        if progress is not None:
            progress(len(lot.people))
    times = _times(reference, networks)
    truth: PoseSource = source
    why = "there are no labelled validation persons"
    base = _figures(model, source, persons, own.poses()) if labels else (0.0, 0.0)
    if labels and base[0] < LEAST_AP:
        labels, why = False, f"the model's own AP is {100 * base[0]:.1f}, which cannot tell a good file from a bad one"
    if not labels:
        truth = Answered(source, model.skeleton, persons, own.poses())
        base = _figures(model, truth, persons, own.poses())
    sure = _sure(model, own.poses()[..., 2])
    rows = []
    for network, each, taken in zip(networks, found, times[1:], strict=True):
        ap, similarity = _figures(model, truth, persons, each.poses())
        distance = np.concatenate(each.distances)[sure]
        precision: Precision = network.told["precision"]
        stages = np.concatenate(each.moves, axis=1)[:, sure].mean(axis=1)
        rows.append(
            Judged(
                title=f"{TARGETS[network.told['runtime']].title} {precision}",
                file=network.path.name,
                precision=precision,
                ap=ap,
                mean_oks=similarity,
                lost=100 * ((base[0] - ap) if labels else (base[1] - similarity)),
                tolerance=TOLERANCE[precision] if tolerance is None else tolerance,
                px_median=float(np.median(distance)),
                px_99=float(np.quantile(distance, 0.99)),
                stages=dict(zip(STAGES, stages.tolist(), strict=True)),
                milliseconds=taken,
                size=bytes_of(network.path),
            )
        )
    return Gate(base[0], base[1], times[0], len(persons), labels, "" if labels else why, tuple(rows))


def bytes_of(path: Path) -> int:
    """What a network takes on disk, its weights included where these lie in a file of their own."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0)


class Answered:
    """A source whose labels are a model's own answers: what shows agreement where nobody knows the truth."""

    def __init__(self, source: PoseSource, skeleton: Skeleton, persons: np.ndarray, poses: np.ndarray) -> None:
        """`poses` (N, K, 3) are the answers on the persons (N,), image px."""
        self.skeleton, self._source = skeleton, source
        seen = np.concatenate([poses[..., :2], np.full((*poses.shape[:2], 1), 2.0)], axis=-1)
        answered: dict[int, np.ndarray] = dict(zip(persons.tolist(), seen, strict=True))
        self.people: Sequence[Person] = [
            replace(person, keypoints=answered.get(at)) for at, person in enumerate(source.people)
        ]

    @property
    def image_ids(self) -> Collection[int]:
        """Those of the source."""
        return self._source.image_ids

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._source.image(image_id)


@dataclass
class _Found:
    """What one way of running the model says, lot by lot."""

    answers: list[np.ndarray] = field(default_factory=list)
    moves: list[np.ndarray] = field(default_factory=list)
    distances: list[np.ndarray] = field(default_factory=list)

    def add(self, poses: np.ndarray, moves: np.ndarray, distances: np.ndarray) -> None:
        """`poses` (B, K, 3) image px; `moves` (3, B, K) px that each stage moves; `distances` (B, K) to PyTorch's."""
        self.answers.append(poses)
        self.moves.append(moves)
        self.distances.append(distances)

    def poses(self) -> np.ndarray:
        """(N, K, 3) image px."""
        return np.concatenate(self.answers)


class _Lot:
    """Some persons, as PyTorch sees them."""

    def __init__(self, model: PoseModel, source: PoseSource, persons: np.ndarray) -> None:
        self.model = model
        shown = np.zeros(len(persons), dtype=bool)
        labels = Labels(persons, shown)
        batch = TopDownDataset(Unlabelled(source, model.skeleton), size=model.config.size, labels=labels).__getitems__(
            [(0, index) for index in range(len(persons))]
        )
        self.people = [source.people[int(at)] for at in persons]
        self.pictures = [source.image(person.image_id) for person in self.people]
        self.crops = batch.image.permute(0, 2, 3, 1).contiguous().numpy()  # (B, H, W, 3)
        with torch.no_grad():
            self.like = model(torch.zeros(1, 3, *model.config.size)).prediction
        self.truth = self._seen(self.crops)  # (B, K, 3) px of the crop
        self.poses = decoder.place(self.truth, batch.to_image.double().numpy())

    def through(self, network: ExportedNetwork) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Poses (B, K, 3) image px of the path that ships, px (3, B, K) that each stage moves, and (B, K) all do."""
        told = network.told
        cuts = [decoder.cut(image, person.bbox, told) for image, person in zip(self.pictures, self.people, strict=True)]
        crops, back = np.stack([cut for cut, _ in cuts]), np.stack([affine for _, affine in cuts])
        cropped = self.truth if np.array_equal(crops, self.crops) else self._seen(crops)
        outputs = network(decoder.tensor(crops, told))
        ended = decoder.decode(outputs, told)
        ran = ended if told["decode"] == "inside" else self._decoded(outputs)
        moves = np.stack([_apart(self.truth, cropped), _apart(cropped, ran), _apart(ran, ended)])
        return np.nan_to_num(decoder.place(ended, back), posinf=0, neginf=0), moves, _apart(self.truth, ended)

    def _seen(self, crops: np.ndarray) -> np.ndarray:
        found = self.model.predict(torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous())
        return torch.cat([found.xy, found.score[..., None]], dim=-1).double().numpy()

    def _decoded(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in outputs.items()}
        assert self.like is not None
        found = self.model.codec.decode(prediction_of(given, self.like))
        return torch.cat([found.xy, found.score[..., None]], dim=-1).double().numpy()


class Unlabelled:
    """The persons of a source without their labels, under the keypoints of a model: what crops are cut of."""

    def __init__(self, source: PoseSource, skeleton: Skeleton) -> None:
        self.skeleton, self._source = skeleton, source
        self.people, self.image_ids = source.people, source.image_ids

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._source.image(image_id)


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(B, K) px between keypoints (B, K, 3); what is no number is far off."""
    distance = np.linalg.norm(first[..., :2] - second[..., :2], axis=-1)
    return np.minimum(np.nan_to_num(distance, nan=WORST, posinf=WORST), WORST)


def _sure(model: PoseModel, scores: np.ndarray) -> np.ndarray:
    """(N, K) bool: the keypoints whose places mean something; all where the model does not say."""
    sure = scores > KEYPOINT_SCORE_COUNTS
    return sure if model.codec.has_score and sure.any() else np.ones_like(sure)


def _figures(model: PoseModel, truth: PoseSource, persons: np.ndarray, poses: np.ndarray) -> tuple[float, float]:
    """AP and mean OKS of poses (N, K, 3), image px, of persons (N,)."""
    people = [truth.people[int(at)] for at in persons]
    scores = [
        person_score(pose[:, 2], person.score, rescoring=model.codec.rescoring)
        for pose, person in zip(poses, people, strict=True)
    ]
    predicted = PredictedPoses(
        person=persons,
        image_id=np.array([person.image_id for person in people], dtype=np.int64),
        keypoints=poses,
        score=np.array(scores),
    )
    metrics = score_poses(predicted, truth, own_boxes=True, conditions={}).metrics
    return max(metrics["AP"], 0.0), metrics["mean_oks"]


def _times(model: PoseModel, networks: Sequence[ExportedNetwork]) -> list[float]:
    """Median milliseconds of PyTorch and of each network at batch 1, measured by turns."""
    blank = np.full((1, *model.config.size, 3), 127, dtype=np.uint8)
    image = torch.from_numpy(blank).permute(0, 3, 1, 2).contiguous()
    calls: list[Callable[[], object]] = [lambda: model(image)]
    calls += [lambda network=network: network(decoder.tensor(blank, network.told)) for network in networks]  # type: ignore[misc]
    taken: list[list[float]] = [[] for _ in calls]
    with torch.no_grad():
        for turn in range(ROUNDS + 2):
            for call, own in zip(calls, taken, strict=True):
                began = time.perf_counter()
                call()
                if turn >= 2:  # the first two only warm up
                    own.append(1000 * (time.perf_counter() - began))
    return [statistics.median(own) for own in taken]


def table(gate: Gate) -> list[str]:
    """The gate as lines: PyTorch first, then every file."""
    what = "labels" if gate.labels else "PyTorch's own answers in the place of labels"
    lines = [
        f"{gate.persons} persons, {what}; AP and mean OKS x 100, distances to PyTorch's keypoints in px of the crop, "
        "ms of the network at batch 1",
        f"{'':<20}{'AP':>7}{'change':>9}{'mean OKS':>10}{'median px':>11}{'99 % px':>9}{'ms':>9}{'MB':>7}",
        f"{'PyTorch':<20}{100 * gate.ap:>7.2f}{'':>9}{100 * gate.mean_oks:>10.2f}{'':>20}{gate.milliseconds:>9.2f}",
    ]
    for row in gate.rows:
        lines.append(
            f"{row.title:<20}{100 * row.ap:>7.2f}{100 * (row.ap - gate.ap):>+9.2f}{100 * row.mean_oks:>10.2f}"
            f"{row.px_median:>11.4f}{row.px_99:>9.3f}{row.milliseconds:>9.2f}{row.size / 1e6:>7.2f}"
            + ("" if row.passes else "  fails")
        )
    if not gate.labels:
        lines.append(f"only agreement with PyTorch was checked: {gate.why}")
    return lines


def failure(row: Judged, *, labels: bool) -> str:
    """Why a file does not pass, in a line."""
    what = "AP" if labels else "mean OKS with PyTorch's answers"
    moved = row.stages[row.drifted]
    return (
        f"{row.title} loses {row.lost:.2f} points of {what}, and {row.tolerance:g} may be lost: the {row.drifted} "
        f"drifted, which moves keypoints by {moved:.2f} px on average"
    )
