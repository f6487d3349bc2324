"""A student beside its teacher: size, time a crop, and figures on labels where some held-out pictures have any."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posestill.data.images import TaughtSource
from posestill.data.source import PoseSource
from posestill.engine.config import RunConfig
from posestill.engine.setup import Sources
from posestill.engine.surroundings import surroundings
from posestill.evaluation.evaluate import Share, labelled_people, predict_poses, score_poses
from posestill.files import write_json
from posestill.metrics.oks import LabelledPeople
from posestill.models.device import choose_device
from posestill.models.fold import folded
from posestill.models.pose_model import WEIGHTS, PoseModel
from posestill.teachers.base import Teacher
from posestill.teachers.checkpoint import BUNDLED
from posestill.types import PoseBatch, Size

REPEATS, WARMUP = 30, 5
FILE = "beside.json"
"""in the run folder"""


@dataclass(frozen=True)
class Cost:
    """What one of the two costs."""

    size: Size
    """(height, width) of its crops, px"""
    milliseconds: float
    """a crop, from its px to keypoints: the median of `REPEATS`"""
    fastest: float
    slowest: float
    bytes: int | None
    """of its file; None where it has none of its own"""


@dataclass(frozen=True)
class OnLabels:
    """Both on the labelled people of the held-out pictures, each judged by the pose of its picture that fits best."""

    persons: int
    boxes: str
    """by which both were shown people: the run's own, as in use"""
    keypoints: tuple[str, ...]
    """that labels and student share"""
    mean_oks: dict[str, float]
    """of `student` and `teacher`"""
    pck: dict[str, float]


@dataclass(frozen=True)
class Beside:
    """The student beside its teacher."""

    student: Cost
    teacher: Cost
    threads: int
    device: str
    on_labels: OnLabels | None

    def as_json(self) -> dict[str, Any]:
        """The same as plain values, for a file."""
        return {**asdict(self), "surroundings": surroundings()}


def put_beside(config: RunConfig, folder: Path, sources: Sources) -> Beside:
    """Measure the student in `folder/best` and its teacher, and write `beside.json`."""
    assert config.teacher is not None
    device = choose_device(config.train.device, option="train.device")
    student, teacher = PoseModel.load(folder / "best").to(device), config.teacher.build()
    teacher.to(device)
    on_labels = None
    if sources.labelled is not None and isinstance(sources.val, TaughtSource):
        on_labels = _on_labels(student, sources.val, sources.labelled, config, device)
    asked = {
        "student": _asks_student(folded(student), device),
        "teacher": _asks_teacher(teacher, device),
    }
    times = alternating(asked, device=device)
    sizes = {"student": student.config.size, "teacher": teacher.input_size}
    files = {"student": folder / "best" / WEIGHTS, "teacher": _file_of(config)}
    costs = {
        name: Cost(
            size=sizes[name],
            milliseconds=statistics.median(found),
            fastest=min(found),
            slowest=max(found),
            bytes=_bytes(files[name]),
        )
        for name, found in times.items()
    }
    beside = Beside(costs["student"], costs["teacher"], torch.get_num_threads(), device.type, on_labels)
    write_json(folder / FILE, beside.as_json())
    return beside


def alternating(asked: dict[str, Callable[[], object]], *, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of some pieces of work, in turn, so that whatever else the machine does meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(WARMUP + REPEATS):
        for name, ask in asked.items():
            began = time.perf_counter()
            ask()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= WARMUP:
                times[name].append(1000 * (time.perf_counter() - began))
    return times


def _asks_student(student: PoseModel, device: torch.device) -> Callable[[], object]:
    crop = _crop(student.config.size)
    return lambda: student.predict(torch.from_numpy(crop).to(device)).xy.cpu()


def _asks_teacher(teacher: Teacher, device: torch.device) -> Callable[[], object]:
    crop = torch.from_numpy(_crop(teacher.input_size))
    zeros = torch.zeros(1, 1, 2)
    places = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]])

    def ask() -> object:
        batch = PoseBatch(
            image=crop.to(device), keypoints=zeros, weight=zeros[..., 0], to_image=places, index=torch.zeros(1).long()
        )
        return teacher.codec.decode(teacher(batch).prediction).xy.cpu()

    return ask


def _crop(size: Size) -> np.ndarray:
    """(1, 3, H, W) uint8: a crop of noise; what is on it changes no time but that of finding people."""
    return np.random.default_rng(0).integers(0, 256, size=(1, 3, *size), dtype=np.uint8)


def _on_labels(
    student: PoseModel, held: TaughtSource, labelled: PoseSource, config: RunConfig, device: torch.device
) -> OnLabels | None:
    """Of the student and of the teacher's answers, on the labels of held-out pictures; None where nobody has any."""
    persons = labelled_people(labelled)
    if not len(persons):
        return None
    everyone = np.arange(len(held.people))
    own = predict_poses(student, held, everyone, config.evaluate, Share(device=device))
    taught = replace(own, keypoints=held.answers, score=held.answers[..., 2].mean(axis=1))
    found = {
        name: score_poses(poses, labelled, own_boxes=False, conditions={}).metrics
        for name, poses in (("student", own), ("teacher", taught))
    }
    truth = LabelledPeople.of([labelled.people[row] for row in persons], len(labelled.skeleton))
    there = np.flatnonzero(truth.labelled.any(axis=0))
    return OnLabels(
        persons=len(persons),
        boxes=held.boxes,
        keypoints=tuple(labelled.skeleton.names[at] for at in there),
        mean_oks={name: each["mean_oks"] for name, each in found.items()},
        pck={name: each["PCK"] for name, each in found.items()},
    )


def _file_of(config: RunConfig) -> Path:
    """The file that holds the teacher's weights."""
    path = getattr(config.teacher, "path", BUNDLED)
    return path / WEIGHTS if path.is_dir() else path


def _bytes(path: Path) -> int | None:
    """The size of a file with what lies beside it under the same name, as OpenVINO's .bin does."""
    if not path.is_file():
        return None
    beside = [path.with_suffix(".bin"), path.with_name(f"{path.name}.data"), path.with_name(f"{path.name}_data")]
    return sum(each.stat().st_size for each in {path, *beside} if each.is_file())
