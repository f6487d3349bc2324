"""What a run survives: kills at random moments, full disks, lost processes, hosts with their own disks, two at once.

`python benchmarks/kills.py --json results/kills.json` counts, of each kind, in how many of how many trials everything
was as it should be. Linux alone; where it may mount one, a small disk is filled, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from posestill.cli.main import main as main_of_posestill
from posestill.engine.checkpoint import load_state, saved_step
from posestill.engine.fit import fit  # noqa: F401  (before the processes are forked)
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.html.report import write_run_report  # noqa: F401
from posestill.models.pose_model import read_weights
from posestill.schema import UserError
from posestill.study.control import train_with_controls  # noqa: F401

RECIPE = """
data:
  train: {{name: synthetic, people: 64, size: [64, 48]}}
  val: {{name: synthetic, people: 37, size: [64, 48], seed: 9}}
model: {{size: [32, 32], backbone: {{name: small_resnet, channels: [8, 16]}}, head: flat_fc, codec: coords}}
method: supervised
train: {{steps: {steps}, batch_size: 8, log_every: 10, save_every: 25, threads: 1,
         optimiser: {{learning_rate: 1e-3, warmup_steps: 5}}}}
evaluate: {{every: {every}}}
"""
STEPS = 1200
Trial = dict[str, str | int | bool]


@dataclass
class Started:
    """The processes of a run."""

    pids: list[int]
    errors: list[Path]

    def send_signal(self, number: int) -> None:
        """To all of them."""
        for pid in self.pids:
            os.kill(pid, number)

    def wait(self) -> tuple[int, str]:
        """The first exit status that is not 0, and what all of them said."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        return next((code for code in codes if code), 0), "".join(path.read_text() for path in self.errors)


def become_a_run(arguments: list[str], errors: Path, bytes_: int | None) -> NoReturn:
    """Turn this process, which was forked so that nothing is imported anew, into one of the command line."""
    handle = os.open(errors, os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stderr, sys.stdout = os.fdopen(2, "w", buffering=1), os.fdopen(1, "w")
    sys.argv, code = ["posestill", *arguments], 0
    if bytes_ is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))
    try:
        main_of_posestill()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


class Bench:
    """A folder to work in, and one run that nothing happened to."""

    def __init__(self, folder: Path, random_: random.Random) -> None:
        self.folder, self.random = folder, random_
        self.recipe, self.short = folder / "recipe.yaml", folder / "short.yaml"
        self.recipe.write_text(RECIPE.format(steps=STEPS, every=400))
        self.short.write_text(RECIPE.format(steps=150, every=75))
        self.numbers = itertools.count()

    def start(
        self, out: str, *more: str, recipe: Path | None = None, ranks: int = 1, own: bool = False,
        bytes_: int | None = None,
    ) -> Started:  # fmt: skip
        """A run of the command line; `bytes_` is what no file may grow beyond, `own` a folder for each process."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = Started([], [])
        for rank in range(ranks):
            folder, errors = self.folder / out.replace("RANK", str(rank)), self.folder / f"errors-{next(self.numbers)}"
            arguments = ["train", str(recipe or self.recipe), "--out", str(folder if own else self.folder / out), *more]
            pid = os.fork()
            if pid == 0:
                if ranks > 1:
                    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
                    os.environ.update(
                        {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in told.items()}}
                    )
                become_a_run(arguments, errors, bytes_)
            started.pids.append(pid)
            started.errors.append(errors)
        return started

    def run(self, out: str, *more: str, **how: object) -> tuple[int, str]:
        """Exit status and errors of a run that nothing is done to."""
        return self.start(out, *more, **how).wait()  # type: ignore[arg-type]

    def when_it_trains(self, out: str, rows: int = 0, since: int = 0) -> None:
        """Wait until the run's log has more than so many rows and was written since."""
        path, deadline = self.folder / out / "metrics.jsonl", time.monotonic() + 120
        while time.monotonic() < deadline:
            if path.is_file() and path.stat().st_mtime_ns > since and path.read_bytes().count(b"\n") > rows:
                return
            time.sleep(0.01)


def ours(errors: str) -> list[str]:
    """The lines by which posestill ends."""
    return [line for line in errors.splitlines() if line.startswith("posestill")]


def whole(folder: Path) -> bool:
    """Whether everything in a run folder can be read, and no draft is left by a run that ended by itself."""
    try:
        load_state(folder / "last")
        if (folder / "best" / "config.json").is_file():
            read_weights(folder / "best")
    except UserError:
        return False
    return (folder / "config.yaml").stat().st_size > 0


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits."""
    states = [load_state(each / "last") for each in (one, other)]
    assert states[0] is not None
    assert states[1] is not None
    return states[0].step == states[1].step and all(
        torch.equal(value, states[1].distiller[name]) for name, value in states[0].distiller.items()
    )


def kills(bench: Bench, signals: Sequence[signal.Signals]) -> Iterator[Trial]:
    """One run, ended again and again at random moments, and resumed."""
    bench.run("whole")
    for each in signals:
        before = saved_step(bench.folder / "killed" / "last")
        process = bench.start("killed", "--resume")
        if bench.random.random() < 0.8:  # the others are ended while they begin
            bench.when_it_trains("killed", since=time.time_ns())
            time.sleep(bench.random.uniform(0, 2))
        else:
            time.sleep(bench.random.uniform(0, 4))
        process.send_signal(each)
        code, errors = process.wait()
        reached = saved_step(bench.folder / "killed" / "last")
        going_on = f"going on from step {before}" if before else "nothing to resume"
        truthful = True
        if each is not signal.SIGKILL and code == 130:
            told = ours(errors)[-1]
            truthful = (
                f"after step {reached}, which is saved" in told or f"from step {reached}" in told
                or (reached is None and "starts anew" in told)
            )  # fmt: skip
        begun = (bench.folder / "killed" / "config.yaml").is_file()
        yield {
            "what": f"{each.name} at step {reached}", "said where it began": going_on in errors or "step" not in errors,
            "truthful": truthful, "ok": truthful and (reached or 0) >= (before or 0)
            and (not begun or whole(bench.folder / "killed")),
        }  # fmt: skip
    code, _ = bench.run("killed", "--resume")
    yield {"what": "the end, bit for bit", "ok": code == 0 and same(bench.folder / "whole", bench.folder / "killed")}


def full_disks(bench: Bench, trials: int) -> Iterator[Trial]:
    """A run that goes on where no file may grow beyond some size; then one on a small disk, where one may be made."""
    bench.run("full", recipe=bench.short)
    state = bench.folder / "full" / "last" / "training.pt"
    longer = bench.folder / "longer.yaml"
    longer.write_text(RECIPE.format(steps=300, every=75))
    for _ in range(trials):
        before, size = saved_step(state.parent) or 0, bench.random.randrange(300, int(state.stat().st_size * 1.05))
        code, errors = bench.run("full", "--resume", recipe=longer, bytes_=size)
        drafts = list((bench.folder / "full").rglob("*.draft"))
        one_line = code == 2 and len(ours(errors)) == 1 and "Traceback" not in errors
        kept = whole(bench.folder / "full") and (saved_step(state.parent) or 0) >= before
        yield {
            "what": f"no file beyond {size} bytes: status {code}",
            "ok": (code == 0 or one_line) and kept and not drafts,
        }
    with small_disk(bench.folder / "small") as mounted:
        if mounted:
            for crops in (False, True):
                changes = ["--set", f"data.crops.folder={bench.folder / 'small' / 'crops'}"] if crops else []
                out = "elsewhere" if crops else "small/run"
                code, errors = bench.run(out, *changes, recipe=bench.short)
                drafts = list((bench.folder / "small").rglob("*.draft"))
                what = "crops in memory" if crops else "a run"
                yield {"what": f"{what} on a disk of 256 kB: status {code}",
                       "ok": code == 2 and len(ours(errors)) == 1 and not drafts}  # fmt: skip


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    yield done.returncode == 0
    if done.returncode == 0:
        subprocess.run(["umount", str(folder)], check=True)


def lost_ranks(bench: Bench, trials: int) -> Iterator[Trial]:
    """One of two processes is killed; the other says so in one line, and the run goes on."""
    bench.run("ranks", ranks=2, recipe=bench.short)
    for trial in range(trials):
        out = f"ranks-{trial}"
        process = bench.start(out, "--resume", ranks=2, recipe=bench.short)
        bench.when_it_trains(out)
        time.sleep(bench.random.uniform(0, 0.5))
        lost = bench.random.randrange(2)
        os.kill(process.pids[lost], signal.SIGKILL)
        _, errors = process.wait()
        told = [line for line in ours(errors) if "another process of this run has ended" in line]
        before = saved_step(bench.folder / out / "last")
        code, _ = bench.run(out, "--resume", ranks=2, recipe=bench.short)
        ok = (
            code == 0
            and len(told) == 1
            and "Traceback" not in errors
            and same(bench.folder / "ranks", bench.folder / out)
        )
        yield {"what": f"process {lost} killed, resumed from step {before}", "ok": ok}


def own_disks(bench: Bench, trials: int) -> Iterator[Trial]:
    """Two processes with a folder each: a run stops and goes on as on one disk; states that differ are refused."""
    if not (bench.folder / "ranks").is_dir():
        bench.run("ranks", ranks=2, recipe=bench.short)
    for trial in range(trials):
        process = bench.start(f"own-{trial}-RANK", ranks=2, own=True, recipe=bench.short)
        bench.when_it_trains(f"own-{trial}-0", bench.random.randrange(1, 5))
        process.send_signal(signal.SIGTERM)
        process.wait()
        reached = saved_step(bench.folder / f"own-{trial}-0" / "last")
        code, _ = bench.run(f"own-{trial}-RANK", "--resume", ranks=2, own=True, recipe=bench.short)
        ok = code == 0 and same(bench.folder / "ranks", bench.folder / f"own-{trial}-0")
        yield {"what": f"one has the state of step {reached}, the other none", "ok": ok}
    for trial in range(trials):
        for rank, steps in enumerate((50, 50 + 25 * (trial + 1))):
            (bench.folder / "part.yaml").write_text(RECIPE.format(steps=steps, every=75))
            bench.run(f"other-{trial}-{rank}", recipe=bench.folder / "part.yaml")
        before = (bench.folder / f"other-{trial}-0" / "last" / "training.pt").read_bytes()
        code, errors = bench.run(f"other-{trial}-RANK", "--resume", ranks=2, own=True, recipe=bench.short)
        untouched = (bench.folder / f"other-{trial}-0" / "last" / "training.pt").read_bytes() == before
        told = [line for line in ours(errors) if "finds the state of step 50" in line]
        yield {"what": "both have a state, of different steps", "ok": code != 0 and untouched and len(told) >= 1}


def two_at_once(bench: Bench, trials: int) -> Iterator[Trial]:
    """Two processes that train into one folder at nearly the same time."""
    for trial in range(trials):
        both = [bench.start(f"both-{trial}", "--resume", recipe=bench.short)]
        time.sleep(bench.random.uniform(0, 0.3))
        both.append(bench.start(f"both-{trial}", "--resume", recipe=bench.short))
        ends = [process.wait() for process in both]
        refused = [errors for code, errors in ends if code == 2 and "is being trained into by process" in errors]
        ok = len(refused) == 1 and sorted(code for code, _ in ends) == [0, 2]
        yield {
            "what": "one trains, one is told",
            "ok": ok and same(bench.folder / "short", bench.folder / f"both-{trial}"),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one of the kinds; the file keeps the others")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), random.Random(given.seed))
        bench.run("short", recipe=bench.short)
        ended = [signal.SIGKILL] * 12 + [signal.SIGINT] * 4 + [signal.SIGTERM] * 4
        bench.random.shuffle(ended)
        kinds: dict[str, Callable[[], Iterator[Trial]]] = {
            "ended at random moments": lambda: kills(bench, ended),
            "full disk": lambda: full_disks(bench, 10),
            "one of two processes lost": lambda: lost_ranks(bench, 6),
            "two hosts with their own disks": lambda: own_disks(bench, 3),
            "two runs in one folder": lambda: two_at_once(bench, 6),
        }
        found: dict[str, object] = {}
        if given.only is not None and given.json.is_file():
            found = json.loads(given.json.read_text())["kinds"]
        for name, trials in kinds.items():
            if given.only in (None, name):
                done = list(trials())
                good = sum(bool(each["ok"]) for each in done)
                found[name] = {"of": len(done), "as they should be": good, "trials": done}
                print(f"{name}: {good} of {len(done)}", flush=True)
                write_json(given.json, {"surroundings": surroundings(), "seed": given.seed, "kinds": found})


if __name__ == "__main__":
    main()
