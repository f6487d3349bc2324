"""Light heads beside full ones: parameters, operations, AP, and whether a light head taught by a full one is as good.

python benchmarks/head_slimming.py --json results/head-slimming.json     (an hour on two cores; goes on where it was)

Three ways on the same backbone: the full head alone, the light head alone, the light head taught by the full one. Each
takes the learning rate that did best on 1,000 people for choosing; then each seed is judged on 20,000 others, opened
once. The claim, fixed beforehand: the taught light head, with at most a quarter of the parameters, loses less than 2 AP
to the full one, by a one-sided 95 % bound over seeds and persons.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.engine.setup import Sources, open_sources
from posestill.engine.surroundings import run_hash, surroundings
from posestill.files import write_json
from posestill.metrics import oks
from posestill.models.cost import measure
from posestill.models.pose_model import PoseModel
from posestill.study.crew import end_with_parent
from posestill.study.intervals import Difference, difference, lower_bound, non_inferiority

COMMON = ["data.labelled=null", "data.labelled_per_batch=null", "teacher=null", "method=supervised", "train.steps=2000"]
FAMILIES: dict[str, dict[str, Any]] = {
    "deconvolutions": {
        "codec": "{name: heatmap, stride: 4, sigma: 1.5}",
        "full": "{name: deconv, channels: [128, 128]}",
        "light": "{name: deconv, channels: [48, 40]}",
    },
    "gated attention": {
        "codec": "{name: simcc, sigma: [2.5, 2.9]}",
        "full": "{name: gau, kernel: 7, hidden: 128, shared: 64}",
        "light": "{name: gau, kernel: 1, hidden: 76, shared: 64}",
    },
}
WAYS = ("full", "light", "light, taught")
RATES = (2.5e-3, 5e-3)
SEEDS = (1, 2, 3, 4)
TEST = ["data.val.seed=6000", "data.val.people=20000"]
"""not those on whom earlier attempts were judged (results/head-slimming-first.json and -second.json)"""
GROUPS = 40
"""of persons, each left out in turn: AP is no mean over persons, so its error comes from a jackknife"""
MARGIN = 0.02
WORK = Path("runs/head-slimming")
Job = tuple[str, str, float, int]


def changes_of(job: Job) -> list[str]:
    family, way, rate, seed = job
    parts = FAMILIES[family]
    head = parts["full"] if way == "full" else parts["light"]
    found = [*COMMON, f"model.codec={parts['codec']}", f"model.head={head}", f"seed={seed}",
             f"train.optimiser.learning_rate={rate}"]  # fmt: skip
    if way == "light, taught":
        found.append(f"method={{name: head_slimming, full: {parts['full']}}}")
    return found


def folder_of(job: Job) -> Path:
    family, way, rate, seed = job
    return WORK / f"{family}-{way}-lr{rate:g}-seed{seed}".replace(", ", "-").replace(" ", "-")


_OPEN: dict[bool, Sources] = {}


def train(job: Job, test: bool) -> dict[str, Any]:
    """Train one job, if it was not, and return its figures; on test with its poses in a file beside the model."""
    torch.set_num_threads(1)
    folder = folder_of(job)
    told = folder / "figures.json"
    config = load_run("protocol/synthetic", [*changes_of(job), *(TEST if test else [])])
    if told.is_file() and (known := json.loads(told.read_text()))["settings_hash"] == run_hash(config):
        return dict(known)
    if test not in _OPEN:
        _OPEN.clear()
        _OPEN[test] = open_sources(config)
    result = fit(config, folder, sources=_OPEN[test], quiet=True, resume=(folder / "config.yaml").is_file())
    poses = result.evaluation.poses
    np.savez(folder / "poses.npz", image_id=poses.image_id, xy=poses.keypoints[..., :2], score=poses.score)
    metrics = {name: result.evaluation.metrics[name] for name in ("AP", "mean_oks")}
    row = {"family": job[0], "way": job[1], "learning_rate": job[2], "seed": job[3], **metrics,
           "training_seconds": result.seconds, "settings_hash": run_hash(config)}  # fmt: skip
    write_json(told, row)
    return row


def run_all(jobs: list[Job], *, test: bool, workers: int) -> list[dict[str, Any]]:
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        rows = []
        for job, future in [(job, pool.submit(train, job, test)) for job in jobs]:
            rows.append(future.result())
            print(*job, f"AP {100 * rows[-1]['AP']:.1f}", f"mean OKS {100 * rows[-1]['mean_oks']:.1f}", flush=True)
    return rows


@cache
def people_of_the_test() -> oks.LabelledPeople:
    source = load_run("protocol/synthetic", TEST).data.val.build()
    return oks.LabelledPeople.of(source.people, len(source.skeleton))


def lost_precision(full: list[Job], light: list[Job]) -> Difference:
    """The AP of the full head minus that of the light one, with its error over seeds and persons.

    Jackknife values of groups of persons stand in the place of persons: with G groups, the difference of all plus G - 1
    times what the one of all but a group lacks to their mean. So each seed's mean is its plain difference of AP: a
    jackknife that also corrects for bias would add its noise, half an AP here, to what has hardly any.
    """
    truth = people_of_the_test()
    group = np.unique(truth.image_id, return_inverse=True)[1] % GROUPS  # whole images
    table = np.empty((len(full), GROUPS))
    for row, pair in enumerate(zip(full, light, strict=True)):
        one, other = (_precisions(job, truth, group, np.array(SKELETON.oks_sigmas)) for job in pair)
        lost = one - other
        table[row] = lost[-1] + (GROUPS - 1) * (lost[:-1].mean() - lost[:-1])
    return difference(table, np.zeros_like(table))


def _precisions(job: Job, truth: oks.LabelledPeople, group: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(G + 1,) AP without each group, and of everyone."""
    stored = np.load(folder_of(job) / "poses.npz")
    groups_of_images = dict(zip(truth.image_id.tolist(), group.tolist(), strict=True))
    of_pose = np.array([groups_of_images[each] for each in stored["image_id"].tolist()])
    found = []
    for left_out in [*range(GROUPS), -1]:
        kept = of_pose != left_out
        poses = oks.PredictedPeople(stored["image_id"][kept], stored["xy"][kept], stored["score"][kept])
        found.append(oks.average_precision(truth.only(group != left_out), poses, oks_sigmas=sigmas)["AP"])
    return np.array(found)


def described(found: Difference) -> dict[str, Any]:
    return {"mean": found.mean, "low": found.low, "high": found.high, "standard_error": found.standard_error,
            "seeds": found.seeds}  # fmt: skip


def cost_of(family: str, which: str) -> dict[str, Any]:
    model = PoseModel(load_run("protocol/synthetic", changes_of((family, which, 1e-3, 0))).model, SKELETON)
    cost = measure(model.eval())
    head = sum(each.numel() for each in model.head.parameters())
    return {
        "parameters": cost.parameters,
        "head_parameters": head,
        "macs": cost.macs,
        "milliseconds": cost.milliseconds,
    }


SKELETON = load_run("protocol/synthetic", ["data.val.people=1"]).data.val.build().skeleton


def judged(family: str, rates: dict[tuple[str, str], float]) -> dict[str, Any]:
    """What the light head loses to the full one, taught and alone; fulfilled where the taught one's bound holds."""
    jobs = {way: [(family, way, rates[family, way], seed) for seed in SEEDS] for way in WAYS}
    taught, alone = (lost_precision(jobs["full"], jobs[way]) for way in ("light, taught", "light"))
    gained = lost_precision(jobs["light, taught"], jobs["light"])
    turned = lost_precision(jobs["light, taught"], jobs["full"])
    bound = -lower_bound(turned)
    return {
        "lost_by_taught": described(taught),
        "lost_by_light_alone": described(alone),
        "gained_by_teaching": described(gained),
        "margin": MARGIN,
        "upper_bound_of_loss": bound,
        "p_of_a_loss_of_the_margin": non_inferiority(turned, margin=MARGIN),
        "fulfilled": bound < MARGIN,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    asked = parser.parse_args()
    first = [(family, way, rate, 100) for family in FAMILIES for way in WAYS for rate in RATES]
    tuning = run_all(first, test=False, workers=asked.workers)
    rates = {}
    for family in FAMILIES:
        for way in WAYS:
            own = [row for row in tuning if (row["family"], row["way"]) == (family, way)]
            rates[family, way] = max(own, key=lambda row: row["mean_oks"])["learning_rate"]
    jobs = [(family, way, rates[family, way], seed) for family in FAMILIES for seed in SEEDS for way in WAYS]
    rows = run_all(jobs, test=True, workers=asked.workers)
    write_json(
        asked.json,
        {
            "command": "python benchmarks/head_slimming.py --json results/head-slimming.json",
            "test": "20,000 synthetic people, ground-truth boxes, flip test",
            "families": {
                family: {
                    "heads": {name: FAMILIES[family][name] for name in ("full", "light")},
                    "cost": {name: cost_of(family, name) for name in ("full", "light")},
                    **judged(family, rates),
                }
                for family in FAMILIES
            },
            "tuning": tuning,
            "runs": rows,
            "surroundings": surroundings(),
        },
    )


if __name__ == "__main__":
    main()
