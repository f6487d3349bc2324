"""Pictures a second that `posestill label` labels, by one process and by two shards at the same time.

python benchmarks/label_throughput.py --json results/label-throughput.json [--busy TEXT]

20,000 synthetic pictures of 64x48, one person each, labelled by an untrained student of 32x32. One thread a process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2

from posestill.data.synthetic.people import SyntheticConfig
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.models.pose_model import ModelConfig, build_model
from posestill.schema import validate

TEACHER = {
    "size": [32, 32],
    "backbone": {"name": "small_resnet", "channels": [8, 16]},
    "head": "flat_fc",
    "codec": "coords",
}
PICTURES, DRAWN, ROUNDS = 20_000, 500, 3


def write_pictures(folder: Path, count: int) -> None:
    """So many JPEGs: fewer people are drawn, and each is written several times in other light."""
    source = SyntheticConfig(people=DRAWN, size=(64, 48)).build()
    people = [source.image(each.image_id)[:, :, ::-1] for each in source.people]
    folder.mkdir()
    for number in range(count):
        light = 0.6 + 0.4 * (number // DRAWN) / (count / DRAWN)
        picture = cv2.convertScaleAbs(people[number % DRAWN], alpha=light)
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture)


def write_teacher(folder: Path) -> None:
    """A student whose keypoints all have confidence 1, wherever they lie."""
    skeleton = SyntheticConfig(people=1, size=(64, 48)).build().skeleton
    build_model(validate(ModelConfig, TEACHER, where="the teacher"), skeleton).save(folder)


def label(folder: Path, out: str, shards: list[str]) -> dict[str, float]:
    """Wall-clock and processor seconds of processes that label at the same time, their start included."""
    command = [sys.executable, "-m", "posestill", "label", "pictures", "--teacher", "teacher", "--out", f"{out}.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    processes = [
        subprocess.Popen(
            [*command, *each], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for each in ([["--shard", shard] for shard in shards] or [[]])
    ]
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(f"{process.args} failed with status {process.returncode}: {errors[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - began, "processor_seconds": busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--busy", default="", help="what else the machine did meanwhile")
    given = parser.parse_args()
    ways: dict[str, list[str]] = {"one process": [], "two shards": ["1/2", "2/2"]}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_pictures(folder / "pictures", given.pictures)
        write_teacher(folder / "teacher")
        for number in range(given.rounds):  # by turns, so that what else the machine does meets both alike
            for name, shards in ways.items():
                found[name].append(label(folder, f"{name.replace(' ', '-')}-{number}", shards))
                print(f"{name}: {given.pictures / found[name][-1]['seconds']:.0f} pictures a second", flush=True)
    faster = [one["seconds"] / two["seconds"] for one, two in zip(*found.values(), strict=True)]
    figures = {
        "command": "python benchmarks/label_throughput.py --json results/label-throughput.json",
        "pictures": given.pictures,
        "busy": given.busy,
        "ways": {
            name: {
                "pictures_per_second": statistics.median(given.pictures / each["seconds"] for each in rounds),
                "pictures_per_processor_second": statistics.median(
                    given.pictures / each["processor_seconds"] for each in rounds
                ),
                "rounds": rounds,
            }
            for name, rounds in found.items()
        },
        "times_faster": {"median": statistics.median(faster), "min": min(faster), "max": max(faster)},
        "surroundings": surroundings(),
    }
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
