"""Students of MoveNet Thunder beside MoveNet Lightning, on the same people: by how much do they differ, at what cost?

    python benchmarks/lightning.py --json results/lightning.json

reads the runs of benchmarks/photographs-lightning.yaml on test, asks Lightning about the same persons, whose crops are
upright squares around their boxes, and times both networks by turns, on one thread and in one runtime. Neither mirrors
its crops. Thunder, whose answers the students learned, is told beside them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from file_teachers import Asked, ask
from onnx import shape_inference

from posestill.data.coco import CocoConfig, CocoSource
from posestill.deploy.bench import Candidate, bench
from posestill.deploy.runtimes import TARGETS
from posestill.deploy.write import Writer
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.models.cost import measure
from posestill.models.pose_model import PoseModel
from posestill.skeletons import Skeleton
from posestill.study.gains import runs_of, unpack_similarity
from posestill.study.intervals import Difference, difference
from posestill.study.jobs import Asked as AskedRun
from posestill.study.jobs import Resolver, chosen_rates
from posestill.study.plan import Plan, load_plan
from posestill.study.results import Results
from posestill.teachers.file import FileConfig

PLAN = Path("benchmarks/photographs-lightning.yaml")
RESULTS = Path("results/photographs-lightning")
STUDY = Path("runs/photographs")
"""what benchmarks/photographs.py has written"""
ARM = "pseudo"


def main() -> None:
    """Measure, say it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--images", type=Path, default=Path("../shared/lsp-photos/images"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan, results = load_plan(PLAN), Results.read(RESULTS)
    marks = {name: given.models / f"movenet-{name}.onnx" for name in ("lightning", "thunder")}
    told: dict[str, Any] = {"command": "python benchmarks/lightning.py --json results/lightning.json", "split": "test",
                            "flip_test": False, "networks": {}, "students": {}}  # fmt: skip
    source = people(given.images)
    asked = {name: ask(source, FileConfig(path=path, layout="movenet").build()) for name, path in marks.items()}
    for name, path in marks.items():
        told["networks"][name] = {"mean_oks": float(np.nanmean(asked[name].similarity)), **cost_of_file(path)}
    for regime in plan.regimes:
        told["students"][regime] = compare(
            plan, results, regime, asked["lightning"], marks["lightning"], source.skeleton
        )
        print(regime, told["students"][regime]["over_lightning"])
    told["surroundings"] = surroundings()
    if given.json is not None:
        write_json(given.json, told)


def people(images: Path) -> CocoSource:
    """The persons of test, with the twelve keypoints of the study."""
    return CocoConfig(annotations=STUDY / "test.json", images=images, metainfo=STUDY / "metainfo.json").build()


def compare(plan: Plan, results: Results, regime: str, mark: Asked, file: Path, skeleton: Skeleton) -> dict[str, Any]:
    """A regime's students, seed by seed, and their difference from the mark over seeds and persons."""
    rate = chosen_rates(plan, results.rows)[regime, ARM]
    runs = runs_of(results.rows, "test", regime, ARM, rate)
    own = np.stack([unpack_similarity(runs[seed]["similarity"]) for seed in sorted(runs)])
    found = difference(own, np.broadcast_to(mark.similarity, own.shape))
    job = Resolver(plan, results.lengths).job(AskedRun("test", regime, ARM, learning_rate=rate, seed=min(runs)))
    model = PoseModel(job.config.model, skeleton)
    cost = measure(model)
    return {
        "seeds": sorted(runs),
        "persons": found.persons,
        "learning_rate": rate,
        "mean_oks": {seed: runs[seed]["metrics"]["mean_oks"] for seed in sorted(runs)},
        "over_lightning": interval(found),
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


def interval(found: Difference) -> dict[str, float]:
    """A difference of mean OKS with its 95 % interval."""
    return {"mean": found.mean, "low": found.low, "high": found.high}


if __name__ == "__main__":
    main()
