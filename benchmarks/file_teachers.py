"""Published networks in files as teachers: how well they place the limbs of photographed athletes, and at what cost.

python benchmarks/file_teachers.py --json results/file-teachers.json   (needs ../shared/models and ../shared/lsp-photos)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posestill.data.coco import CocoConfig, CocoSource
from posestill.data.topdown import TopDownDataset
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.geometry import PADDING, Framing, transform_batch
from posestill.keypoints.names import same_keypoint
from posestill.metrics import oks
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import to_student
from posestill.teachers.file import FileConfig
from posestill.types import PoseBatch

FILES = (
    ("MoveNet Thunder", "movenet-thunder.onnx", "movenet"),
    ("MoveNet Thunder, its heatmaps", "movenet-thunder.onnx", "movenet-maps"),
    ("MoveNet Lightning", "movenet-lightning.onnx", "movenet"),
    ("MoveNet MultiPose", "movenet-multipose.onnx", "movenet-multipose"),
    ("BlazePose full", "blazepose-full.tflite", "blazepose"),
    ("BlazePose full, upright crops", "blazepose-full.tflite", "blazepose-upright"),
    ("BlazePose lite", "blazepose-lite.tflite", "blazepose"),
    ("BlazePose lite, upright crops", "blazepose-lite.tflite", "blazepose-upright"),
)
STUDENT = (256, 256)
"""(height, width) of the student in whose crops the teachers answer"""
LOT = 16


def batches(source: CocoSource, teacher: Teacher) -> Iterator[PoseBatch]:
    """Every person once, upright, cut for the student and for the teacher."""
    crops = TopDownDataset(source, size=STUDENT, teacher_size=teacher.input_size, teacher_padding=teacher.padding)
    for start in range(0, len(crops), LOT):
        yield crops.__getitems__([(0, index) for index in range(start, min(start + LOT, len(crops)))])


@dataclass(frozen=True)
class Asked:
    """A teacher's answers to all persons of a source, judged on the keypoints that both know."""

    similarity: np.ndarray
    """(N,) OKS; NaN for a person without labels"""
    scores: np.ndarray
    """(N, known keypoints)"""
    milliseconds: float
    """of a person"""


def measure(source: CocoSource, teacher: Teacher) -> dict[str, Any]:
    """Mean OKS over the persons, on the keypoints that the data and the teacher have in common, and ms a person."""
    asked = ask(source, teacher)
    return {
        "mean_oks": float(np.nanmean(asked.similarity)),
        "mean_score": float(asked.scores.mean()),
        "milliseconds": asked.milliseconds,
        "input": teacher.input_size,
        "padding": teacher.padding,
        "keypoints": asked.scores.shape[1],
        "lineage": teacher.lineage,
    }


def ask(source: CocoSource, teacher: Teacher) -> Asked:
    """Ask a teacher about every person of a source once, in an upright crop."""
    own = source.skeleton
    names = [same_keypoint(name, teacher.skeleton.names) for name in own.names]
    known = [name is not None for name in names]
    at = [0 if name is None else teacher.skeleton.names.index(name) for name in names]
    places, scores, seconds = [], [], 0.0
    for batch in batches(source, teacher):
        began = time.perf_counter()
        answer = teacher(batch)
        seconds += time.perf_counter() - began
        found = teacher.codec.decode(answer.prediction)
        xy = to_student(found.xy, teacher=teacher.framing, student=Framing(STUDENT), mirrored=batch.mirrored())
        places.append(transform_batch(xy, batch.to_image).double().numpy()[:, at])
        scores.append(found.score.numpy()[:, at][:, known])
    shown = []
    for person in source.people:
        assert person.keypoints is not None
        keypoints = person.keypoints.copy()
        keypoints[np.logical_not(known), 2] = 0
        shown.append(replace(person, keypoints=keypoints))
    truth = oks.LabelledPeople.of(shown, len(own))
    return Asked(
        similarity=oks.mean_oks(np.concatenate(places), truth, oks_sigmas=own.oks_sigmas),
        scores=np.concatenate(scores),
        milliseconds=1000 * seconds / len(source.people),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--data", type=Path, default=Path("../shared/lsp-photos"))
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = CocoConfig(
        annotations=options.data / "annotations" / "tune.json", images=options.data / "images",
        metainfo=options.data / "metainfo.json",
    ).build()  # fmt: skip
    rows = []
    for title, file, layout in FILES:
        teacher = FileConfig(path=options.models / file, layout=layout).build()
        rows.append({"title": title, "layout": layout, **measure(source, teacher)})
        row = rows[-1]
        print(f"{title:<32}{100 * row['mean_oks']:6.1f}{row['milliseconds']:8.1f} ms", flush=True)
    if options.json is not None:
        figures = {
            "command": "python benchmarks/file_teachers.py --json results/file-teachers.json",
            "data": "lsp-photos, tune",
            "persons": len(source.people),
            "boxes": "ground truth",
            "flip_test": False,
            "student_size": STUDENT,
            "student_padding": PADDING,
            "rows": rows,
            "conditions": "one thread, beside other work",
            "surroundings": surroundings(),
        }
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
