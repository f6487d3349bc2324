"""What a run survives: kills at random moments, full disks, lost processes, hosts with their own disks, two at once.

`python benchmarks/kills.py --json results/kills.json` counts, of each kind, in how many of how many trials everything
was as it should be. Linux alone; where it may mount one, a small disk is filled, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from posestill.engine.checkpoint import load_state, saved_step
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.models.pose_model import read_weights
from posestill.schema import UserError

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
STEPS = 3000
PER_RANK = """
import os, sys
sys.argv = ["posestill", *(each.replace("RANK", os.environ["RANK"]) for each in sys.argv[1:])]
from posestill.cli.main import main
main()
"""
"""Each process of a run in a folder of its own, as hosts with their own disks have it."""

Trial = dict[str, str | int | bool]


class Bench:
    """A folder to work in, and one run that nothing happened to."""

    def __init__(self, folder: Path, random_: random.Random) -> None:
        self.folder, self.random = folder, random_
        self.recipe, self.short = folder / "recipe.yaml", folder / "short.yaml"
        self.recipe.write_text(RECIPE.format(steps=STEPS, every=300))
        self.short.write_text(RECIPE.format(steps=300, every=100))
        (folder / "per_rank.py").write_text(PER_RANK)

    def start(
        self, out: str, *more: str, recipe: Path | None = None, ranks: int = 1, own: bool = False,
        bytes_: int | None = None, restarts: int = 0,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """A run of the command line; `bytes_` is what no file may grow beyond."""
        program = [str(self.folder / "per_rank.py")] if own else ["-m", "posestill"]
        if ranks > 1:
            counts = [f"--nproc-per-node={ranks}", f"--max-restarts={restarts}"]
            program = ["-m", "torch.distributed.run", "--standalone", *counts, *program]
        train = ["train", str(recipe or self.recipe), "--out", str(self.folder / out), *more]
        command = [sys.executable, *program, *train]

        def limit() -> None:
            if bytes_ is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))

        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=limit
        )

    def run(self, out: str, *more: str, **how: object) -> tuple[int, str]:
        """Exit status and errors of a run that nothing is done to."""
        process = self.start(out, *more, **how)  # type: ignore[arg-type]
        errors = process.communicate()[1]
        return process.returncode, errors

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
        errors = process.communicate()[1]
        reached = saved_step(bench.folder / "killed" / "last")
        going_on = f"going on from step {before}" if before else "nothing to resume"
        truthful = True
        if each is not signal.SIGKILL and process.returncode == 130:
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
    longer.write_text(RECIPE.format(steps=600, every=100))
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


def lost_ranks(bench: Bench, trials: int, restarted: int) -> Iterator[Trial]:
    """One of two processes is killed; the other says so, and the run goes on by hand or by torchrun itself."""
    bench.run("ranks", ranks=2, recipe=bench.short)
    for trial in range(trials + restarted):
        by_itself, out = trial >= trials, f"ranks-{trial}"
        process = bench.start(out, "--resume", ranks=2, recipe=bench.short, restarts=2 if by_itself else 0)
        bench.when_it_trains(out, 0)
        time.sleep(bench.random.uniform(0, 0.5))
        ranks = subprocess.check_output(["ps", "--ppid", str(process.pid), "-o", "pid="], text=True).split()
        os.kill(int(bench.random.choice(ranks)), signal.SIGKILL)
        errors = process.communicate()[1]
        told = [line for line in ours(errors) if "another process of this run has ended" in line]
        code = process.returncode
        if not by_itself:
            code, _ = bench.run(out, "--resume", ranks=2, recipe=bench.short)
        ok = code == 0 and len(told) == 1 and same(bench.folder / "ranks", bench.folder / out)
        yield {"what": "restarted by torchrun" if by_itself else "resumed by hand", "ok": ok, "lines": len(told)}


def own_disks(bench: Bench, trials: int) -> Iterator[Trial]:
    """Two processes with a folder each: a run stops and goes on as on one disk; states that differ are refused."""
    if not (bench.folder / "ranks").is_dir():
        bench.run("ranks", ranks=2, recipe=bench.short)
    for trial in range(trials):
        process = bench.start(f"own-{trial}-RANK", ranks=2, own=True, recipe=bench.short)
        bench.when_it_trains(f"own-{trial}-0", bench.random.randrange(2, 12))
        process.send_signal(signal.SIGTERM)
        process.communicate()
        reached = saved_step(bench.folder / f"own-{trial}-0" / "last")
        code, _ = bench.run(f"own-{trial}-RANK", "--resume", ranks=2, own=True, recipe=bench.short)
        ok = code == 0 and same(bench.folder / "ranks", bench.folder / f"own-{trial}-0")
        yield {"what": f"one has the state of step {reached}, the other none", "ok": ok}
    for trial in range(trials):
        for rank, steps in enumerate((100, 100 + 25 * (trial + 1))):
            (bench.folder / "part.yaml").write_text(RECIPE.format(steps=steps, every=100))
            bench.run(f"other-{trial}-{rank}", recipe=bench.folder / "part.yaml")
        before = (bench.folder / f"other-{trial}-0" / "last" / "training.pt").read_bytes()
        code, errors = bench.run(f"other-{trial}-RANK", "--resume", ranks=2, own=True, recipe=bench.short)
        untouched = (bench.folder / f"other-{trial}-0" / "last" / "training.pt").read_bytes() == before
        told = [line for line in ours(errors) if "finds the state of step 100" in line]
        yield {"what": "both have a state, of different steps", "ok": code != 0 and untouched and len(told) >= 1}


def two_at_once(bench: Bench, trials: int) -> Iterator[Trial]:
    """Two processes that train into one folder at nearly the same time."""
    for trial in range(trials):
        both = [bench.start(f"both-{trial}", "--resume", recipe=bench.short)]
        time.sleep(bench.random.uniform(0, 0.3))
        both.append(bench.start(f"both-{trial}", "--resume", recipe=bench.short))
        ends = [(process.communicate()[1], process.returncode) for process in both]
        refused = [errors for errors, code in ends if code == 2 and "is being trained into by process" in errors]
        ok = len(refused) == 1 and sorted(code for _, code in ends) == [0, 2]
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
            "full disk": lambda: full_disks(bench, 6),
            "one of two processes lost": lambda: lost_ranks(bench, 2, 2),
            "two hosts with their own disks": lambda: own_disks(bench, 2),
            "two runs in one folder": lambda: two_at_once(bench, 3),
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
