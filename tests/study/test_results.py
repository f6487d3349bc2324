import builtins
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from posestill.cluster import publish
from posestill.schema import UserError
from posestill.study.jobs import Asked
from posestill.study.lines import name_of
from posestill.study.results import Results
from tests.study.plans import small_row

PLAN = {"name": "mine.yaml", "command": "posestill compare mine.yaml", "plan": {"regimes": {"few": {}}}}
ASKED = [Asked(split, regime, "tcd", 1e-3, seed) for split, regime, seed in
         (("test", "few", 1), ("tune", "many", 7), ("tune", "few", 7))]  # fmt: skip
TEACHER = {"teacher": {"name": "bundled"}, "metrics": {"mean_oks": 0.9}, "similarity": "9000"}
LENGTH = {"as_long_as": "tcd", "ratio": 1.25}
PREPARED = {"step": 3, "conditions": {}, "mean_oks": float("nan")}


def filled(folder) -> Results:
    results = Results.read(folder)
    for each in ASKED:
        results.add_run(small_row(each))
    results.add_teacher("tune", "few", TEACHER)
    results.add_length("few", "in_time", LENGTH)
    results.add_prepared("big", PREPARED)
    return results


def content(results):
    return json.dumps([results.rows, list(results.teachers.items()), list(results.lengths.items()), results.prepared])


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """How often each file of a study was opened for reading."""
    counts, open_file = Counter(), io.open

    def counting(file, mode="r", *args, **keywords):
        if "r" in mode and str(file).startswith(str(tmp_path)):
            counts[str(file)] += 1
        return open_file(file, mode, *args, **keywords)

    monkeypatch.setattr(io, "open", counting)
    monkeypatch.setattr(builtins, "open", counting)
    return counts


def test_everything_finished_leaves_a_file_of_its_own_and_comes_back_tune_before_test(tmp_path):
    results = filled(tmp_path)
    assert files_of(tmp_path) == {
        "runs/test/few/tcd-lr0.001-seed1.json", "runs/tune/few/tcd-lr0.001-seed7.json",
        "runs/tune/many/tcd-lr0.001-seed7.json", "runs/teachers/tune/few.json", "runs/lengths/few/in_time.json",
        "runs/prepared/big.json",
    }  # fmt: skip
    assert [name_of(row) for row in results.rows] == [ASKED[2].name, ASKED[1].name, ASKED[0].name]
    assert results.teachers == {("tune", "few"): TEACHER}
    assert results.prepared["big"]["mean_oks"] is None  # JSON knows no NaN; in memory is what a later reader finds
    assert content(Results.read(tmp_path)) == content(results)


def test_each_file_is_read_once_however_often_its_rows_are_asked_for(tmp_path, reads):
    filled(tmp_path)
    reads.clear()
    results = Results.read(tmp_path)
    for _ in range(3):
        assert len(results.rows) == 3
        assert results.run(ASKED[0].name)["seed"] == 1
        assert results.teachers
        assert results.prepared
    results.add_run(small_row(Asked("tune", "few", "alone", 1e-3, 7)))
    results.compact(PLAN)
    assert set(reads.values()) == {1}
    assert len(reads) == 6
    reads.clear()
    again = Results.read(tmp_path)
    again.compact(again.plan)
    assert reads == {str(tmp_path / "runs.jsonl"): 1}


def test_what_is_gathered_is_the_same_and_leaves_nothing_loose(tmp_path):
    results = filled(tmp_path)
    before = content(results)
    assert len(results.loose) == 6
    results.compact(PLAN)
    assert files_of(tmp_path) == {"runs.jsonl"}
    assert not (tmp_path / "runs").exists()
    found = Results.read(tmp_path)
    assert content(found) == content(results) == before
    assert found.plan == results.plan == PLAN
    assert found.loose == results.loose == []
    stamp = (tmp_path / "runs.jsonl").stat().st_mtime_ns
    found.compact(PLAN)
    assert (tmp_path / "runs.jsonl").stat().st_mtime_ns == stamp  # nothing new: nothing written


def test_the_first_writer_of_a_run_has_it_and_its_row_counts_for_the_second(tmp_path):
    one, other = Results.read(tmp_path), Results.read(tmp_path)
    first = one.add_run(small_row(ASKED[0], seconds=1.0))
    assert other.add_run(small_row(ASKED[0], seconds=2.0)) == first == one.add_run(small_row(ASKED[0], seconds=3.0))
    assert Results.read(tmp_path).rows == [first]


def test_what_another_machine_published_or_gathered_is_taken_in_when_it_is_looked_for(tmp_path):
    one, other = Results.read(tmp_path), Results.read(tmp_path)
    other.add_run(small_row(ASKED[0]))
    assert one.rows == []
    one.refresh()
    assert [name_of(row) for row in one.rows] == [ASKED[0].name]
    assert one.loose == [ASKED[0].name]
    other.add_run(small_row(ASKED[1]))
    other.compact(PLAN)
    one.refresh()
    assert content(one) == content(other)
    assert one.loose == []


def test_a_loose_file_that_is_gathered_too_does_no_harm_and_the_gathered_row_counts(tmp_path):
    results = filled(tmp_path)
    late = Results.read(tmp_path / "late")
    late.add_run(small_row(ASKED[0], seconds=99.0))
    results.compact(PLAN)
    (tmp_path / "late" / "runs").rename(tmp_path / "runs")
    found = Results.read(tmp_path)
    assert found.loose == []
    assert found.run(ASKED[0].name)["seconds"] == 12.0
    found.compact(PLAN)
    assert not (tmp_path / "runs").exists()


class Killed(BaseException):
    pass


def test_a_stop_at_any_moment_of_gathering_loses_nothing(tmp_path, monkeypatch):
    steps = ((publish.os, "fsync"), (Path, "open"), (Path, "replace"), (Path, "unlink"), (Path, "rmdir"))
    for moment in range(100):
        folder = tmp_path / str(moment)
        results = filled(folder)
        results.compact(PLAN)
        for rate in (1e-3, 4e-3):
            results.add_run(small_row(Asked("tune", "few", "alone", rate, 7)))
        before, left, died = content(results), [moment], False

        def deadly(call, left=left):
            def maybe(*args, **keywords):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return call(*args, **keywords)

            return maybe

        with monkeypatch.context() as patched:
            for owner, name in steps:
                patched.setattr(owner, name, deadly(getattr(owner, name)))
            try:
                results.compact(PLAN)
            except Killed:
                died = True
        again = Results.read(folder)
        assert content(again) == before
        again.compact(PLAN)
        assert content(Results.read(folder)) == before
        assert {path for path in files_of(folder) if not path.endswith(".draft")} == {"runs.jsonl"}
        if not died:
            break
    assert moment > 8  # open, write, exchange, and the removal of two files and their folders


def test_what_another_process_gathered_in_the_meantime_is_kept(tmp_path):
    filled(tmp_path).compact(PLAN)
    one, other = Results.read(tmp_path), Results.read(tmp_path)
    mine = one.add_run(small_row(Asked("tune", "few", "alone", 1e-3, 7)))
    theirs = other.add_run(small_row(Asked("tune", "few", "alone", 4e-3, 7)))
    other.compact(PLAN)
    one.compact({**PLAN, "command": "posestill compare here/mine.yaml"})
    found = Results.read(tmp_path)
    assert found.run(name_of(mine)) == mine
    assert found.run(name_of(theirs)) == theirs == one.run(name_of(theirs))
    assert len(found.rows) == 5
    assert found.plan["command"] == "posestill compare here/mine.yaml"


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("tune/few/tcd-lr0.001-seed7", "", "it is empty"),
        ("tune/few/tcd-lr0.001-seed7", '{"split": "tu', "it is not whole JSON"),
        ("tune/few/tcd-lr0.001-seed7", "[]", "it is no JSON object"),
        ("tune/few/tcd-lr0.001-seed7", '{"split": "tune"}', "a run has 'regime', which is missing"),
        ("tune/few/tcd-lr0.001-seed8", None, "holds tune/few/tcd-lr0.001-seed7"),
        ("teachers/tune/few", "{}", "a measured teacher has 'teacher'"),
        ("prepared/big", '{"step": 1}', "a prepared model has 'conditions'"),
        ("notes", "{}", "no file of a study's run: move it elsewhere"),
    ],
)
def test_a_loose_file_that_cannot_be_read_is_named_with_what_to_do(place, text, said, tmp_path):
    path = tmp_path / "runs" / f"{place}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(small_row(ASKED[2])) if text is None else text)
    with pytest.raises(UserError, match=said) as told:
        Results.read(tmp_path)
    assert str(path) in str(told.value)
    assert "measured again" in str(told.value) or "move it" in str(told.value)


def test_a_gathered_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"runs\.jsonl is not a text file"):
        Results.read(tmp_path)
    path.write_text("")
    with pytest.raises(UserError, match=r"runs\.jsonl, line 1: it is empty"):
        Results.read(tmp_path)


def test_it_is_said_where_a_row_stands(tmp_path):
    results = filled(tmp_path)
    assert results.place_of(ASKED[0].name) == str(tmp_path / "runs" / f"{ASKED[0].name}.json")
    results.compact(PLAN)
    assert results.place_of(ASKED[0].name) == f"the line of {ASKED[0].name} in {tmp_path / 'runs.jsonl'}"
