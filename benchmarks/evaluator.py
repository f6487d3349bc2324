"""posestill's evaluator beside pycocotools', in one run: the same ten numbers, and how long each takes.

python benchmarks/evaluator.py --json results/evaluator.json
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import pstats
import statistics
import time
import tracemalloc
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.metrics.oks import LabelledPeople, PredictedPeople, average_precision
from posestill.skeletons import COCO_17

NAMES = ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]


def crowd(images: int, people: int, detections: int, seed: int) -> tuple[LabelledPeople, PredictedPeople]:
    """Random people and imperfect predictions of them, `detections` an image: several of each person."""
    rng = np.random.default_rng(seed)
    count = images * people
    corner, extent = rng.uniform(0, 400, (count, 2)), rng.uniform(20, 250, (count, 2))
    places = corner[:, None] + rng.random((count, 17, 2)) * extent[:, None]
    visible = rng.choice([0, 1, 2], p=[0.3, 0.2, 0.5], size=(count, 17, 1))
    image_id = np.repeat(np.arange(1, images + 1), people)
    truth = LabelledPeople(
        image_id=image_id,
        keypoints=np.concatenate([places * (visible > 0), visible], axis=2),
        bbox=np.concatenate([corner, extent], axis=1),
        area=extent.prod(axis=1) * rng.uniform(0.3, 0.7, count),
        crowd=rng.random(count) < 0.02,
    )
    meant = (people * np.arange(images)[:, None] + np.arange(detections) % people).reshape(-1)  # (M,) rows of people
    spread = rng.gamma(1.0, 0.05, (len(meant), 1, 1)) * extent.max(axis=1)[meant, None, None]
    error = rng.normal(size=(len(meant), 17, 2)) * spread
    predicted = PredictedPeople(image_id=image_id[meant], keypoints=places[meant] + error, score=rng.random(len(meant)))
    return truth, predicted


def for_pycocotools(truth: LabelledPeople, predicted: PredictedPeople) -> COCOeval:
    """The same people as pycocotools keeps them; making these is not timed."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": int(each)} for each in np.unique(truth.image_id)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": row + 1, "image_id": int(truth.image_id[row]), "category_id": 1, "bbox": truth.bbox[row].tolist(),
                "area": float(truth.area[row]), "iscrowd": int(truth.crowd[row]),
                "keypoints": truth.keypoints[row].reshape(-1).tolist(),
                "num_keypoints": int((truth.keypoints[row, :, 2] > 0).sum()),
            }
            for row in range(len(truth))
        ],
    }  # fmt: skip
    coco.createIndex()
    flat = np.concatenate([predicted.keypoints, np.ones((len(predicted), 17, 1))], axis=2).reshape(len(predicted), -1)
    results = coco.loadRes(
        [
            {"image_id": int(image), "category_id": 1, "keypoints": keypoints, "score": float(score)}
            for image, keypoints, score in zip(predicted.image_id, flat.tolist(), predicted.score, strict=True)
        ]
    )
    evaluation = COCOeval(coco, results, "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(COCO_17.oks_sigmas)
    return evaluation


def bytes_of(truth: LabelledPeople, predicted: PredictedPeople) -> int:
    held = [*vars(truth).values(), *vars(predicted).values()]
    return sum(each.nbytes for each in held if each is not None)


def peak(truth: LabelledPeople, predicted: PredictedPeople) -> int:
    """The most bytes that an evaluation holds beside its input."""
    tracemalloc.start()
    average_precision(truth, predicted, oks_sigmas=COCO_17.oks_sigmas)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def shares(truth: LabelledPeople, predicted: PredictedPeople) -> dict[str, float]:
    """Where the time goes, as shares of an evaluation's."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(average_precision, truth, predicted, oks_sigmas=COCO_17.oks_sigmas)
    took = {name: seconds for (_, _, name), (_, _, _, seconds, _) in pstats.Stats(profile).stats.items()}
    parts = {"OKS": "_oks_of_points", "matching": "match", "precision and recall": "precision_and_recall"}
    found = {part: took[name] / took["average_precision"] for part, name in parts.items()}
    return {**found, "sorting and the rest": 1 - sum(found.values())}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000, help="as many as COCO val2017 has")
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--detections", type=int, default=21, help="an image; 20 of them count")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    truth, predicted = crowd(options.images, options.people, options.detections, seed=0)
    times: dict[str, list[float]] = {"posestill": [], "pycocotools": []}
    for _ in range(options.repeats):
        began = time.process_time()
        ours = average_precision(truth, predicted, oks_sigmas=COCO_17.oks_sigmas)
        times["posestill"].append(time.process_time() - began)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = for_pycocotools(truth, predicted)
            began = time.process_time()
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        times["pycocotools"].append(time.process_time() - began)
    ratios = [slow / fast for fast, slow in zip(times["posestill"], times["pycocotools"], strict=True)]
    figures = {
        "command": "python benchmarks/evaluator.py --json results/evaluator.json",
        "images": options.images,
        "people": len(truth),
        "detections": len(predicted),
        "clock": "the processor's, as other work may go on beside it",
        "seconds": {name: spread(each) for name, each in times.items()},
        "times_faster": spread(ratios),
        "largest_difference_of_ten_numbers": float(np.abs([ours[name] for name in NAMES] - evaluation.stats).max()),
        "AP": ours["AP"],
        "megabytes": {"input": bytes_of(truth, predicted) / 1e6, "peak_beside_it": peak(truth, predicted) / 1e6},
        "shares": shares(truth, predicted),
        "surroundings": surroundings(),
    }  # fmt: skip
    print(figures)
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
