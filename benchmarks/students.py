"""One student of each representation on synthetic people, Body and WholeBody: that each trains, and what it costs.

python benchmarks/students.py --json results/students.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.engine.surroundings import run_hash, surroundings
from posestill.files import write_json
from posestill.html.report import percent
from posestill.models.cost import measure
from posestill.models.pose_model import PoseModel

REPRESENTATIONS = {
    "heatmap": ["model.head={name: deconv, channels: [64, 64]}", "model.codec={name: heatmap, stride: 4, sigma: 1.5}"],
    "coords": [],
    "rle": ["model.codec=rle"],
    "simcc": ["model.head=simcc", "model.codec={name: simcc, sigma: [2.5, 2.9]}"],
}
METHODS = {"supervised": list(REPRESENTATIONS), "ocd": ["coords", "rle", "simcc"]}
TASKS = {"body": [], "wholebody": ["data.train.keypoints=133", "data.val.keypoints=133"]}


def train(task: str, representation: str, method: str, steps: int | None) -> dict[str, Any]:
    """The figures of one run on one thread."""
    torch.set_num_threads(1)
    changes = [*TASKS[task], *REPRESENTATIONS[representation], f"method={method}"]
    config = load_run("students", [*changes, *([f"train.steps={steps}"] if steps else [])])
    with tempfile.TemporaryDirectory() as folder:
        result = fit(config, Path(folder) / "run", quiet=True)
        cost = measure(PoseModel.load(Path(folder) / "run" / "best"))
    return {
        "task": task,
        "representation": representation,
        "method": method,
        "changes": changes,
        "settings_hash": run_hash(config),
        "seed": config.seed,
        "steps": config.train.steps,
        "metrics": result.evaluation.metrics,
        "training_seconds": result.seconds,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "milliseconds": cost.milliseconds,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| task | student | method | AP | mean OKS | parameters | MACs | ms / crop | training s |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row["task"], row["representation"], row["method"]]
        cells += [percent(row["metrics"][name]) for name in ("AP", "mean_oks")]
        cells += [f"{row['parameters'] / 1e6:.2f} M", f"{row['macs'] / 1e6:.0f} M", f"{row['milliseconds']:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {row['training_seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=None)
    options = parser.parse_args()
    jobs = [(task, each, method) for task in TASKS for method, kinds in METHODS.items() for each in kinds]
    workers = min(2, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(train, *job, options.steps) for job in jobs]
        rows = []
        for future in futures:
            rows.append(future.result())
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    if options.json is not None:
        command = "python benchmarks/students.py --json results/students.json"
        write_json(options.json, {"command": command, "rows": rows, "surroundings": surroundings()})


if __name__ == "__main__":
    main()
