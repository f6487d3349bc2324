"""What OCD costs: a training step beside the plain student's, what is deployed, and how soon it is as good.

python benchmarks/ocd.py --json results/ocd-cost.json     (ten minutes on two cores that do nothing else)

Both sides of a ratio alternate in one run. "As good": OCD trained for a quarter, a half and three quarters of the
steps, each with its own schedule, against the student alone trained for all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from steps import alternate, batch_of, step_of

from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.engine.setup import Sources, open_sources
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.models.cost import measure
from posestill.models.pose_model import PoseModel
from posestill.skeletons import COCO_17

RECIPE = "coco/student-resnet50-ocd"
RANDOM = ["model.backbone.pretrained=false"]
SETTINGS = {
    "alone": ["method=supervised"],
    "OCD": [],
    "OCD, balanced gradients": ["method={name: ocd, heatmap_weight: auto}"],
}
QUICK = ["data.labelled=400", "data.labelled_per_batch=32", "teacher=null", "train.optimiser.learning_rate=5e-3"]
LENGTHS = (0.25, 0.5, 0.75, 1.0)


def step_cost(count: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a step of each way, and how many times the plain student's."""
    batch = batch_of(count)
    ways = {name: step_of(load_run(RECIPE, [*RANDOM, *changes]), None, batch) for name, changes in SETTINGS.items()}
    return alternate(ways, rounds, beside="alone")


def deployed() -> dict[str, Any]:
    """Parameters and operations of what each way ships."""
    found = {}
    for name, changes in SETTINGS.items():
        run = load_run(RECIPE, [*RANDOM, *changes])
        cost = measure(run.method.build(PoseModel(run.model, COCO_17), None).deployable().eval())
        found[name] = {"parameters": cost.parameters, "macs": cost.macs}
    return found


def quick_session(steps: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Mean OKS and training seconds of the student alone, and of OCD for a share of its steps, by seed."""
    sources: Sources | None = None
    found: dict[str, Any] = {"steps": steps, "seeds": list(seeds), "alone": []}
    found.update({f"OCD x {length:g}": [] for length in LENGTHS})
    for seed in seeds:
        for name, length, method in [("alone", 1.0, "supervised"), *((f"OCD x {each:g}", each, "{name: ocd, width: 64}")
                                                                     for each in LENGTHS)]:  # fmt: skip
            changes = [*QUICK, f"seed={seed}", f"train.steps={round(steps * length)}", f"method={method}"]
            config = load_run("protocol/synthetic", changes)
            sources = sources or open_sources(config)
            with tempfile.TemporaryDirectory() as folder:
                result = fit(config, Path(folder) / "run", sources=sources, quiet=True)
            row = {"mean_oks": result.evaluation.metrics["mean_oks"], "seconds": result.seconds}
            found[name].append(row)
            print(seed, name, row, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    figures = {
        "command": "python benchmarks/ocd.py --json results/ocd-cost.json",
        "recipe": RECIPE,
        "input": [256, 192],
        "precision": "fp32",
        "threads": 2,
        "training_step": {str(count): step_cost(count, rounds) for count, rounds in ((4, 7), (16, 3))},
        "deployed": deployed(),
        "quick_session": {"recipe": "protocol/synthetic", "changes": QUICK, **quick_session(1500, (1, 2, 3))},
        "surroundings": surroundings(),
    }
    write_json(asked.json, figures)


if __name__ == "__main__":
    main()
