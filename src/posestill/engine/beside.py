"""A student beside its teacher: size, time a crop, and how right both are on the same people."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posestill.data.images import TaughtSource
from posestill.engine.config import RunConfig
from posestill.engine.judged import OnLabels, Poses, on_labels_of, on_labels_of_pictures, with_teachers_answers
from posestill.engine.setup import Sources
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.models.device import choose_device
from posestill.models.fold import folded
from posestill.models.pose_model import WEIGHTS, PoseModel
from posestill.teachers.base import Teacher
from posestill.teachers.checkpoint import BUNDLED, BUNDLED_TOKENS, BundledConfig, BundledTokensConfig
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
    parameters: int | None
    """with batch norms folded; None where it is a file that a runtime executes"""


@dataclass(frozen=True)
class Beside:
    """The student beside its teacher, or alone where it has none."""

    student: Cost
    teacher: Cost | None
    threads: int
    device: str
    on_labels: OnLabels | None
    """None where nobody has labels"""
    held: Poses | None
    """both on held-out people without labels; None where the run is judged by labels"""

    def as_json(self) -> dict[str, Any]:
        """The figures as plain values, for a file."""
        return {
            "student": asdict(self.student),
            "teacher": None if self.teacher is None else asdict(self.teacher),
            "threads": self.threads,
            "device": self.device,
            "on_labels": None if self.on_labels is None else self.on_labels.as_json(),
            "surroundings": surroundings(),
        }


def put_beside(config: RunConfig, folder: Path, sources: Sources) -> Beside:
    """Measure the student in `folder/best` and its teacher, if any, and write `beside.json`."""
    device = choose_device(config.train.device, option="train.device")
    student = PoseModel.load(folder / "best").to(device)
    teacher = None if config.teacher is None else config.teacher.build()
    held, on_labels = None, None
    if isinstance(sources.val, TaughtSource):
        held = with_teachers_answers(student, sources.val, config.evaluate, device)
        if sources.labelled is not None:
            on_labels = on_labels_of_pictures(student, sources.val, sources.labelled, config.evaluate, device)
    else:
        on_labels = on_labels_of(student, teacher, sources.val, config.evaluate, device)
    shipped = folded(student)
    asked: dict[str, Callable[[], object]] = {"student": _asks_student(shipped, device)}
    if teacher is not None:
        asked["teacher"] = _asks_teacher(teacher.to(device), device)
    times = alternating(asked, device=device)
    beside = Beside(
        student=_cost(times["student"], student.config.size, folder / "best" / WEIGHTS, _parameters(shipped)),
        teacher=None
        if teacher is None
        else _cost(
            times["teacher"], teacher.input_size, _file_of(config), _parameters(getattr(teacher, "model", None))
        ),
        threads=torch.get_num_threads(),
        device=device.type,
        on_labels=on_labels,
        held=held,
    )
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


def _cost(times: list[float], size: Size, file: Path | None, parameters: int | None) -> Cost:
    return Cost(
        size=size,
        milliseconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
        bytes=_bytes(file),
        parameters=parameters,
    )


def _parameters(model: object) -> int | None:
    """How many parameters a model has, its batch norms folded; None of what is a file that a runtime executes."""
    return sum(each.numel() for each in model.parameters()) if isinstance(model, PoseModel) else None


def _file_of(config: RunConfig) -> Path | None:
    """The file that holds the teacher's weights; None where nothing tells which it is."""
    bundled: dict[type, Path] = {BundledConfig: BUNDLED, BundledTokensConfig: BUNDLED_TOKENS}
    path: Path | None = getattr(config.teacher, "path", bundled.get(type(config.teacher)))
    return path / WEIGHTS if path is not None and path.is_dir() else path


def _bytes(path: Path | None) -> int | None:
    """The size of a file with what lies beside it under the same name, as OpenVINO's .bin does."""
    if path is None or not path.is_file():
        return None
    beside = [path.with_suffix(".bin"), path.with_name(f"{path.name}.data"), path.with_name(f"{path.name}_data")]
    return sum(each.stat().st_size for each in {path, *beside} if each.is_file())
