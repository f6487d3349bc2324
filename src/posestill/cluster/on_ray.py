"""Functions called on the nodes of a Ray cluster: Ray Core alone, where a node that dies costs its calls another try.

A node must have the same packages and see the folder of the command under the same path: what a call reads and writes
is named by its path from there.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from posestill.cluster.attempts import Failure, InUse, failure_of
from posestill.schema import UserError

Given = TypeVar("Given")
Result = TypeVar("Result")
Load = Callable[[Path], None]
TRIES = 4
"""of a call, where it was lost with its node or failed by what may pass"""
_PATIENCE = 120.0
"""seconds that a call waits for work that another process is still at, such as one whose node has just died"""
_PAUSE = 1.0
"""seconds"""


@dataclass(frozen=True)
class Place:
    """Where a call finds itself, whichever node it is on."""

    folder: Path
    plugins: tuple[Path, ...]
    load: Load
    """what runs a plugin"""


class RayCluster:
    """Calls on the nodes of a Ray cluster: so many at a time as it has room for, each in a process of its own."""

    def __init__(
        self, on: str, *, gpus: float | None = None, most: int | None = None, plugins: Sequence[Path] = (), load: Load
    ) -> None:
        """The cluster is joined when this is entered.

        `on`: `ray` for the cluster that RAY_ADDRESS names or that runs on this machine, else a new one of this machine
        alone; `ray://HOST:PORT` for that one. `gpus`: of a call; None: one, if the cluster has any. `most` calls at a
        time; None: as many as there is room for. `load` runs each plugin before the first call of a process.
        """
        if on != "ray" and not on.startswith("ray://"):
            raise UserError(f"--on {on}: it is ray, or ray://HOST:PORT")
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise UserError(f"--gpus {gpus:g}: a share of one GPU such as 0.25, or a whole number of them")
        self.on, self.most = on, most
        self.place = Place(Path.cwd(), tuple(each.resolve() for each in plugins), load)
        self._gpus = gpus
        self._busy: dict[Any, Any] = {}

    def __enter__(self) -> RayCluster:
        self._ray = _import_ray()
        _join(self._ray, self.on)
        there = self._ray.cluster_resources()
        most = max(node["Resources"].get("GPU", 0.0) for node in self._ray.nodes() if node["Alive"])
        gpus = min(1.0, most) if self._gpus is None else self._gpus
        if gpus > most:
            self._ray.shutdown()
            raise UserError(
                f"--gpus {gpus:g}: no node of the cluster has so many GPUs, {most:g} at most: start such a node first, "
                "or give --gpus 0 to run on processors"
            )
        self.room = max(1, int(there.get("GPU", 0.0) / gpus if gpus else there.get("CPU", 1.0)))
        """how many calls it has room for at a time, as it is now"""
        self._call = self._ray.remote(_call).options(num_cpus=1, num_gpus=gpus, max_retries=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reference in self._busy:
            self._ray.cancel(reference)  # as by Ctrl-C, so that a run saves its state
        self._ray.shutdown()

    @property
    def busy(self) -> int:
        """How many calls have not ended."""
        return len(self._busy)

    @property
    def takes_more(self) -> bool:
        """Whether another call may be started; Ray itself makes those wait for which there is no room."""
        return self.most is None or self.busy < self.most

    def start(self, function: Callable[[Given], Any], given: Given) -> None:
        """Call a function of a module somewhere."""
        # Pickled here and not by Ray: the classes of a plugin are not known there before it is loaded.
        self._busy[self._call.remote(pickle.dumps((function, given)), self.place)] = given

    def ended(self) -> Iterator[tuple[Any, Any]]:
        """What was given to the calls that have ended, when at least one has, with its result or its `Failure`."""
        done: list[Any] = []
        while self._busy and not done:
            done, _ = self._ray.wait(list(self._busy), timeout=_PAUSE)
        for reference in done:
            yield self._busy.pop(reference), self._result(reference)

    def each(
        self, function: Callable[[Given], Result], givens: Sequence[Given], *, say: Callable[[str], None],
        told: Callable[[Given, Result], None],
    ) -> None:  # fmt: skip
        """Call a function with each of some values, again where a call was lost; `told` hears of each that is done.

        A `UserError` says why one of them gave nothing.
        """
        waiting = [(given, 1) for given in givens]
        tries: dict[int, int] = {}
        while waiting or self.busy:
            while waiting and self.takes_more:
                given, number = waiting.pop(0)
                tries[id(given)] = number
                self.start(function, given)
            for given, result in self.ended():
                number = tries[id(given)]
                if not isinstance(result, Failure):
                    told(given, result)
                elif result.may_pass and number < TRIES:
                    say(f"{given}: {result.reason}; it is tried again")
                    waiting.append((given, number + 1))
                else:
                    raise UserError(f"{given}: {result.reason}{result.trace}")

    def call(self, function: Callable[[Given], Result], given: Given, *, say: Callable[[str], None]) -> Result:
        """The result of one call."""
        found: list[Result] = []
        self.each(function, [given], say=say, told=lambda _, result: found.append(result))
        return found[0]

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:  # before the function was reached: the node lacks something
            said = " ".join(str(error.cause).split())
            return Failure(
                f"a node cannot make the call ({said}): every node needs the same packages, posestill among them",
                may_pass=False,
            )
        except errors.RayError as error:
            return Failure(f"its process or its node died ({type(error).__name__})", may_pass=True)


def _call(pickled: bytes, place: Place) -> Any:
    """On a node: the result of a call or, so that no error of Ray's is wrapped around it, its `Failure`."""
    until = time.monotonic() + _PATIENCE
    try:
        _take(place)
        function, given = pickle.loads(pickled)
        while True:
            try:
                return function(given)
            except InUse:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)
    except (Exception, KeyboardInterrupt) as error:
        return failure_of(error, f"\n{traceback.format_exc()}")


_LOADED: set[Path] = set()


def _take(place: Place) -> None:
    """Go to the folder of the command, and load its plugins if this process has not."""
    try:
        os.chdir(place.folder)
    except OSError:
        raise UserError(
            f"the node {platform.node()} has no folder {place.folder}: start the command in a folder on a disk that "
            "all nodes share, under the same path"
        ) from None
    for path in place.plugins:
        if path not in _LOADED:
            place.load(path)
            _LOADED.add(path)


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when it is imported: nothing is told to anybody
    try:
        import ray
    except ImportError:
        raise UserError('--on ray needs Ray: pip install "posestill[cluster]"') from None
    return ray  # type: ignore[no-any-return]


def _join(ray: ModuleType, on: str) -> None:
    """Become part of a cluster; without one, of a new one on this machine."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if on == "ray":
            ray.init(**quiet, include_dashboard=False)
        else:
            ray.init(on, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--on {on}: there is no joining this cluster ({' '.join(str(error).split())[:300]}): is it up (ray "
            f"status), with the same Ray ({ray.__version__}) and Python ({sys.version.split()[0]})?"
        ) from None
