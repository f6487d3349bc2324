"""Exports of every kind of model beside PyTorch: agreement, what eight bits cost, and DistilPose-S in every runtime.

python benchmarks/export.py --json results/export.json   (LiteRT is measured where posestill[litert] is installed)

The small models are trained on synthetic people and kept in --models. A file that is there is gone on with: what it has
is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from posestill.codecs.coords import CoordsConfig
from posestill.deploy.bench import Candidate, Measured, bench
from posestill.deploy.export import People, Wanted, export_model
from posestill.deploy.gate import Gate
from posestill.deploy.runtimes import TARGETS, Target, installed
from posestill.deploy.write import Writer
from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.models.stemnet import StemNetConfig
from posestill.models.token_head import TokenConfig
from posestill.schema import validate
from posestill.skeletons import COCO_17

MAPS = ["model.head={name: deconv, channels: [64, 64]}", "model.codec={name: heatmap, stride: 4, sigma: 1.5}"]
KINDS = {
    "heatmap, deconvolutions": MAPS,
    "coords": [],
    "RLE": ["model.codec=rle"],
    "SimCC": ["model.head=simcc", "model.codec={name: simcc, sigma: [2.5, 2.9]}"],
    "token head": [
        "model.backbone={name: small_resnet, channels: [16, 32, 64], max_pool: false}",
        "model.head={name: token, patch: [2, 2], dim: 96, depth: 4}",
        "model.codec={name: coords, bounded: true}",
    ],
    "kept agent": [*MAPS, "model.neck=agent", "method=agentpose", "teacher=bundled"],
}  # fmt: skip
"""each kind of model, as changes to the recipe `students`"""
PERSONS = 300
"""of the gate; of another seed than those that are trained on"""
LARGE_MODELS = ("DistilPose-S",)


def trained(kind: str, folder: Path, steps: int) -> PoseModel:
    """A small model of a kind, trained now unless an earlier call has done so."""
    run = folder / kind.replace(", ", "-").replace(" ", "-").lower()
    if not (run / "best").is_dir():
        changes = [*KINDS[kind], f"train.steps={steps}", "data.train.people=2000", "data.val.people=50"]
        fit(load_run("students", changes), run, quiet=True)
    return PoseModel.load(run / "best")


def judged(model: PoseModel, targets: list[Target], *, known: bool) -> Gate:
    """What the gate says of fp32, fp16 and int8; no tolerance, so that everything is seen.

    `known`: by the labels of synthetic people, of whom others fit the eight bits; else by agreement alone.
    """
    people = People(count=40)
    if known:
        config = load_run("students", ["data.train.people=400", f"data.val.people={PERSONS}"])
        people = People(config.data.val.build(), config.data.train.build())
    with tempfile.TemporaryDirectory() as folder:
        precisions = ("fp32", "fp16", "int8") if known else ("fp32", "fp16")
        return export_model(model, Wanted(targets, precisions, tolerance=100.0), Path(folder) / "out", people)


def large(name: str) -> PoseModel:
    """DistilPose-S of random weights: what it says means nothing, and how long that takes is what it is."""
    torch.manual_seed(0)
    parts = {
        "size": [256, 192], "backbone": StemNetConfig(), "head": TokenConfig(),
        "codec": CoordsConfig(loss="smooth_l1", bounded=True, score=True, scale=True, mirror_shift=False),
    }  # fmt: skip
    model = PoseModel(validate(ModelConfig, parts, where=name), COCO_17)
    draw = torch.Generator().manual_seed(0)
    for layer in model.modules():  # features of unit size, which float16 can hold and which tell runtimes apart
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            weight = layer.weight.data
            weight.copy_(torch.randn(weight.shape, generator=draw) / weight[0].numel() ** 0.5)
    return model.eval()


def times(name: str, targets: list[Target], rounds: int, threads: int) -> list[dict[str, Any]]:
    """A large model at batch 1, eager and in every runtime, by turns."""
    model = large(name)
    noise = torch.randint(0, 256, (300, 3, *model.config.size), generator=torch.Generator().manual_seed(0)).float()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "folder")
        candidates = [Candidate(Path(folder) / "folder", plain=True), Candidate(Path(folder) / "folder")]
        writer = Writer(model, Path(folder))
        for target in targets:
            candidates.append(Candidate(writer.write(target, "fp32")))
            if target.name == "openvino":
                candidates.append(Candidate(writer.write(target, "fp16")))
            if target.int8:
                candidates.append(Candidate(writer.write(target, "int8", [noise.numpy()])))
        found = bench(candidates, batches=[1], threads=[threads], rounds=rounds)
    return [row_of(each, eager=found[0], folded=found[1]) for each in found]


def row_of(each: Measured, *, eager: Measured, folded: Measured) -> dict[str, Any]:
    return {
        "runtime": each.runtime,
        "median_ms": round(each.median, 2),
        "p95_ms": round(each.p95, 2),
        "turns_ms": [round(value, 2) for value in each.spread],
        "whole_ms": round(each.with_decoding, 2),
        "times_faster_than_eager": round(eager.median / each.median, 2),
        "times_faster_than_eager_with_folded_norms": round(folded.median / each.median, 2),
        "memory_mb": None if each.memory is None else round(each.memory / 1e6),
        "size_mb": round(each.size / 1e6, 2),
        "calls": each.calls,
    }


def rows_of(gate: Gate) -> dict[str, Any]:
    """What the gate found, in short."""
    files = [
        {
            "runtime": row.title, "AP": round(row.ap, 5), "AP_change": round(row.ap - gate.ap, 5),
            "mean_oks": round(row.mean_oks, 5), "px_median": float(f"{row.px_median:.3g}"),
            "px_99": float(f"{row.px_99:.3g}"), "ms": round(row.milliseconds, 3), "size_mb": round(row.size / 1e6, 3),
        }
        for row in gate.rows
    ]  # fmt: skip
    return {
        "persons": gate.persons,
        "labels": gate.labels,
        "pytorch": {"AP": round(gate.ap, 5), "mean_oks": round(gate.mean_oks, 5), "ms": round(gate.milliseconds, 3)},
        "files": files,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("runs/export"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    targets = [target for target in TARGETS.values() if installed(target)]
    torch.set_num_threads(1)
    known: dict[str, Any] = {"agreement": {}, "speed_at_batch_1": {}}
    if options.json is not None and options.json.is_file():
        known = json.loads(options.json.read_text())
    agreement, speed = known["agreement"], known["speed_at_batch_1"]

    def keep() -> None:
        if options.json is not None:
            write_json(options.json, {**described(options), "agreement": agreement, "speed_at_batch_1": speed})

    for name in LARGE_MODELS:
        if name not in speed:
            speed[name] = times(name, targets, options.rounds, options.threads)
            print(name, speed[name], flush=True)
            keep()
    for kind in (*KINDS, "DistilPose-S"):
        if kind not in agreement:
            known_truth = kind in KINDS
            model = trained(kind, options.models, options.steps) if known_truth else large(kind)
            agreement[kind] = rows_of(judged(model, targets, known=known_truth))
            print(kind, agreement[kind], flush=True)
            keep()


def described(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures were measured with."""
    return {
        "command": "python benchmarks/export.py --json results/export.json",
        "models": f"64x48, {options.steps} steps on synthetic people; DistilPose-S at 256x192 has random weights",
        "threads": {"agreement": 1, "speed": options.threads},
        "load": f"{os.getloadavg()[0]:.0f} processes wanted to run on {os.cpu_count()} cores at the end.",
        "surroundings": surroundings(),
    }


if __name__ == "__main__":
    main()
