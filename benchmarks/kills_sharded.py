"""What work that machines share survives: kills at random moments of all of it, each command given again after that.

python benchmarks/kills_sharded.py --json results/kills-sharded.json [--busy TEXT]

Two processes stand for two machines with one folder. One of them is killed again and again, without a word, from the
first to the last of what is to be done; then all that was published is compared with what one process does that nothing
happens to, and with itself when it was first seen. Linux alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kills import become_a_run
from label_throughput import write_pictures, write_teacher

import posestill.predict.label_shards
import posestill.study.run  # noqa: F401  (both before the processes are forked)
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.study.lines import name_of
from posestill.study.results import Results

KILLS, PICTURES, SHARDS = 10, 600, 30
LONGEST_PAUSE = {"study": 10.0, "labels": 1.5}
"""seconds between the moment at which a share of the work is done and the kill"""
PLAN = """
regimes:
  few:
    recipe: protocol/synthetic
    arms: [alone, tcd]
    set: [data.train.people=24, data.val.people=12, data.labelled=16, train.steps=20, train.batch_size=8,
          data.labelled_per_batch=4, train.save_every=5, train.threads=1]
    test: [data.val.seed=9]
arms:
  tcd: {title: TCD}
learning_rates: [1.0e-3, 3.0e-3]
seeds: {choose: [5], confirm: [1, 2, 3]}
confirm: {few: [alone, tcd]}
"""
RUNS = 2 * 2 + 2 * 3
"""of the plan: two arms at two learning rates, then with three seeds on test"""
Command = list[str]


class Machine:
    """Works through some commands, one after another, in a process that may be killed and is then started again."""

    def __init__(self, commands: Sequence[Command], folder: Path, number: int) -> None:
        self.commands, self.folder, self.number = list(commands), folder, number
        self.kills = 0
        self.failed: list[str] = []
        self._pid: int | None = None

    def goes_on(self) -> bool:
        """Start what is to be started; False when all commands have ended."""
        if self._pid is not None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid == 0:
                return True
            self._pid = None
            code = os.waitstatus_to_exitcode(status)
            if code != -signal.SIGKILL:
                command = self.commands.pop(0)
                if code:
                    self.failed.append(f"{' '.join(command)}: status {code}: {self._errors.read_text()[-500:]}")
        if not self.commands:
            return False
        self._pid = self._start(self.commands[0])
        return True

    def kill(self) -> bool:
        """Kill what is under way, with all processes that it has started; False where nothing is."""
        if self._pid is None:
            return False
        os.killpg(self._pid, signal.SIGKILL)
        self.kills += 1
        return True

    @property
    def _errors(self) -> Path:
        return self.folder / f"errors-{self.number}"

    def _start(self, command: Command) -> int:
        self._errors.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os.chdir(self.folder)
            become_a_run(command, self._errors, None)
        with contextlib.suppress(OSError):  # it may have done so itself
            os.setpgid(pid, pid)
        return pid


class Witness:
    """Notes every published file when it is first seen, and whether it ever changes after that."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder, self.pattern = folder, pattern
        self.first: dict[str, str] = {}
        self.changed: set[str] = set()

    def look(self) -> int:
        """How many files were published by now, whether they are still there or not."""
        for path in self.folder.rglob(self.pattern):
            with contextlib.suppress(FileNotFoundError):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                name = path.relative_to(self.folder).as_posix()
                if self.first.setdefault(name, digest) != digest:
                    self.changed.add(name)
        return len(self.first)


def killed_all_along(
    machines: Sequence[Machine], witness: Witness, *, total: int, kills: int, pause: float, random_: random.Random
) -> list[dict[str, Any]]:
    """Let the machines work, and kill one of them at so many moments, each in its own share of the whole work."""
    trials: list[dict[str, Any]] = []
    due: float | None = None
    chosen = 0.0
    while sum(machine.goes_on() for machine in machines):  # each of them is asked
        published = witness.look()
        if len(trials) < kills and published >= int(total * len(trials) / kills):
            if due is None:
                chosen = random_.uniform(0, pause)
                due = time.monotonic() + chosen
            elif time.monotonic() > due:
                order = random_.sample(list(machines), len(machines))
                if (victim := next((machine for machine in order if machine.kill()), None)) is not None:
                    trials.append({"killed": victim.number, "published": published, "seconds later": round(chosen, 2)})
                    print(trials[-1], flush=True)
                due = None
        time.sleep(0.05)
    return trials


def run_here(command: Command, folder: Path) -> None:
    """A command that nothing happens to."""
    machine = Machine([command], folder, 0)
    while machine.goes_on():
        time.sleep(0.05)
    if machine.failed:
        raise SystemExit(machine.failed[0])


def figures_of(results: Results) -> dict[str, Any]:
    """What a run's row says but for times, by its name."""
    times = ("training_seconds", "seconds")
    return {name_of(row): {key: value for key, value in row.items() if key not in times} for row in results.rows}


def study(folder: Path, kills: int, random_: random.Random) -> dict[str, Any]:
    """A study by two shards."""
    (folder / "plan.yaml").write_text(PLAN)
    whole = ["compare", "plan.yaml", "--jobs", "1", "--results", "whole", "--work", "work-whole"]
    run_here(whole, folder)
    shared = ["compare", "plan.yaml", "--jobs", "1", "--results", "shared", "--work", "work", "--wait", "--shard"]
    machines = [Machine([[*shared, f"{number}/2"]], folder, number) for number in (1, 2)]
    witness = Witness(folder / "shared" / "runs", "*.json")
    trials = killed_all_along(
        machines, witness, total=RUNS, kills=kills, pause=LONGEST_PAUSE["study"], random_=random_
    )
    lines = [json.loads(line) for line in (folder / "shared" / "runs.jsonl").read_text().splitlines()]
    names = [line["name"] for line in lines if line["kind"] == "run"]
    expected, found = figures_of(Results.read(folder / "whole")), figures_of(Results.read(folder / "shared"))
    table = [(folder / each / "table.md").read_text() for each in ("whole", "shared")]
    return {
        "kills": trials,
        "kills of each machine": [machine.kills for machine in machines],
        "failed commands": [each for machine in machines for each in machine.failed],
        "rows": len(names),
        "nothing lost": set(found) == set(expected),
        "nothing published twice": len(names) == len(set(names)) == RUNS and not witness.changed,
        "the same rows as one process's, bit for bit, but for times": found == expected,
        "the same table but for times": _untimed(table[0]) == _untimed(table[1]),
        "left behind": sorted(each.name for each in (folder / "shared").rglob("*.draft*")),
    }


def _untimed(table: str) -> list[list[str]]:
    """The cells of a table without the last column, which is seconds, and without the line below that tells hours."""
    return [line.split("|")[:-2] for line in table.splitlines() if line.startswith("|")]


def labels(folder: Path, kills: int, random_: random.Random) -> dict[str, Any]:
    """Labels by thirty shards on two machines."""
    write_pictures(folder / "pictures", PICTURES)
    write_teacher(folder / "teacher")
    command = ["label", "pictures", "--teacher", "teacher", "--out"]
    run_here([*command, "whole.json"], folder)
    for number in range(1, SHARDS + 1):
        run_here([*command, "calm.json", "--shard", f"{number}/{SHARDS}"], folder)
    machines = [
        Machine([[*command, "shared.json", "--shard", f"{number}/{SHARDS}"] for number in range(first, SHARDS + 1, 2)],
                folder, first)
        for first in (1, 2)
    ]  # fmt: skip
    witness = Witness(folder / "shared-shards", "*.npz")
    trials = killed_all_along(
        machines, witness, total=SHARDS, kills=kills, pause=LONGEST_PAUSE["labels"], random_=random_
    )
    whole, calm, shared = (json.loads((folder / f"{name}.json").read_text()) for name in ("whole", "calm", "shared"))
    ids = [each["id"] for each in shared["annotations"]]
    apart = np.abs(_points(whole) - _points(shared)).max()
    return {
        "kills": trials,
        "kills of each machine": [machine.kills for machine in machines],
        "failed commands": [each for machine in machines for each in machine.failed],
        "persons": len(ids),
        "nothing lost": len(shared["images"]) == PICTURES and len(ids) == len(whole["annotations"]),
        "nothing published twice": len(set(ids)) == len(ids) and not witness.changed and len(witness.first) == SHARDS,
        "the same labels as those of shards that nothing happened to": calm == shared,
        "px from those of one process, at most": float(apart),
    }


def _points(labels: dict[str, Any]) -> np.ndarray:
    return np.array([each["keypoints"] for each in labels["annotations"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--only", choices=("study", "labels"), help="the file keeps the other")
    parser.add_argument("--busy", default="", help="what else the machine did meanwhile")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    kinds = {"study": study, "labels": labels}
    found: dict[str, Any] = {}
    if given.only is not None and given.json.is_file():
        found = json.loads(given.json.read_text())["kinds"]
    for name, work in kinds.items():
        if given.only in (None, name):
            with tempfile.TemporaryDirectory() as place:
                found[name] = work(Path(place), given.kills, random.Random(given.seed))
            print(name, json.dumps({key: value for key, value in found[name].items() if key != "kills"}), flush=True)
            write_json(
                given.json,
                {
                    "command": "python benchmarks/kills_sharded.py --json results/kills-sharded.json",
                    "seed": given.seed, "busy": given.busy, "kinds": found, "surroundings": surroundings(),
                },
            )  # fmt: skip


if __name__ == "__main__":
    main()
