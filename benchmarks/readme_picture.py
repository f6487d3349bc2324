"""The picture of README: what the bundled token teacher and the quickstart's student say of the same people.

python benchmarks/readme_picture.py [--out docs/teacher-and-student.jpg]     (trains the student)

The first row is the teacher's, the second the student's. The people are spread evenly over those for validation.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from posestill.draw import encode_image
from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.engine.setup import open_sources
from posestill.html.people import seen_by
from posestill.models.pose_model import PoseModel
from posestill.teachers.checkpoint import BUNDLED_TOKENS

PEOPLE, HEIGHT, GAP = 8, 192, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/teacher-and-student.jpg"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = load_run("quickstart")
    with tempfile.TemporaryDirectory() as folder:
        fit(config, Path(folder) / "run")
        models = {"teacher": PoseModel.load(BUNDLED_TOKENS), "student": PoseModel.load(Path(folder) / "run" / "best")}
        people = seen_by(models, open_sources(config).val, count=PEOPLE)
    lines = [np.concatenate([_framed(each.drawings[which].pixels) for each in people], axis=1) for which in (1, 2)]
    asked.out.write_bytes(encode_image(np.concatenate(lines, axis=0)))


def _framed(image: np.ndarray) -> np.ndarray:
    """At one height, with a white frame at two sides."""
    width = round(image.shape[1] * HEIGHT / image.shape[0])
    larger = cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.pad(larger, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
