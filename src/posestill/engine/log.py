"""What a run tells: metrics.jsonl always, a progress bar on a terminal, plain lines in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from posestill.files import finite, not_written
from posestill.schema import UserError, printable


class RunLog:
    """Rows of a run folder's metrics.jsonl, and the same for whoever looks on."""

    def __init__(self, folder: Path | None, *, quiet: bool = False) -> None:
        """`folder` None: nothing is written; `quiet`: nothing is shown."""
        self.path = None if folder is None else folder / "metrics.jsonl"
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        """One line for the person who started the run."""
        self.console.print(printable(text, keep="\n\t"), markup=False)

    def row(self, values: Mapping[str, Any]) -> None:
        """Append a row to metrics.jsonl."""
        if self.path is not None:
            try:
                with self.path.open("a") as handle:
                    handle.write(json.dumps(finite(values)) + "\n")
            except OSError as error:
                raise UserError(not_written(self.path, error)) from None

    @contextmanager
    def bar(self, what: str, total: int, start: int = 0) -> Iterator[Bar]:
        """A progress bar on a terminal; elsewhere a line now and then."""
        if self.console.is_terminal and not self.console.quiet:
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("·"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            with Progress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(what, total=total, completed=start, note="")
                yield Bar(
                    lambda done, note: progress.update(task, advance=done, **({} if note is None else {"note": note}))
                )
        else:
            lines = _Lines(self, what, total, start)
            yield Bar(lines.update)


class Speed:
    """How many persons this process has trained on a second."""

    def __init__(self) -> None:
        self.persons, self.seconds = 0, 0.0

    def add(self, persons: int, seconds: float) -> None:
        """Count a step."""
        self.persons += persons
        self.seconds += seconds

    def persons_per_second(self) -> float:
        """Since the process began."""
        return self.persons / self.seconds if self.seconds else 0.0


class Bar:
    """Something that is told how much was done."""

    def __init__(self, update: Any) -> None:
        self._update = update

    def advance(self, done: int = 1, note: str | None = None) -> None:
        """`done` more units, and what to show beside them from now on; None: what stood there."""
        self._update(done, note)


class _Lines:
    """A line every tenth of the way, at most one in five seconds, and one at the end."""

    def __init__(self, log: RunLog, what: str, total: int, start: int) -> None:
        self.log, self.what, self.total, self.done = log, what, total, start
        self.told, self.told_at, self.note = start, time.monotonic(), ""

    def update(self, done: int, note: str | None) -> None:
        self.done += done
        self.note = self.note if note is None else note
        now = time.monotonic()
        tenth = self.done - self.told >= self.total / 10 and now - self.told_at >= 5
        if tenth or (self.done >= self.total and self.told < self.total):
            self.told, self.told_at = self.done, now
            self.log.say(f"{self.what} {self.done}/{self.total} {self.note}".rstrip())
