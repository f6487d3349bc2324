"""Students for benchmarks/lightning.py: of MoveNet Lightning's multiply-adds at most, and of a third of them.

    python benchmarks/photographs.py           # the data: MoveNet Thunder is asked about lsp-photos
    python benchmarks/photographs_filter.py    # and once more, upright and mirrored
    python benchmarks/photographs_lightning.py --seed 1      # and 2, and 3

trains two students on Thunder's answers alone, into runs/photographs-lightning. `third-1` reads crops of 128x96 px;
`equal-1` reads 224x160 px and begins with the weights of `third-1`, as most of the training costs less at the smaller
size. Both are tf_efficientnet_lite0 from ImageNet weights, cut and with the head that
benchmarks/photographs-lightning-heads.yaml chose on tune, and see the three quarters of the people on whom Thunder's
two answers agree most, as `posestill distil --teacher FILE --images FOLDER` does. A run that was cut off goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.types import Size

OUT = Path("runs/photographs-lightning")
RECIPE = "protocol/photographs"
LEARNING_RATE = 2e-3
PEOPLE = "runs/photographs-filter/persons.json"


@dataclass(frozen=True)
class Student:
    """A size of crops, and how long a student of it is trained."""

    size: Size
    steps: int
    codec: str
    begins_with: str | None = None
    """the student whose weights it starts from; None: ImageNet's"""


STUDENTS = {
    "third": Student((128, 96), steps=5000, codec="{name: heatmap, sigma: 1.4, blur_kernel: 7}"),
    "equal": Student((224, 160), steps=2500, codec="heatmap", begins_with="third"),
}


def main() -> None:
    """Train both students of a seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in STUDENTS:
        config = load_run(RECIPE, settings_of(name, given.seed))
        found = fit(config, folder_of(name, given.seed), resume=True)
        print(f"{name}-{given.seed}: mean OKS on tune {100 * found.evaluation.metrics['mean_oks']:.1f}")


def settings_of(name: str, seed: int) -> Sequence[str]:
    """What a student changes in the recipe."""
    student = STUDENTS[name]
    start = student.begins_with and folder_of(student.begins_with, seed) / "best"
    weights = "../shared/models/tf_efficientnet_lite0.safetensors"
    return [
        f"seed={seed}",
        f"data.train.annotations={PEOPLE}",
        f"model.size={list(student.size)}",
        f"model.backbone={{name: tf_efficientnet_lite0, weights: {weights}, stride: 16}}",
        "model.head={name: deconv, channels: [64, 64]}",
        f"model.codec={student.codec}",
        *([f"model.init_from={start}"] if start else []),
        f"train.steps={student.steps}",
        f"train.optimiser.learning_rate={LEARNING_RATE}",
        "evaluate.flip_test=false",
        "evaluate.every=1000",
        "train.save_every=500",
    ]


def folder_of(name: str, seed: int) -> Path:
    """The run folder of a student."""
    return OUT / f"{name}-{seed}"


if __name__ == "__main__":
    main()
