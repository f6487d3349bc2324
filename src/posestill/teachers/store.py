"""Answers about many persons, as one array a field: in memory, or in a folder that a killed process leaves whole.

In the folder of a cache:

    cache.json     what it is and was made for; written whole, before any answer
    persons.npy    id, image id and bbox of every person
    FIELD.npy      (persons, crops, ...) one array a field, memory-mapped once it is complete
    chunks.jsonl   a line for each chunk of persons that is finished: its number, the CRC-32 of its bytes, and whose
                   pictures could not be read
    complete.json  size and time of each array, once all chunks were checked: while they hold nobody checks again
    lock           held by the process that fills the folder; whoever comes meanwhile waits, and then finds it full

A chunk's line is written when its bytes are on the disk, so that what has a line is whole. A chunk whose bytes are not
those of its line is asked about again, and so is one with a picture that could not be read then and can be read now.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from posestill.files import refuse_taken, write_json, write_whole
from posestill.schema import UserError
from posestill.teachers.kept import Field
from posestill.teachers.lock import held
from posestill.teachers.made_for import as_read_back, read_description

CHUNK = 64
"""persons whose answers are finished and recorded together"""
Say = Callable[[str], None]
Learn = Callable[[], dict[str, Any]]
"""finds what must be known of the teacher beside its answers (see `Kept.learn`)"""


class Store:
    """Answers about N persons, so many crops of each, in memory: gone with the process."""

    def __init__(self, fields: Mapping[str, Field], *, persons: int, crops: int) -> None:
        self.fields, self.persons, self.crops = fields, persons, crops
        self.chunks = [range(at, min(at + CHUNK, persons)) for at in range(0, persons, CHUNK)]
        """the persons of each chunk, by its number"""
        self.finished: set[int] = set()
        """the numbers of the chunks whose answers are there"""
        self.arrays: dict[str, np.ndarray] = {}
        """(persons, crops, ...) each"""

    @property
    def missing(self) -> list[int]:
        """The numbers of the chunks that nobody was asked about yet."""
        return [number for number in range(len(self.chunks)) if number not in self.finished]

    def persons_of(self, number: int) -> range:
        """The places of a chunk's persons among all that the teacher is asked about."""
        return self.chunks[number]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the array of a field."""
        return (self.persons, self.crops, *self.fields[name].shape)

    def found(self) -> dict[str, Any] | None:
        """What was learnt, where an earlier run left everything; None: it is this one's `turn`."""
        return None

    @contextmanager
    def turn(self, learn: Learn, say: Say) -> Iterator[dict[str, Any]]:
        """Within it this process alone adds what is missing. It gives what was learnt, now or in an earlier run."""
        needed = sum(math.prod(self.shape(name)) * self.fields[name].dtype.itemsize for name in self.fields)
        try:
            self.arrays = {name: np.zeros(self.shape(name), field.dtype) for name, field in self.fields.items()}
        except MemoryError:
            raise UserError(
                f"teacher.cache: the answers about {self.persons} persons take {needed / 1e9:.1f} GB of memory: keep "
                "them on disk by teacher.cache.folder, or keep less"
            ) from None
        yield learn()

    def add(self, number: int, rows: Mapping[str, np.ndarray], *, passed_over: Sequence[int] = ()) -> None:
        """Take the answers about the persons of a chunk, (persons, crops, ...) each.

        `passed_over`: the places of those whose pictures could not be read, among all that the teacher is asked about.
        """
        persons = self.chunks[number]
        for name in self.fields:
            self.arrays[name][persons.start : persons.stop] = rows[name]
        self.finished.add(number)

    def rows(self, person: np.ndarray, crop: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Of each named field the rows of pairs of a person (B,) and a crop (B,): copies."""
        return {name: self.arrays[name][person, crop] for name in names}


class StoreInFolder(Store):
    """The same in a folder, for later runs and for others at the same time."""

    def __init__(
        self,
        folder: Path,
        fields: Mapping[str, Field],
        *,
        table: np.ndarray,
        crops: int,
        described: Mapping[str, Any],
        is_readable: Callable[[int], bool] = lambda place: False,
    ) -> None:
        """`described` and `table` say whom the answers are about and whose they are (see `made_for.py`).

        `is_readable` says whether the picture of the person at a place can be read now.
        """
        super().__init__(fields, persons=len(table), crops=crops)
        self.folder, self.table, self.is_readable = folder, table, is_readable
        arrays = {name: {"shape": self.shape(name), "dtype": str(field.dtype)} for name, field in fields.items()}
        self.described = as_read_back({**described, "arrays": arrays, "chunk": CHUNK})
        self.checksums: dict[int, int] = {}
        """of each finished chunk"""
        self.passed_over: dict[int, list[int]] = {}
        """of finished chunks the places of persons whose pictures could not be read"""

    def found(self) -> dict[str, Any] | None:
        """See `Store.found`. A `UserError` where the folder was made for something else."""
        there = read_description(self.folder, self.described, self.table)
        if there is None or not self._is_checked():
            return None
        self._map()
        self.finished = set(range(len(self.chunks)))
        return _learnt(there)

    @contextmanager
    def turn(self, learn: Learn, say: Say) -> Iterator[dict[str, Any]]:
        """See `Store.turn`. What earlier processes finished is checked, and not missing unless it is broken."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(self.folder / "lock", say=say, meanwhile=f"{self.folder} is being filled by"):
            there = read_description(self.folder, self.described, self.table) or self._begin(learn, say)
            if not self._is_checked():
                (self.folder / "complete.json").unlink(missing_ok=True)
                self._allocate()
                self._check(say)
                yield _learnt(there)
                if self.missing:
                    return
                self._write_journal()  # in the order of the persons, whatever the order in which they were asked about
                write_json(self.folder / "complete.json", self._states())
            else:  # by whoever had the turn before
                self.finished = set(range(len(self.chunks)))
                yield _learnt(there)
            self._map()

    def add(self, number: int, rows: Mapping[str, np.ndarray], *, passed_over: Sequence[int] = ()) -> None:
        """Write a chunk's bytes, wait until they are on the disk, and record their checksum after that."""
        checksum = 0
        for name, field in self.fields.items():
            content = np.ascontiguousarray(rows[name], dtype=field.dtype)
            checksum = zlib.crc32(content.data, checksum)
            with self._path(name).open("r+b") as handle:
                handle.seek(len(self._header(name)) + self.chunks[number].start * self.crops * field.nbytes)
                handle.write(content.data)
                _to_disk(handle)
        with (self.folder / "chunks.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(_line(number, checksum, passed_over))
            _to_disk(journal)
        self.checksums[number] = checksum
        self.passed_over[number] = list(passed_over)
        self.finished.add(number)

    def _begin(self, learn: Learn, say: Say) -> dict[str, Any]:
        """Write down what the folder will hold."""
        refuse_taken(self.folder, [f"{name}.npy" for name in self.fields], what="teacher.cache.folder")
        needed = self.persons * self.crops * sum(field.nbytes for field in self.fields.values())
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"teacher.cache.folder: the answers about {self.persons} persons take {needed / 1e9:.1f} GB, and "
                f"{self.folder} has {free / 1e9:.1f} GB left: keep less, or name another folder"
            )
        say(
            f"{self.folder} will hold the teacher's answers about {self.persons} persons, "
            f"{needed // self.persons:,} bytes each, {needed / 1e6:.1f} MB in all"
        )
        there = {**self.described, "learnt": learn()}
        write_whole(self.folder / "persons.npy", lambda draft: _save(draft, self.table))
        write_json(self.folder / "cache.json", there)
        return there

    def _allocate(self) -> None:
        """Make the arrays that are not there, or not of their size."""
        for name in self.fields:
            header, size = self._header(name), self._size(name)
            path = self._path(name)
            if path.is_file() and path.stat().st_size == size:
                with path.open("rb") as handle:
                    if handle.read(len(header)) == header:
                        continue
            write_whole(path, lambda draft, header=header, size=size: _save_zeros(draft, header, size))  # type: ignore[misc]

    def _check(self, say: Say) -> None:
        """Believe those of the recorded chunks whose bytes are what their lines say."""
        self._map()
        self.checksums = {}
        for number, recorded in sorted(self._read_journal().items()):
            persons, checksum = self.chunks[number], 0
            for name in self.fields:
                checksum = zlib.crc32(self.arrays[name][persons.start : persons.stop].data, checksum)
            told = f"{self.folder}: the answers about persons {persons.start} to {persons.stop - 1}"
            if checksum != recorded:
                say(f"{told} are not those that were written: asking about them again")
            elif any(map(self.is_readable, self.passed_over[number])):
                say(f"{told} lack a picture that can be read now: asking about them again")
            else:
                self.checksums[number] = checksum
        self.arrays = {}  # not every system lets a file be written that is mapped
        self.finished = set(self.checksums)
        self._write_journal()

    def _read_journal(self) -> dict[int, int]:
        """The checksum of each recorded chunk; a line that a kill cut off is none. It notes who was passed over."""
        path, recorded = self.folder / "chunks.jsonl", {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                if row["chunk"] in range(len(self.chunks)):
                    recorded[row["chunk"]] = int(row["crc32"], 16)
                    self.passed_over[row["chunk"]] = list(row.get("passed_over", ()))
        return recorded

    def _write_journal(self) -> None:
        lines = "".join(
            _line(number, self.checksums[number], self.passed_over[number]) for number in sorted(self.checksums)
        )
        write_whole(self.folder / "chunks.jsonl", lambda draft: draft.write_text(lines, encoding="utf-8"))

    def _map(self) -> None:
        self.arrays = {name: np.load(self._path(name), mmap_mode="r") for name in self.fields}

    def _is_checked(self) -> bool:
        """True where all is there, nobody has written to it since it was checked, and no more can be read now."""
        try:
            if json.loads((self.folder / "complete.json").read_text()) != self._states():
                return False
        except (OSError, ValueError):
            return False
        self._read_journal()
        return not any(self.is_readable(place) for places in self.passed_over.values() for place in places)

    def _states(self) -> dict[str, list[int]]:
        """Size and time of change of each array."""
        states = {name: self._path(name).stat() for name in self.fields}
        return {name: [state.st_size, state.st_mtime_ns] for name, state in states.items()}

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _size(self, name: str) -> int:
        return len(self._header(name)) + self.persons * self.crops * self.fields[name].nbytes

    def _header(self, name: str) -> bytes:
        """With which the file of an array begins."""
        buffer = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.fields[name].dtype)
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": descr, "fortran_order": False, "shape": self.shape(name)}
        )
        return buffer.getvalue()


class StoreOfSome(Store):
    """Answers about a few pairs of a person and a crop, such as those of one batch, in memory."""

    def __init__(self, pairs: Sequence[tuple[int, int]], rows: Mapping[str, np.ndarray]) -> None:
        """For pairs (person, crop) and one array a field with a row for each."""
        super().__init__({}, persons=0, crops=0)
        self.place = {pair: place for place, pair in enumerate(pairs)}
        self.arrays = dict(rows)

    def rows(self, person: np.ndarray, crop: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Store.rows`."""
        places = [self.place[pair] for pair in zip(person.tolist(), crop.tolist(), strict=True)]
        return {name: self.arrays[name][places] for name in names}


def _learnt(there: Mapping[str, Any]) -> dict[str, Any]:
    learnt: dict[str, Any] = there["learnt"]
    return learnt


def _line(number: int, checksum: int, passed_over: Sequence[int]) -> str:
    told = {"passed_over": list(passed_over)} if passed_over else {}
    return json.dumps({"chunk": number, "crc32": f"{checksum:08x}", **told}) + "\n"


def _to_disk(handle: Any) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def _save(draft: Path, table: np.ndarray) -> None:
    with draft.open("wb") as handle:  # given a name, numpy would add a suffix to it
        np.save(handle, table)


def _save_zeros(draft: Path, header: bytes, size: int) -> None:
    with draft.open("wb") as handle:
        handle.write(header)
        handle.truncate(size)
