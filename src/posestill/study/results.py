"""The one reader and writer of a study's run files: each is read once, held in memory, and none is lost.

While a plan runs, everything that is finished leaves a file of its own below the study's results folder:
`runs/SPLIT/REGIME/ARM-lr...-seed...json` for a run, `runs/teachers/SPLIT/REGIME.json` for a teacher that was measured,
`runs/lengths/REGIME/ARM.json` for a length that was, `runs/prepared/NAME.json` for a prepared model. Such a file is
whole or not there, and the first one to write a name has it, so that several processes may work on one plan. These
loose files are not for commit: `compact` gathers them in `runs.jsonl`, one line each behind the plan that they were run
by, and removes them after that. What stands in both is taken from `runs.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path

from posestill.cluster.publish import publish, replace, withdraw
from posestill.files import finite
from posestill.schema import UserError
from posestill.study.lines import (
    CALLED,
    SPLITS,
    Key,
    Kind,
    Row,
    checked,
    from_json,
    in_order,
    name_of,
    read_lines,
    write_lines,
)

GATHERED, LOOSE = "runs.jsonl", "runs"
_FOLDERS: dict[Kind, str] = {"prepared": "prepared", "teacher": "teachers", "length": "lengths", "run": ""}
"""Below `runs`, of the loose files of each kind."""


class Results:
    """What is known of one study: its plan, as it was run, its runs, teachers, lengths and prepared models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan: Row | None = None
        """the plan's `name`, the `command` that ran it, and the resolved `plan`; None before the first `compact`"""
        self._rows: dict[Key, Row] = {}
        self._loose: set[Key] = set()
        self._text: str = ""
        self._stamp: tuple[int, ...] | None = None  # of runs.jsonl when it was read or written last

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Everything in a study's results folder; a `UserError` names the file and the line that cannot be read."""
        found = cls(folder)
        found.refresh()
        return found

    def refresh(self) -> None:
        """Take in what other processes have published or gathered since this one looked."""
        # Loose files first: what another process gathers and removes meanwhile is then found in runs.jsonl.
        loose = dict(_loose_rows(self.folder / LOOSE, known=self._rows))
        if _stamp(self.folder / GATHERED) != self._stamp:
            self._read_gathered()
        new = {key: row for key, row in loose.items() if key not in self._rows}
        self._rows.update(new)
        self._loose |= set(new)

    @property
    def rows(self) -> list[Row]:
        """Every finished run: those of tune, then those of test, each in the order of their names."""
        names = self._names("run")
        return [self._rows["run", name] for split in SPLITS for name in names if name.startswith(f"{split}/")]

    @property
    def teachers(self) -> dict[tuple[str, str], Row]:
        """What was measured of the teachers, by split and regime."""
        return {(name.partition("/")[0], name.partition("/")[2]): self._rows["teacher", name]
                for name in self._names("teacher")}  # fmt: skip

    @property
    def lengths(self) -> dict[tuple[str, str], Row]:
        """What was measured for controls that get a method's time, by regime and arm; `ratio` is their length."""
        return {(name.partition("/")[0], name.partition("/")[2]): self._rows["length", name]
                for name in self._names("length")}  # fmt: skip

    @property
    def prepared(self) -> dict[str, Row]:
        """The evaluation of each prepared model, by its name in the plan."""
        return {name: self._rows["prepared", name] for name in self._names("prepared")}

    @property
    def loose(self) -> list[str]:
        """The names of what is not yet in `runs.jsonl`."""
        return in_order([name for _, name in self._loose])

    def run(self, name: str) -> Row | None:
        """The row of a run; None where it is not finished."""
        return self._rows.get(("run", name))

    def place_of(self, name: str) -> str:
        """Where a run's row stands: what to remove, for the run to be measured again."""
        if ("run", name) in self._loose:
            return str(self._path("run", name))
        return f"the line of {name} in {self.folder / GATHERED}"

    def add_run(self, row: Row) -> Row:
        """Publish a run's row; returns the one that counts, which is another's where another wrote it first."""
        return self._add("run", name_of(row), row)

    def add_teacher(self, split: str, regime: str, figures: Row) -> Row:
        """Publish what was measured of a regime's teacher; returns what counts."""
        return self._add("teacher", f"{split}/{regime}", figures)

    def add_length(self, regime: str, arm: str, measured: Row) -> Row:
        """Publish the measured length of an arm in a regime; returns what counts."""
        return self._add("length", f"{regime}/{arm}", measured)

    def add_prepared(self, name: str, figures: Row) -> Row:
        """Publish the evaluation of a prepared model; returns what counts."""
        return self._add("prepared", name, figures)

    def compact(self, plan: Row) -> None:
        """Gather everything in `runs.jsonl` behind this plan (see `plan`), then remove the loose files that are in it.

        A stop at any moment leaves every row in one of both places or in both. What another process has gathered since
        this one read the file is taken in first, and stands where both know a row.
        """
        path = self.folder / GATHERED
        while (text := write_lines(plan, self._rows)) != self._text:
            if replace(path, text, unless=lambda: _stamp(path) != self._stamp):
                self._text, self._stamp = text, _stamp(path)
            else:
                self._read_gathered()
        self.plan, self._loose = plan, set()
        self._remove_loose()

    def _names(self, kind: Kind) -> list[str]:
        return in_order([name for each, name in self._rows if each == kind])

    def _path(self, kind: Kind, name: str) -> Path:
        return self.folder / LOOSE / _FOLDERS[kind] / f"{name}.json"

    def _add(self, kind: Kind, name: str, content: Row) -> Row:
        if (kind, name) not in self._rows:
            path = self._path(kind, name)
            text = json.dumps(finite(content), indent=2, allow_nan=False) + "\n"
            ours = publish(path, text)
            self._rows[kind, name] = checked(kind, name, json.loads(text)) if ours else _read_one(path, kind, name)
            self._loose.add((kind, name))
        return self._rows[kind, name]

    def _read_gathered(self) -> None:
        path = self.folder / GATHERED
        self._text, self._stamp = "", _stamp(path)
        if self._stamp is not None:
            self._text = _text_of(path)
            self.plan, rows = read_lines(self._text, str(path))
            self._rows.update(rows)
            self._loose -= set(rows)

    def _remove_loose(self) -> None:
        """Remove the loose files that are in `runs.jsonl`, and the folders that stay behind empty."""
        root = self.folder / LOOSE
        for path in list(root.rglob("*.json")):
            if _key_of(path, root) in self._rows:
                withdraw(path)
        for folder in sorted((each for each in [root, *root.rglob("*")] if each.is_dir()), reverse=True):
            with suppress(OSError):  # something else is in it
                folder.rmdir()


def _loose_rows(root: Path, known: Container[Key]) -> Iterator[tuple[Key, Row]]:
    """The rows of all loose files but those that are known."""
    for path in sorted(root.rglob("*.json")):
        key = _key_of(path, root)
        if key is None:
            raise UserError(f"{path} is no file of a study's run: move it elsewhere")
        if key in known:
            continue
        with suppress(FileNotFoundError):  # gathered by another process since
            yield key, _read_one(path, *key)


def _key_of(path: Path, root: Path) -> Key | None:
    """What a loose file holds, by where it lies; None where nothing of a study lies."""
    name = path.relative_to(root).with_suffix("").as_posix()
    first, _, rest = name.partition("/")
    if first in SPLITS:
        return "run", name
    return next(((kind, rest) for kind, folder in _FOLDERS.items() if rest and first == folder), None)


def _read_one(path: Path, kind: Kind, name: str) -> Row:
    try:
        return checked(kind, name, from_json(_text_of(path)))
    except ValueError as error:
        raise UserError(f"{path} holds no {CALLED[kind]}: {error}. Remove it, and it is measured again") from None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file (UTF-8): take it from version control again") from None


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with a file's content; None where there is none."""
    try:
        known = path.stat()
    except FileNotFoundError:
        return None
    return known.st_mtime_ns, known.st_size, known.st_ino
