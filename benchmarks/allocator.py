"""Training steps on a CPU whose freed memory is kept for the next step, beside steps as glibc does by default.

    OMP_NUM_THREADS=1 python benchmarks/allocator.py --json results/allocator.json

Each round times both ways, each in a process of its own, because what glibc keeps cannot be given back.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

STUDENTS = {
    "tf_efficientnet_lite0 to stride 16, 128x96": "model.backbone={name: tf_efficientnet_lite0, stride: 16}",
    "mobilenetv3_small_050, 128x96": "model.backbone={name: mobilenetv3_small_050}",
    "resnet18, 128x96": "model.backbone={name: resnet18}",
}
DRAWN = [
    "data.train={name: synthetic, profile: medium, people: 200, seed: 1}",
    "data.val={name: synthetic, profile: medium, people: 20, seed: 2}",
    "data.crops=null",
]


def seconds_a_step(student: str, kept: bool, steps: int) -> float:
    """In this process; the first steps are not timed."""
    from posestill.engine.allocator import keep_freed_memory
    from posestill.engine.config import load_run
    from posestill.study.step_time import STEPS, steps_of

    if kept and not keep_freed_memory():
        raise SystemExit("this C library is not glibc: nothing to measure")
    take = steps_of(load_run("protocol/photographs", [student, *DRAWN]))
    take()
    began = time.perf_counter()
    for _ in range(steps):
        take()
    return (time.perf_counter() - began) / steps / STEPS


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--one", nargs=2, metavar=("STUDENT", "KEPT"))
    args = parser.parse_args()
    if args.one:
        print(seconds_a_step(STUDENTS[args.one[0]], args.one[1] == "True", args.steps))
        return

    def measure(student: str, kept: bool) -> float:
        asked = [sys.executable, __file__, "--json", str(args.json), "--steps", str(args.steps), "--one", student]
        return float(subprocess.run([*asked, str(kept)], check=True, capture_output=True, text=True).stdout)

    from posestill.engine.surroundings import surroundings
    from posestill.files import write_json

    found = {}
    for student in STUDENTS:
        pairs = [(measure(student, False), measure(student, True)) for _ in range(args.rounds)]
        ratios = [default / kept for default, kept in pairs]
        found[student] = {
            "times_as_fast": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            "milliseconds_a_step": {
                "default": 1000 * statistics.median(default for default, _ in pairs),
                "kept": 1000 * statistics.median(kept for _, kept in pairs),
            },
        }
        print(student, found[student])
    command = "OMP_NUM_THREADS=1 python benchmarks/allocator.py --json results/allocator.json"
    told = {"command": command, "rounds": args.rounds, "students": found, "surroundings": surroundings()}
    write_json(args.json, told)


if __name__ == "__main__":
    main()
