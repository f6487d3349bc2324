"""Where the time of a training step at 256x192 goes, part by part, beside what its arithmetic alone would take.

OMP_NUM_THREADS=1 python benchmarks/step_profile.py --json results/step-profile.json

One thread of a CPU, fp32, random weights: the arithmetic is that of trained ones. Times are of the processor, so that
other work on the machine counts little. The batch is the smallest for which torch takes its fast convolutions on one
thread, too: below 16 persons those of 1x1 go another, slower way. `arithmetic` is what the floating-point operations
of a step, as torch counts them, take at the best rate at which this machine multiplied matrices or convolved;
`operations` are those of torch that take the most.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from loader import spread, write_pictures
from steps import batch_of
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from posestill.data.augment import AugmentConfig
from posestill.data.coco import CocoSource
from posestill.data.topdown import TopDownDataset
from posestill.engine.config import find_recipe, load_run
from posestill.engine.optim import build_optimiser
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.methods.base import Distiller
from posestill.models.average import move_average
from posestill.models.pose_model import PoseModel
from posestill.skeletons import COCO_17
from posestill.teachers.base import ModelTeacher

WAYS = {
    "supervised": ("coco/student-resnet50-ocd", ["method=supervised"], None),
    "DistilPose": ("coco/student-distilpose-s", [], "coco/teacher-tokenpose-stemnet"),
    "OCD": ("coco/student-resnet50-ocd", [], None),
    "TCD": ("coco/student-resnet50-tcd", [], "coco/teacher-resnet50-heatmap"),
    "AgentPose": ("coco/student-mobilenetv2-agentpose", [], "coco/teacher-hrnet48-heatmap"),
    "AgentPose, kept": ("coco/student-mobilenetv2-agentpose-keep", [], "coco/teacher-hrnet48-heatmap"),
}
FEW = 2
PARTS = ("teacher", "student forward", "losses", "backward", "optimiser")


def seconds(work: Callable[[], object]) -> float:
    """Of the processor."""
    began = time.process_time()
    work()
    return time.process_time() - began


class Step:
    """A training step whose parts are timed."""

    def __init__(self, recipe: str, changes: list[str], teacher: str | None, persons: int) -> None:
        torch.manual_seed(0)
        run = load_run(recipe, [*untrained(recipe), *changes])
        taught = None
        if teacher is not None:
            taught = ModelTeacher(PoseModel(load_run(teacher, untrained(teacher)).model, COCO_17))
        self.batch = batch_of(persons)
        self.method: Distiller = run.method.build(PoseModel(run.model, COCO_17), taught).train()
        self.optimiser = build_optimiser(run.train.optimiser, self.method, self.method.parameter_groups())

    def parts(self) -> dict[str, Callable[[], None]]:
        """What is done one after another."""
        method, batch, held = self.method, self.batch, {}

        def ask() -> None:
            held["answer"] = method.ask(batch)

        def predict() -> None:
            held["output"] = method.student(batch.image, method.for_head)

        def lose() -> None:
            losses = method.losses(held["output"], held["answer"], batch, 0.5)
            held["loss"] = torch.stack(list(losses.values())).sum()

        def move() -> None:
            self.optimiser.step()
            self.optimiser.zero_grad()
            method.after_step()

        return dict(zip(PARTS, (ask, predict, lose, lambda: held["loss"].backward(), move), strict=True))

    def __call__(self) -> None:
        for part in self.parts().values():
            part()

    def operations(self) -> float:
        """Floating-point operations a person of a whole step, counted with few persons."""
        whole, self.batch = self.batch, batch_of(FEW)
        with FlopCounterMode(display=False) as counter:
            self()
        self.batch = whole
        return counter.get_total_flops() / FEW


def untrained(recipe: str) -> list[str]:
    """The change by which a recipe's backbone fetches no weights, where it would."""
    return ["model.backbone.pretrained=false"] if "pretrained: true" in find_recipe(recipe).read_text() else []


def rates() -> dict[str, float]:
    """Operations a second of a matrix product and of a convolution of 3x3, the best of some tries."""
    one, maps = torch.rand(768, 768), torch.rand(4, 128, 64, 48).contiguous(memory_format=torch.channels_last)
    convolution = nn.Conv2d(128, 128, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    with torch.no_grad():
        product = min(seconds(lambda: one @ one) for _ in range(30))
        convolving = min(seconds(lambda: convolution(maps)) for _ in range(30))
    return {"matrix product": 2 * 768**3 / product, "convolution": 2 * 4 * 128 * 128 * 9 * 64 * 48 / convolving}


def data_seconds() -> float:
    """Of one core for the crops of a person, from 640x480 JPEGs in the published order."""
    with tempfile.TemporaryDirectory() as made:
        source = CocoSource(write_pictures(Path(made), 40), images=Path(made) / "images")
        dataset = TopDownDataset(source, size=(256, 192), augment=AugmentConfig())
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
        batches = [[(0, index) for index in order[at : at + 16]] for at in range(0, len(order) - 16, 16)]
        return statistics.median(seconds(lambda pairs=pairs: dataset.__getitems__(pairs)) / 16 for pairs in batches)


def measure(step: Step, rounds: int, *, persons: int, data: float, rate: float) -> dict[str, Any]:
    """Milliseconds a person of each part, their shares of the step, and what arithmetic explains of it."""
    arithmetic = 1000 * step.operations() / rate  # which also warms up
    took: dict[str, list[float]] = {name: [] for name in PARTS}
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(rounds):
            for name, part in step.parts().items():
                took[name].append(1000 * seconds(part) / persons)
    wholes = [sum(each) for each in zip(*took.values(), strict=True)]
    parts = {"data": 1000 * data, **{name: statistics.median(each) for name, each in took.items()}}
    average = copy.deepcopy(step.method)
    return {
        "milliseconds_a_person": parts,
        "shares": {name: each / sum(parts.values()) for name, each in parts.items()},
        "step_without_data": spread(wholes),
        "arithmetic_milliseconds_a_person": arithmetic,
        "arithmetic_share": arithmetic / statistics.median(wholes),
        "running_average_milliseconds_a_step": 1000
        * min(seconds(lambda: move_average(average, step.method, 0.999)) for _ in range(3)),
        "operations": slowest(found),
    }


def slowest(found: profile, most: int = 6) -> dict[str, float]:
    """The share of the time that each of torch's operations takes, the largest ones."""
    took = {each.key: each.self_cpu_time_total for each in found.key_averages()}
    return {name: took[name] / sum(took.values()) for name in sorted(took, key=lambda name: -took[name])[:most]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    machine, data = rates(), data_seconds()
    figures: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/step_profile.py --json results/step-profile.json",
        "input": [256, 192],
        "persons": options.persons,
        "rounds": options.rounds,
        "threads": 1,
        "operations_per_second": machine,
        "ways": {},
        "surroundings": surroundings(),
    }
    for name, (recipe, changes, teacher) in WAYS.items():
        step = Step(recipe, changes, teacher, options.persons)
        rate = max(machine.values())
        figures["ways"][name] = measure(step, options.rounds, persons=options.persons, data=data, rate=rate)
        print(name, figures["ways"][name], flush=True)
        if options.json is not None:
            write_json(options.json, figures)


if __name__ == "__main__":
    main()
