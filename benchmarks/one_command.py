"""The one command on photographs without labels, in a process of its own: its time by stage, and what comes of it.

python benchmarks/one_command.py --json results/one-command.json   (needs ../shared/models and ../shared/lsp-photos)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from file_teachers import measure

from posestill.data.coco import CocoConfig
from posestill.engine.choose import STUDENTS
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.teachers.checkpoint import CheckpointConfig
from posestill.teachers.file import FileConfig

PHOTOGRAPHS, SEED = 500, 0
TEACHER, STUDENT = "movenet-thunder.onnx", "small"
STAGES = (
    ("starting, finding people, choosing settings", "student:"),
    ("looking for pretrained weights, asking the teacher about held-out people", "asking the teacher about held-out"),
    ("asking the teacher about the others", "asking the teacher once"),
    ("keeping crops in memory", "keeping crops"),
    ("trying threads", "threads:"),
    ("training", "training"),
    ("figures, pictures and times for the report", "report:"),
)
"""what is being done until the last line that begins so"""


@dataclass(frozen=True)
class Done:
    """A command that ended well."""

    seconds: float
    stages: dict[str, float]
    lines: list[str]


def run(words: list[str], folder: Path) -> Done:
    """Run posestill in `folder` and tell the stages apart by when it said what."""
    began = time.monotonic()
    told: list[tuple[float, str]] = []
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "posestill", *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            told.append((time.monotonic() - began, line.rstrip()))
    if process.returncode:
        sys.exit(f"posestill {shlex.join(words)} ended with {process.returncode}")
    seconds, before, stages = time.monotonic() - began, 0.0, {}
    for name, start in STAGES:
        if ends := [when for when, line in told if line.startswith(start)]:
            stages[name] = ends[-1] - before
            before = ends[-1]
    return Done(seconds, stages, [line for _, line in told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--data", type=Path, default=Path("../shared/lsp-photos"))
    parser.add_argument("--steps", type=int, default=None, help="another length than the command's own")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    there = json.loads((options.data / "annotations" / "train.json").read_text())["images"]
    chosen = random.Random(SEED).sample(sorted(each["file_name"] for each in there), PHOTOGRAPHS)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        for each in chosen:
            shutil.copy(options.data / "images" / each, folder / "photos")
        shutil.copy(options.models / TEACHER, folder)
        words = ["distil", "--images", "photos", "--teacher", TEACHER, "--student", STUDENT, "--out", "runs/mine"]
        if options.steps is not None:
            words += ["--steps", str(options.steps)]
        done = run(words, folder)
        figures = results(folder / "runs" / "mine", folder / TEACHER, options.data)
    length = [] if options.steps is None else [f"--steps {options.steps}"]
    kept = ("weights:", "held out:", "crops:", "length:", "threads")
    report = {
        "command": " ".join(["python benchmarks/one_command.py", *length, "--json results/one-command.json"]),
        "ran": f"posestill {shlex.join(words)}",
        "photographs": f"{PHOTOGRAPHS} of lsp-photos, train, drawn with seed {SEED}; no labels, a frame is one person",
        "minutes": done.seconds / 60,
        "seconds_by_stage": done.stages,
        "load_before": load,
        "student": {"name": STUDENT, "backbone": STUDENTS[STUDENT].backbone, "size": STUDENTS[STUDENT].size},
        "said": [each for each in done.lines if each.startswith(kept)],
        **figures,
        "surroundings": surroundings(),
    }
    if options.json is not None:
        write_json(options.json, report)


def results(run: Path, teacher: Path, data: Path) -> dict[str, Any]:
    """Agreement with the teacher on held-out pictures, size and speed, and both on the labels of other pictures."""
    evaluation, beside = (json.loads((run / name).read_text()) for name in ("eval.json", "beside.json"))
    tune = CocoConfig(
        annotations=data / "annotations" / "tune.json", images=data / "images", metainfo=data / "metainfo.json"
    ).build()
    asked = {
        "student": CheckpointConfig(path=run / "best").build(),
        "teacher": FileConfig(path=teacher).build(),
    }
    on_tune = {name: measure(tune, each)["mean_oks"] for name, each in asked.items()}
    return {
        "steps": evaluation["step"],
        "best_step": evaluation["best_step"],
        "held_out": {
            "people": evaluation["conditions"]["persons"],
            **{name: evaluation[name] for name in ("mean_oks", "AP", "PCK")},
        },
        "beside": {name: beside[name] for name in ("student", "teacher", "threads", "device")},
        "mean_oks_on_tune": {**on_tune, "persons": len(tune.people), "boxes": "ground truth", "flip_test": False},
    }


if __name__ == "__main__":
    main()
