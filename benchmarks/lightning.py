"""Students of MoveNet Thunder beside MoveNet Lightning, on the same people: by how much do they differ, at what cost?

    python benchmarks/lightning.py --json results/lightning.json

evaluates the students of benchmarks/photographs_lightning.py on test, asks Lightning about the same persons, in upright
square crops around their boxes, and times both networks by turns, on one thread and in one runtime. None mirrors its
crops. Thunder, whose answers the students learned, is told beside them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from file_teachers import Asked, ask
from onnx import shape_inference
from photographs_lightning import PEOPLE, STUDENTS, folder_of

from posestill.data.coco import CocoConfig, CocoSource
from posestill.deploy.bench import Candidate, bench
from posestill.deploy.runtimes import TARGETS
from posestill.deploy.write import Writer
from posestill.engine.surroundings import surroundings
from posestill.evaluation.evaluate import EvaluateConfig, evaluate_model
from posestill.files import write_json
from posestill.models.cost import measure
from posestill.models.pose_model import PoseModel
from posestill.study.intervals import Difference, difference
from posestill.teachers.file import FileConfig

STUDY = Path("runs/photographs")
"""what benchmarks/photographs.py has written"""


def main() -> None:
    """Measure, say it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--images", type=Path, default=Path("../shared/lsp-photos/images"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--split", choices=["tune", "test"], default="test")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    marks = {name: given.models / f"movenet-{name}.onnx" for name in ("lightning", "thunder")}
    told: dict[str, Any] = {
        "command": "python benchmarks/lightning.py --json results/lightning.json", "split": given.split,
        "flip_test": False, "people": len(json.loads(Path(PEOPLE).read_text())["annotations"]), "networks": {},
        "students": {},
    }  # fmt: skip
    source = CocoConfig(
        annotations=STUDY / f"{given.split}.json", images=given.images, metainfo=STUDY / "metainfo.json"
    ).build()
    asked = {name: ask(source, FileConfig(path=path, layout="movenet").build()) for name, path in marks.items()}
    for name, path in marks.items():
        told["networks"][name] = {"mean_oks": float(np.nanmean(asked[name].similarity)), **cost_of_file(path)}
        print(name, told["networks"][name])
    for name in STUDENTS:
        told["students"][name] = compare(name, given.seeds, source, asked["lightning"], marks["lightning"])
        print(name, told["students"][name])
    told["surroundings"] = surroundings()
    if given.json is not None:
        write_json(given.json, told)


def compare(name: str, seeds: Sequence[int], source: CocoSource, mark: Asked, file: Path) -> dict[str, Any]:
    """A student, seed by seed, and its difference from the mark over seeds and persons; of those that are trained."""
    seeds = [seed for seed in seeds if (folder_of(name, seed) / "eval.json").is_file()]
    models = [PoseModel.load(folder_of(name, seed) / "best") for seed in seeds]
    found = [evaluate_model(each, source, EvaluateConfig(flip_test=False)) for each in models]
    own = np.stack([each.similarity for each in found])
    over = difference(own, np.broadcast_to(mark.similarity, own.shape))
    cost = measure(models[0])
    return {
        "seeds": list(seeds),
        "steps": STUDENTS[name].steps,
        "size": STUDENTS[name].size,
        "persons": over.persons,
        "mean_oks": {seed: each.metrics["mean_oks"] for seed, each in zip(seeds, found, strict=True)},
        "mean_oks_of_all": float(np.nanmean(own)),
        "over_lightning": interval(over),
        "parameters": cost.parameters,
        "multiply_adds": cost.macs,
        "milliseconds": by_turns(models[0], file),
    }


def by_turns(model: PoseModel, file: Path) -> dict[str, Any]:
    """Median ms of one crop, of the student and of the mark, in ONNX Runtime on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        written = Writer(model.eval(), Path(folder)).write(TARGETS["onnx"], "fp32")
        student, mark = bench([Candidate(written), Candidate(file, layout="movenet")], batches=[1], threads=[1])
    return {
        "student": student.median, "student_spread": student.spread,
        "lightning": mark.median, "lightning_spread": mark.spread,
    }  # fmt: skip


def cost_of_file(path: Path) -> dict[str, int]:
    """Weights and multiply-adds of the convolutions of an ONNX file."""
    graph = shape_inference.infer_shapes(onnx.load(path)).graph
    weights = {each.name: list(each.dims) for each in graph.initializer}
    shapes = {
        each.name: [size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in (*graph.value_info, *graph.output)
    }
    products = sum(
        int(np.prod(shapes[node.output[0]])) * int(np.prod(weights[node.input[1]][1:]))
        for node in graph.node
        if node.op_type == "Conv"
    )
    return {"parameters": sum(int(np.prod(each)) for each in weights.values()), "multiply_adds": products}


def interval(found: Difference) -> dict[str, float]:
    """A difference of mean OKS with its 95 % interval."""
    return {"mean": found.mean, "low": found.low, "high": found.high}


if __name__ == "__main__":
    main()
