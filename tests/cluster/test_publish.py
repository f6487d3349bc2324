import errno
import multiprocessing
import os

import pytest

from posestill.cluster.publish import publish, replace, withdraw


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_first_writer_of_a_name_has_it_and_no_draft_stays(tmp_path):
    path = tmp_path / "a" / "b.json"
    assert publish(path, "first\n")
    assert not publish(path, "second\n")
    assert files_of(tmp_path) == {"a/b.json": "first\n"}


def no_links(*_):
    raise OSError(errno.EPERM, "no hard links here")


def test_without_hard_links_the_first_writer_has_the_name_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    assert publish(tmp_path / "b.json", "first\n")
    assert not publish(tmp_path / "b.json", "second\n")
    assert files_of(tmp_path) == {"b.json": "first\n", ".b.json.won/content": "first\n"}
    withdraw(tmp_path / "b.json")
    assert files_of(tmp_path) == {}


def test_without_hard_links_what_the_first_writer_was_stopped_in_is_ended_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    publish(tmp_path / "b.json", "first\n")
    (tmp_path / "b.json").unlink()  # as if the first had been stopped when its folder had the name
    assert not publish(tmp_path / "b.json", "second\n")
    assert (tmp_path / "b.json").read_text() == "first\n"


def test_bytes_are_published_as_they_are(tmp_path):
    assert publish(tmp_path / "b.npz", b"\x00\r\n")
    assert (tmp_path / "b.npz").read_bytes() == b"\x00\r\n"


def test_a_link_that_was_made_but_whose_answer_got_lost_is_our_own(tmp_path, monkeypatch):
    link = os.link

    def lost(draft, path):
        link(draft, path)
        raise FileExistsError

    monkeypatch.setattr(os, "link", lost)
    assert publish(tmp_path / "b.json", "first\n")


@pytest.mark.parametrize("where", ["fsync", "link"])
def test_a_stop_before_the_name_is_given_leaves_no_file_of_that_name(where, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, where, stop)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "b.json", "first\n")
    assert files_of(tmp_path) == {}


def try_to_publish(folder, number, start):
    start.wait()
    if publish(folder / "b.json", f"{number} " * 100_000):
        (folder / f"won-{number}").touch()


@pytest.mark.parametrize("links", [True, False])
def test_of_many_processes_one_wins_and_its_file_is_whole(links, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [context.Process(target=try_to_publish, args=(tmp_path, number, start)) for number in range(6)]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join()
    assert all(writer.exitcode == 0 for writer in writers)
    (winner,) = tmp_path.glob("won-*")
    assert (tmp_path / "b.json").read_text() == f"{winner.name.removeprefix('won-')} " * 100_000


def test_a_file_is_replaced_whole_unless_it_is_said_not_to_be(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert replace(path, "one\n", unless=lambda: False)
    assert not replace(path, "two\n", unless=lambda: True)
    assert files_of(tmp_path) == {"runs.jsonl": "one\n"}
    assert replace(path, "two\n", unless=lambda: path.read_text() != "one\n")
    assert files_of(tmp_path) == {"runs.jsonl": "two\n"}
