"""What models and files cost: by turns, each in a process of its own, so that none disturbs another's memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from posestill.schema import UserError

ROUNDS = 12
"""how often everyone has a turn"""
TURN = 0.2
"""seconds that a turn lasts at least"""
WARM = 3
"""calls before any is timed"""


@dataclass(frozen=True)
class Candidate:
    """Something that takes crops: a model folder, or a file with what reads it."""

    path: Path
    layout: str | None = None
    """of somebody else's file, where it does not tell"""
    plain: bool = False
    """of a folder: True runs the model as it is trained; False with its norms folded, as it predicts"""
    name: str = ""
    """what the table calls it; empty: the path's own name"""


@dataclass(frozen=True)
class Measured:
    """What one candidate took at one batch size and number of threads."""

    name: str
    runtime: str
    batch: int
    threads: int
    median: float
    """ms of a call, the network alone"""
    p95: float
    spread: tuple[float, float]
    """the lowest and the highest of the turns' medians, ms"""
    calls: int
    with_decoding: float
    """median ms of a call from uint8 crops to keypoints in px"""
    memory: int | None
    """bytes that the process held at most, beyond what it held with its runtime loaded; None: not known here"""
    parameters: int | None
    macs: int | None
    """of one crop"""
    size: int
    """bytes on disk"""

    @property
    def throughput(self) -> float:
        """Crops a second."""
        return 1000 * self.batch / self.median


def bench(
    candidates: Sequence[Candidate],
    *,
    batches: Sequence[int],
    threads: Sequence[int],
    rounds: int = ROUNDS,
    progress: Callable[[int], None] | None = None,
) -> list[Measured]:
    """Every candidate at every batch size and number of threads; those of one setting take turns."""
    found = []
    for batch in batches:
        for count in threads:
            found += _one_setting(candidates, batch, count, rounds, progress)
    return found


def _one_setting(
    candidates: Sequence[Candidate], batch: int, threads: int, rounds: int, progress: Callable[[int], None] | None
) -> list[Measured]:
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(each, batch, threads)) for each in candidates]
        about = [_answer(worker, each) for worker, each in zip(workers, candidates, strict=True)]
        turns: list[list[list[float]]] = [[] for _ in workers]
        for _ in range(rounds):
            for worker, each, own in zip(workers, candidates, turns, strict=True):
                worker.send("turn")
                own.append(_answer(worker, each))
            if progress is not None:
                progress(1)
        ends = []
        for worker, each in zip(workers, candidates, strict=True):
            worker.send("end")
            ends.append(_answer(worker, each))
    measured = []
    for candidate, told, own, end in zip(candidates, about, turns, ends, strict=True):
        taken = [1000 * each for turn in own for each in turn]
        medians = [1000 * statistics.median(turn) for turn in own]
        measured.append(
            Measured(
                name=candidate.name or candidate.path.name,
                batch=batch,
                threads=threads,
                median=statistics.median(taken),
                p95=float(np.quantile(taken, 0.95)),
                spread=(min(medians), max(medians)),
                calls=len(taken),
                **told,
                **end,
            )
        )
    return measured


@contextlib.contextmanager
def _worker(candidate: Candidate, batch: int, threads: int) -> Iterator[Connection]:
    """The near end of a pipe to a process that holds the candidate."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process: SpawnProcess = context.Process(target=_serve, args=(far, candidate, batch, threads), daemon=True)
    process.start()
    far.close()
    try:
        yield near
    finally:
        near.close()
        process.join(10)
        if process.is_alive():
            process.terminate()
            process.join()


def _answer(worker: Connection, candidate: Candidate) -> Any:
    try:
        answer = worker.recv()
    except EOFError:
        raise UserError(f"{candidate.path}: its process ended without a word; too little memory is likely") from None
    if isinstance(answer, UserError):
        raise answer
    return answer


def _serve(pipe: Connection, candidate: Candidate, batch: int, threads: int) -> None:
    """What the process does: load, and answer for each turn with how long the calls took, in seconds."""
    import torch

    torch.set_num_threads(threads)
    try:
        from posestill.deploy.subject import open_subject

        _load_runtime(candidate.path)
        before = _memory(reset=True)
        subject = open_subject(candidate, batch, threads)
        for _ in range(WARM):
            subject.network()
        pipe.send(subject.about)
        while pipe.recv() == "turn":
            pipe.send(_timed(subject.network, TURN))
        whole = _timed(subject.answer, TURN)
        peak = _memory()
        used = None if before is None or peak is None else max(peak - before, 0)
        pipe.send({"memory": used, "with_decoding": 1000 * statistics.median(whole)})
    except UserError as error:
        pipe.send(error)
    except EOFError:  # whoever asked is gone
        pass


def _timed(call: Callable[[], object], least: float) -> list[float]:
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < least:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


def _load_runtime(path: Path) -> None:
    """Import what will run the file, so that its libraries do not count as the network's memory."""
    import importlib

    names = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "ai_edge_litert.interpreter"}
    if name := names.get(path.suffix):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _memory(*, reset: bool = False) -> int | None:
    """The most bytes that this process has held since the last reset, where the system tells."""
    if sys.platform != "linux":
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) if sys.platform == "darwin" else None
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return None
