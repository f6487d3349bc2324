"""Images a second that reach a student: crops in memory beside the path from files, in one run on one thread.

Seconds are the processor's, as other work may go on beside it.

python benchmarks/crops.py [--json results/crops.json]     (needs ../shared/lsp-photos)
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import cv2
import torch

from posestill.data.batches import BatchPlan, choose_people
from posestill.data.crops import CropsConfig, CropsInMemory
from posestill.data.topdown import TopDownDataset
from posestill.engine.config import load_run
from posestill.engine.surroundings import surroundings

SIZE, BATCH, STEPS, ROUNDS, PEOPLE = (128, 96), 64, 20, 7, 2000


def rate(dataset: TopDownDataset, plan: BatchPlan, start: int) -> float:
    began = time.process_time()
    for step in range(start, start + STEPS):
        dataset.__getitems__(plan.batch(step))
    return STEPS * BATCH / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    run = load_run("protocol/photos", [f"data.people={PEOPLE}", "data.labelled=null"])
    source = run.data.train.build()
    labels = choose_people(source, run.data)
    plan = BatchPlan(labels, batch_size=BATCH, labelled_per_batch=None, seed=0)
    files = TopDownDataset(source, size=SIZE, labels=labels, augment=run.data.augment)
    began = time.process_time()
    memory = CropsInMemory(source, size=SIZE, labels=labels, augment=run.data.augment, config=CropsConfig())
    opening = time.process_time() - began
    pairs = []
    for number in range(ROUNDS + 1):  # the first one warms up
        pairs.append((rate(files, plan, number * STEPS), rate(memory, plan, number * STEPS)))
    pairs = pairs[1:]
    times = [after / before for before, after in pairs]
    figures = {
        "command": "python benchmarks/crops.py --json results/crops.json",
        "size": SIZE,
        "batch": BATCH,
        "threads": 1,
        "people": PEOPLE,
        "augment": run.data.augment.model_dump(),
        "images_per_second": {
            "from files": statistics.median(before for before, _ in pairs),
            "in memory": statistics.median(after for _, after in pairs),
        },
        "times_faster": {"median": statistics.median(times), "min": min(times), "max": max(times)},
        "seconds_to_keep_them": opening,
        "megabytes": memory.kept.nbytes / 1e6,
        "surroundings": surroundings(),
    }
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if asked.json:
        asked.json.write_text(text)


if __name__ == "__main__":
    main()
