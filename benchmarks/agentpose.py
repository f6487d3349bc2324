"""What AgentPose costs: a training step beside FitNet's with the same teacher, and what a kept agent adds.

python benchmarks/agentpose.py --json results/agentpose-cost.json     (five minutes on two cores that do nothing else)

MobileNetV2 taught by HRNet-W48 at 256x192, both with random weights: the arithmetic is the same. All ways alternate.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from steps import alternate, batch_of, step_of

from posestill.engine.config import load_run
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.models.cost import measure
from posestill.models.pose_model import PoseModel
from posestill.schema import validate
from posestill.skeletons import COCO_17
from posestill.teachers.base import ModelTeacher

RANDOM = ["model.backbone.pretrained=false"]
STUDENT = "coco/student-mobilenetv2-agentpose"
WAYS = {
    "fitnet": (STUDENT, ["method=fitnet"]),
    "agentpose": (STUDENT, []),
    "agentpose, kept": (STUDENT, ["model.neck=agent"]),
    "agentpose_paper": (STUDENT, ["model.neck=agent_paper", "method=agentpose_paper"]),
    "diffkd": (STUDENT, ["method=diffkd"]),
}


def step_cost(count: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a step of each way, and how many times FitNet's."""
    torch.manual_seed(0)
    taught = load_run("coco/teacher-hrnet48-heatmap", RANDOM)
    teacher, batch = ModelTeacher(PoseModel(taught.model, COCO_17)), batch_of(count)
    ways = {
        name: step_of(load_run(recipe, [*RANDOM, *changes]), teacher, batch) for name, (recipe, changes) in WAYS.items()
    }
    return alternate(ways, rounds, beside="fitnet")


def deployed() -> dict[str, Any]:
    """Parameters and operations of what ships, for one to five evaluations of a kept agent."""
    plain = load_run(STUDENT, RANDOM).model
    found = {"dropped": measure(PoseModel(plain, COCO_17).eval())}
    for evaluations in (1, 2, 5):
        neck = {"name": "agent", "agent": {"evaluations": evaluations}}
        model = validate(type(plain), {**plain.model_dump(mode="json"), "neck": neck}, where="benchmark")
        found[f"kept, {evaluations} evaluations"] = measure(PoseModel(model, COCO_17).eval())
    return {
        name: {
            "parameters": cost.parameters,
            "macs": cost.macs,
            "macs / dropped": cost.macs / found["dropped"].macs,
            "milliseconds": cost.milliseconds,
        }
        for name, cost in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    figures = {
        "command": "python benchmarks/agentpose.py --json results/agentpose-cost.json",
        "teacher": "coco/teacher-hrnet48-heatmap",
        "input": [256, 192],
        "precision": "fp32",
        "threads": 2,
        "training_step": {"4": step_cost(4, 7)},
        "deployed": deployed(),
        "surroundings": surroundings(),
    }
    write_json(asked.json, figures)


if __name__ == "__main__":
    main()
