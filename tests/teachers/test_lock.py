import errno
import threading
import time

import pytest

from posestill.schema import UserError
from posestill.teachers.lock import claimed, held


def test_one_waits_for_the_other_and_says_so_once(tmp_path):
    said, order = [], []
    inside, leave = threading.Event(), threading.Event()

    def first():
        with held(tmp_path / "lock", say=said.append, meanwhile="busy:"):
            inside.set()
            leave.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    threading.Timer(0.2, leave.set).start()
    with held(tmp_path / "lock", say=said.append, meanwhile="busy:", pause=0.01):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert len(said) == 1
    assert said[0].startswith("busy: process ")
    assert said[0].endswith(": waiting for it")


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="inside"), held(tmp_path / "lock", say=print, meanwhile=""):
        raise ValueError("inside")
    began = time.monotonic()
    with held(tmp_path / "lock", say=print, meanwhile=""):
        pass
    assert time.monotonic() - began < 1


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(UserError, match=r"none/lock cannot be written"),
        held(tmp_path / "none" / "lock", say=print, meanwhile=""),
    ):
        pass


def test_a_claim_is_refused_while_another_has_it_and_leaves_nothing_behind(tmp_path):
    with claimed(tmp_path / "lock", refusal=lambda holder: f"taken by {holder}"):
        with pytest.raises(UserError, match=r"taken by \d+ on "), claimed(tmp_path / "lock", refusal=lambda holder: (
            f"taken by {holder}"
        )):  # fmt: skip
            pass
        assert (tmp_path / "lock").is_file()
    assert not (tmp_path / "lock").exists()


def test_a_claim_is_refused_where_the_file_was_removed_while_it_was_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("posestill.teachers.lock._is_at", lambda handle, path: False)
    with pytest.raises(UserError, match="taken"), claimed(tmp_path / "lock", refusal=lambda holder: "taken"):
        pass


def test_a_disk_that_knows_no_locks_hinders_nobody(tmp_path, monkeypatch):
    import fcntl

    def unknown(handle, how):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with claimed(tmp_path / "lock", refusal=lambda holder: "taken"):
        pass
