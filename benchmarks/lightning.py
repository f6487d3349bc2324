"""Students of MoveNet Thunder beside MoveNet Lightning, on the same people: by how much do they differ, at what cost?

    python benchmarks/lightning.py --json results/lightning.json

evaluates the students of benchmarks/photographs_lightning.py on test, asks Lightning about the same persons, in upright
square crops around their boxes, and times both networks by turns, on one thread and in one runtime. None mirrors its
crops. Thunder, whose answers the students learned, is told beside them. `elsewhere` has the same figures for the people
of a small sample of COCO, whose pictures are of another kind than those that the students learned from.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from file_teachers import ask
from onnx import shape_inference
from photographs import read, with_keypoints
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
from posestill.study.intervals import difference
from posestill.teachers.file import FileConfig

STUDY = Path("runs/photographs")
"""what benchmarks/photographs.py has written"""


def main() -> None:
    """Measure, say it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--images", type=Path, default=Path("../shared/lsp-photos/images"))
    parser.add_argument("--elsewhere", type=Path, default=Path("../shared/coco-sample"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    marks = {name: given.models / f"movenet-{name}.onnx" for name in ("lightning", "thunder")}
    test = CocoConfig(annotations=STUDY / "test.json", images=given.images, metainfo=STUDY / "metainfo.json").build()
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = people_of_coco(given.elsewhere, test.skeleton.names, Path(folder))
    told: dict[str, Any] = {
        "command": "python benchmarks/lightning.py --json results/lightning.json", "flip_test": False,
        "people": len(read(Path(PEOPLE))["annotations"]), "seeds": given.seeds,
        "costs": {name: cost_of_file(path) for name, path in marks.items()}
        | {name: cost_of_student(name, given.seeds, marks["lightning"]) for name in STUDENTS},
        "test": compare(test, marks, given.seeds),
        "elsewhere": {"pictures": len(elsewhere.image_ids), **compare(elsewhere, marks, given.seeds)},
        "surroundings": surroundings(),
    }  # fmt: skip
    print(json.dumps({name: told[name] for name in ("costs", "test", "elsewhere")}, indent=1))
    if given.json is not None:
        write_json(given.json, told)


def people_of_coco(folder: Path, names: Sequence[str], into: Path) -> CocoSource:
    """The persons of a sample of COCO who show some of these keypoints, with these alone."""
    coco = with_keypoints(read(folder / "annotations" / "all.json"), list(names))
    coco["annotations"] = [each for each in coco["annotations"] if each["num_keypoints"] and not each["iscrowd"]]
    write_json(into / "people.json", coco)
    images = folder / "images"
    return CocoConfig(annotations=into / "people.json", images=images, metainfo=STUDY / "metainfo.json").build()


def compare(source: CocoSource, marks: Mapping[str, Path], seeds: Sequence[int]) -> dict[str, Any]:
    """What all networks reach on some people, the students seed by seed, and how these differ from Lightning."""
    asked = {name: ask(source, FileConfig(path=path, layout="movenet").build()) for name, path in marks.items()}
    found: dict[str, Any] = {name: {"mean_oks": float(np.nanmean(each.similarity))} for name, each in asked.items()}
    for name in STUDENTS:
        models = trained(name, seeds)
        own = np.stack([evaluate_model(each, source, EvaluateConfig(flip_test=False)).similarity for each in models])
        over = difference(own, np.broadcast_to(asked["lightning"].similarity, own.shape))
        found[name] = {
            "mean_oks": np.nanmean(own, axis=1).tolist(),
            "persons": over.persons,
            "over_lightning": {"mean": over.mean, "low": over.low, "high": over.high},
        }
    return found


def trained(name: str, seeds: Sequence[int]) -> list[PoseModel]:
    """The students of these seeds; ends where one of them has not been trained to its end."""
    for folder in (folder_of(name, seed) for seed in seeds):
        figures = folder / "eval.json"
        if not figures.is_file() or read(figures)["step"] != STUDENTS[name].steps:
            sys.exit(f"{folder} is not trained to its end: run benchmarks/photographs_lightning.py for its seed")
    return [PoseModel.load(folder_of(name, seed) / "best") for seed in seeds]


def cost_of_student(name: str, seeds: Sequence[int], file: Path) -> dict[str, Any]:
    """Steps, crops, weights and multiply-adds of a student, and its time beside the mark's."""
    model = trained(name, seeds)[0]
    cost = measure(model)
    return {
        "steps": STUDENTS[name].steps,
        "begins_with": STUDENTS[name].begins_with,
        "size": STUDENTS[name].size,
        "parameters": cost.parameters,
        "multiply_adds": cost.macs,
        "milliseconds": by_turns(model, file),
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


if __name__ == "__main__":
    main()
