"""What DistilPose costs: parameters, operations, speed beside a plain implementation, student beside teacher, memory.

python benchmarks/distilpose.py [--json results/distilpose-cost.json]     (a quarter of an hour on two cores)

The plain implementation (plain_distilpose.py) is the released method written out: eager, attention as einsum, losses
looped over joints as released. Both sides of a ratio alternate in one run; teacher outputs are given to both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain_distilpose import PlainDistilPose, plain_losses, plain_simulated
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from posestill.engine.optim import OptimiserConfig, build_optimiser
from posestill.engine.surroundings import surroundings
from posestill.methods.distilpose import losses, simulated_heatmap_loss
from posestill.models.cost import macs_as_published
from posestill.models.fold import folded
from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.models.published import DISTILPOSE
from posestill.schema import validate
from posestill.skeletons import COCO_17
from posestill.types import Coords, Heatmaps, PoseOutput, Tokens

TWO_OUTPUTS = {"name": "coords", "bounded": True}
MODELS: dict[str, dict[str, Any]] = {
    **{name: each.model for name, each in DISTILPOSE.items()},
    "tokenpose-stemnet": {"backbone": "stemnet", "head": "token", "codec": "heatmap"},
    "baseline-stemnet": {"backbone": "stemnet", "head": "token", "codec": TWO_OUTPUTS},
    "baseline-hr48-3stage": {"backbone": {"name": "hrnet", "stages": 3}, "head": "token", "codec": TWO_OUTPUTS},
}
PUBLISHED = {"distilpose-s": (5.36, 2.38), "distilpose-l": (21.3, 10.33), "tokenpose-hr48": (69.4, 17.03)}
"""Millions of parameters and billions of operations, as the paper and its repository print them."""
Ways = dict[str, Callable[[], object]]


def build(name: str) -> PoseModel:
    torch.manual_seed(0)
    return PoseModel(validate(ModelConfig, MODELS[name], where=name), COCO_17)


def complexity(name: str) -> dict[str, Any]:
    model = build(name).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 256, 192))
    return {
        "trainable_parameters": sum(each.numel() for each in model.parameters()),
        "g_operations_as_published": macs_as_published(model) / 1e9,
        "g_macs_with_attention": counter.get_total_flops() / 2e9,
        **({"published": PUBLISHED[name]} if name in PUBLISHED else {}),
    }


def alternate(ways: Ways, *, rounds: int, warmup: int = 2) -> dict[str, Any]:
    """Milliseconds of each way, and how many times as fast as the first the others are, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + warmup):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    first = next(iter(ways))
    found: dict[str, Any] = {
        name: {"median_ms": 1000 * statistics.median(each), "min_ms": 1000 * min(each), "max_ms": 1000 * max(each)}
        for name, each in seconds.items()
    }
    for name in ways:
        if name != first:
            ratios = [one / other for one, other in zip(seconds[first], seconds[name], strict=True)]
            found[f"{first} / {name}"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return found


def forward_speed(batch: int, rounds: int) -> dict[str, Any]:
    """Of the model as it is predicted with (its norms folded) and as it is built."""
    plain, ours, image = PlainDistilPose().eval(), build("distilpose-s").eval(), torch.rand(batch, 3, 256, 192)

    def run(model: nn.Module) -> Callable[[], object]:
        def forward() -> None:
            with torch.no_grad():
                model(image)

        return forward

    return alternate({"plain": run(plain), "ours": run(folded(ours)), "ours unfolded": run(ours)}, rounds=rounds)


def step_speed(batch: int, rounds: int) -> dict[str, Any]:
    """Forward, five losses, backward and Adam; the teacher's output is given."""
    image, xy, weight = torch.rand(batch, 3, 256, 192), torch.rand(batch, 17, 2), torch.ones(batch, 17)
    taught = {
        "maps": torch.rand(batch, 17, 64, 48),
        "vis_token": torch.randn(batch, 256, 192),
        "kpt_token": torch.randn(batch, 17, 192),
    }
    answer = PoseOutput(Heatmaps(taught["maps"]), (), Tokens(taught["vis_token"], taught["kpt_token"]))
    plain, ours = PlainDistilPose().train(), build("distilpose-s").train()

    def step(model: nn.Module, optimiser: torch.optim.Optimizer, loss: Callable[[], dict[str, Tensor]]) -> Any:
        def run() -> None:
            optimiser.zero_grad()
            sum(loss().values()).backward()  # type: ignore[union-attr]
            optimiser.step()

        return run

    plain_optimiser = torch.optim.Adam([each for each in plain.parameters() if each.requires_grad], lr=1e-3)
    own_optimiser = build_optimiser(OptimiserConfig(learning_rate=1e-3), ours, [{"params": list(ours.parameters())}])
    ways = {
        "plain": step(plain, plain_optimiser, lambda: plain_losses(plain(image), taught, xy, weight)),
        "ours": step(ours, own_optimiser, lambda: losses(ours(image), answer, xy, weight, weighting="published")),
    }
    return alternate(ways, rounds=rounds)


def against_teacher(batch: int, rounds: int) -> dict[str, Any]:
    models = {name: folded(build(name)) for name in ("tokenpose-hr48", "distilpose-s", "distilpose-l")}
    image = torch.rand(batch, 3, 256, 192)

    def run(model: nn.Module) -> Callable[[], object]:
        def forward() -> None:
            with torch.no_grad():
                model(image)

        return forward

    return alternate({name: run(model) for name, model in models.items()}, rounds=rounds)


def kept_megabytes(loss: Callable[[], Tensor]) -> float:
    """Of all storages that autograd keeps for the backward pass of a loss."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss()
    del result
    return sum(kept.values()) / 1e6


def memory(counts: tuple[int, ...], plain_counts: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"ours": {}, "plain": {}}
    for count in counts:
        xy = torch.rand(count, 17, 2).requires_grad_()
        spread, maps, weight = torch.rand(count, 17, 2), torch.rand(count, 17, 64, 48), torch.ones(count, 17)
        cells = torch.tensor([48.0, 64.0])
        coords = Coords(xy=xy, scale=spread / cells)
        found["ours"][count] = kept_megabytes(
            lambda c=coords, m=maps, w=weight: simulated_heatmap_loss(c, m, w, "published")
        )
        if count in plain_counts:
            student = {"xy": xy, "sigma": spread}
            found["plain"][count] = kept_megabytes(lambda s=student, m=maps, w=weight: plain_simulated(s, m, w))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    figures = {
        "command": "python benchmarks/distilpose.py --json results/distilpose-cost.json",
        "input": [256, 192],
        "precision": "fp32",
        "threads": 2,
        "complexity": {name: complexity(name) for name in MODELS},
        "forward": {str(batch): forward_speed(batch, rounds) for batch, rounds in ((1, 30), (8, 10))},
        "training_step": {str(batch): step_speed(batch, rounds) for batch, rounds in ((8, 9), (32, 3))},
        "teacher_beside_students": {str(batch): against_teacher(batch, rounds) for batch, rounds in ((1, 20), (8, 7))},
        "kept_megabytes_of_the_simulated_heatmap": memory((16, 64, 256), (16, 64)),
        "surroundings": surroundings(),
    }
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if asked.json:
        asked.json.write_text(text)


if __name__ == "__main__":
    main()
