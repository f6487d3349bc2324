import json
import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from posestill.schema import UserError
from posestill.teachers import store as store_module
from posestill.teachers.kept import Field
from posestill.teachers.store import CHUNK, Store, StoreInFolder, StoreOfSome

FIELDS = {"xy": Field((2,), np.dtype(np.float32)), "cell": Field((), np.dtype(np.uint16))}
PERSONS, CROPS = 3 * CHUNK + 5, 2
PERSON = np.dtype([("id", "<i8"), ("image_id", "<i8"), ("bbox", "<f8", (4,))])
DESCRIBED = {"format": "test", "teacher": {"sha256": "one"}}


class Killed(BaseException):
    """What ends a process at a chosen place, in this process."""


def in_folder(folder, persons=PERSONS, **changes):
    table = np.zeros(persons, dtype=PERSON)
    return StoreInFolder(folder, FIELDS, table=table, crops=CROPS, described={**DESCRIBED, **changes})


def answers(persons):
    """What is said of some persons: their number, and its square."""
    number = np.arange(persons.start, persons.stop)[:, None].repeat(CROPS, axis=1)
    return {"xy": np.stack([number, number**2], axis=-1).astype(np.float32), "cell": number.astype(np.uint16)}


def fill(store, *, asked=None, said=None, stop_after=None):
    """Answer whatever is missing; `stop_after` so many chunks the process is killed."""
    with store.turn(lambda: {"first": 7}, (said if said is not None else []).append) as learnt:
        assert learnt == {"first": 7}
        for done, number in enumerate(store.missing):
            if done == stop_after:
                raise Killed
            if asked is not None:
                asked.append(number)
            store.add(number, answers(store.chunks[number]))
    return store


def contents(folder):
    """Every file but those that are another for each process."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("lock", "complete.json")}


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_what_was_added_is_found_by_person_and_crop(tmp_path, kind):
    store = Store(FIELDS, persons=PERSONS, crops=CROPS) if kind == "memory" else in_folder(tmp_path / "new" / "cache")
    assert store.found() is None
    fill(store)
    assert not store.missing
    rows = store.rows(np.array([130, 3, 196]), np.array([0, 1, 1]), ("xy", "cell"))
    assert rows["xy"].tolist() == [[130, 130**2], [3, 9], [196, 196**2]]
    assert rows["cell"].tolist() == [130, 3, 196]
    assert set(store.rows(np.array([0]), np.array([0]), ("cell",))) == {"cell"}


def test_a_later_process_finds_everything_without_a_turn(tmp_path):
    fill(in_folder(tmp_path))
    later = in_folder(tmp_path)
    assert later.found() == {"first": 7}
    assert not later.missing
    assert isinstance(later.arrays["xy"], np.memmap)
    assert later.rows(np.array([9]), np.array([1]), ("xy",))["xy"].tolist() == [[9, 81]]
    head = json.loads((tmp_path / "cache.json").read_text())
    assert head["arrays"]["cell"] == {"shape": [PERSONS, CROPS], "dtype": "uint16"}
    assert np.load(tmp_path / "cell.npy").shape == (PERSONS, CROPS)  # any reader of numpy's files


@pytest.mark.parametrize("after", range(4))
def test_a_killed_process_leaves_what_it_finished_and_nobody_is_asked_about_that_again(tmp_path, after):
    whole = contents(fill(in_folder(tmp_path / "whole")).folder)
    first, second = [], []
    with pytest.raises(Killed):
        fill(in_folder(tmp_path / "parts"), asked=first, stop_after=after)
    assert first == list(range(after))
    assert in_folder(tmp_path / "parts").found() is None
    fill(in_folder(tmp_path / "parts"), asked=second)
    assert first + second == [0, 1, 2, 3]
    assert contents(tmp_path / "parts") == whole


@pytest.mark.parametrize("place", ["before the bytes", "amid the bytes", "before the line", "amid the line"])
def test_nothing_that_was_written_by_halves_is_believed(tmp_path, monkeypatch, place):
    whole = contents(fill(in_folder(tmp_path / "whole")).folder)
    folder = tmp_path / "parts"
    with pytest.raises(Killed):
        fill(in_folder(folder), stop_after=1)
    line, seen = (tmp_path / "whole" / "chunks.jsonl").read_text().splitlines()[1], []

    def killed_at(handle):
        seen.append(Path(handle.name).name)
        if place == "before the bytes":
            raise Killed
        if place == "amid the bytes" and seen[-1] == "xy.npy":
            handle.truncate(handle.tell() - 8)  # the file's end was not reached
            raise Killed
        if place == "before the line" and seen[-1] == "cell.npy":
            raise Killed
        handle.flush()
        if place == "amid the line" and seen[-1] == "chunks.jsonl":
            os.truncate(folder / "chunks.jsonl", (folder / "chunks.jsonl").stat().st_size - len(line) // 2)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_to_disk", killed_at)
        with pytest.raises(Killed):
            fill(in_folder(folder))
    asked, said = [], []
    fill(in_folder(folder), asked=asked, said=said)
    lost = place == "amid the bytes"  # the file was cut short, and with it what had been recorded before
    assert asked == ([0, 1, 2, 3] if lost else [1, 2, 3])
    assert bool(said) == lost
    assert contents(folder) == whole


def test_a_chunk_that_is_not_what_was_recorded_is_asked_about_again_and_that_is_said(tmp_path):
    whole = contents(fill(in_folder(tmp_path)).folder)
    with (tmp_path / "xy.npy").open("r+b") as handle:
        handle.seek(-3, os.SEEK_END)  # of the last person
        handle.write(b"\x01")
    asked, said = [], []
    later = in_folder(tmp_path)
    assert later.found() is None
    fill(later, asked=asked, said=said)
    assert asked == [3]
    assert said == [
        f"{tmp_path}: the answers about persons {3 * CHUNK} to {PERSONS - 1} are not those that were written: asking "
        "about them again"
    ]
    assert contents(tmp_path) == whole
    assert in_folder(tmp_path).found() == {"first": 7}


def test_a_copied_folder_is_checked_once_and_believed_from_then_on(tmp_path, monkeypatch):
    fill(in_folder(tmp_path))
    for name in FIELDS:
        os.utime(tmp_path / f"{name}.npy", ns=(0, 0))
    checked, check = [], StoreInFolder._check
    monkeypatch.setattr(StoreInFolder, "_check", lambda store, say: (checked.append(1), check(store, say)))
    asked = []
    assert in_folder(tmp_path).found() is None
    fill(in_folder(tmp_path), asked=asked)
    assert not asked
    assert in_folder(tmp_path).found() is not None
    assert len(checked) == 1


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    fill(in_folder(tmp_path))
    before = contents(tmp_path)
    other = in_folder(tmp_path, teacher={"sha256": "two"})
    message = "was made for something else .teacher.sha256: one there, two here.: name another folder, or delete this"
    with pytest.raises(UserError, match=message):
        other.found()
    with pytest.raises(UserError, match=message):
        fill(other)
    assert contents(tmp_path) == before
    (tmp_path / "cache.json").unlink()
    with pytest.raises(UserError, match=r"holds answers and no cache.json, which says whose they are"):
        in_folder(tmp_path).found()


def test_a_disk_without_room_is_refused_before_anyone_is_asked(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match="the answers about 197 persons take 0.0 GB, and .* has 0.0 GB left"):
        fill(in_folder(tmp_path))
    assert not (tmp_path / "cache.json").exists()


def test_answers_about_some_are_found_by_their_pairs():
    store = StoreOfSome([(5, 0), (2, 1)], {"xy": np.array([[1.0, 2], [3, 4]])})
    assert store.rows(np.array([2, 5]), np.array([1, 0]), ("xy",))["xy"].tolist() == [[3, 4], [1, 2]]


def test_whoever_comes_second_waits_and_finds_the_folder_full(tmp_path):
    """The one that fills is another process; it holds the lock, and goes on when this one has said that it waits."""
    folder, told = tmp_path / "answers", tmp_path / "told"
    slow = start(folder, until=told.is_file)
    wait_for(lambda: recorded(folder))

    class Said(list):
        def append(self, text):
            super().append(text)
            told.touch()

    asked, said = [], Said()
    fill(in_folder(folder), asked=asked, said=said)
    assert os.waitpid(slow, 0)[1] == 0
    assert not asked
    assert said == [f"{folder} is being filled by process {slow} on {os.uname().nodename}: waiting for it"]


def test_a_killed_holder_of_the_lock_is_followed_at_once(tmp_path):
    slow = start(tmp_path, until=lambda: False)
    wait_for(lambda: recorded(tmp_path))
    kill(slow)
    asked = []
    fill(in_folder(tmp_path), asked=asked)
    assert asked
    assert 0 not in asked


def test_ten_kills_at_any_moment_leave_the_bytes_of_an_undisturbed_process(tmp_path):
    persons, folder, times = 60 * CHUNK, tmp_path / "parts", random.Random(0)
    whole = contents(fill(in_folder(tmp_path / "whole", persons=persons)).folder)
    for number in range(10):
        before, least = recorded(folder), number % 4  # chunks that the process finishes, at least
        process = start(folder, persons=persons, log=tmp_path / "asked", most=5, until=lambda: False)
        wait_for(lambda: len(recorded(folder)) - len(before) >= least)  # noqa: B023
        time.sleep(times.uniform(0.0, 0.02))
        kill(process)
        assert not {int(line) for line in read(tmp_path / "asked").split()} & before
        (tmp_path / "asked").unlink(missing_ok=True)
        assert least <= len(recorded(folder)) - len(before) <= 5
    before, asked = recorded(folder), []
    fill(in_folder(folder, persons=persons), asked=asked)
    assert not set(asked) & before
    assert contents(folder) == whole


def start(folder, *, until, persons=PERSONS, log=None, most=1):
    """Another process that fills the folder; after `most` chunks it waits until something holds. Its number."""
    process = os.fork()
    if process:
        return process
    try:
        store = in_folder(folder, persons=persons)
        with store.turn(lambda: {"first": 7}, lambda text: None):
            for done, number in enumerate(store.missing):
                if done == most:
                    wait_for(until)
                if log is not None:
                    with log.open("a") as lines:
                        lines.write(f"{number}\n")
                store.add(number, answers(store.chunks[number]))
        os._exit(0)
    finally:  # whatever happens, this process must not go on with the tests
        os._exit(1)


def kill(process):
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def wait_for(there, seconds=60):
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


def recorded(folder):
    return {int(each) for each in re.findall(r'"chunk": (\d+), "crc32": "\w{8}"}', read(folder / "chunks.jsonl"))}


def read(path):
    return path.read_text() if path.is_file() else ""
