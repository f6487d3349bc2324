import json

import pytest

from posestill.schema import UserError
from posestill.study.jobs import Asked
from posestill.study.lines import name_of, read_lines, write_lines
from tests.study.plans import small_row

PLAN = {"name": "mine.yaml", "command": "posestill compare mine.yaml", "plan": {"regimes": {"few": {}}}}


def some_rows():
    asked = [Asked(split, regime, "tcd", 1e-3, seed) for split, regime, seed in
             (("tune", "few", 7), ("test", "few", 10), ("test", "few", 2), ("tune", "many", 7))]  # fmt: skip
    rows = {("run", each.name): small_row(each, seconds=0.1 + 0.2) for each in asked}
    rows["teacher", "tune/few"] = {"teacher": {"name": "bundled"}, "metrics": {"mean_oks": 1 / 3}, "similarity": "9000"}
    rows["prepared", "big"] = {"step": 3, "conditions": {}, "notes": ["a"], "mean_oks": None}
    return rows


def test_what_is_written_comes_back_to_the_last_digit_and_to_the_order_of_its_keys():
    rows = some_rows()
    plan, found = read_lines(write_lines(PLAN, rows), "runs.jsonl")
    assert json.dumps(plan) == json.dumps(PLAN)
    assert {key: json.dumps(row) for key, row in found.items()} == {key: json.dumps(row) for key, row in rows.items()}
    assert found["run", "tune/few/tcd-lr0.001-seed7"]["seconds"] == 0.30000000000000004


def test_the_plan_comes_first_and_the_rest_by_kind_and_name_however_it_was_found():
    rows = some_rows()
    text = write_lines(PLAN, rows)
    assert write_lines(PLAN, dict(reversed(rows.items()))) == text
    told = [(line["kind"], line["name"]) for line in map(json.loads, text.splitlines()) if line["kind"] != "shared"]
    assert told == [
        ("plan", "mine.yaml"), ("prepared", "big"), ("teacher", "tune/few"),
        ("run", "test/few/tcd-lr0.001-seed10"), ("run", "test/few/tcd-lr0.001-seed2"),
        ("run", "tune/few/tcd-lr0.001-seed7"), ("run", "tune/many/tcd-lr0.001-seed7"),
    ]  # fmt: skip


def test_what_several_lines_hold_is_said_once_and_another_run_changes_no_line_of_theirs():
    rows = some_rows()
    text = write_lines(PLAN, rows)
    said = json.dumps(rows["run", "tune/few/tcd-lr0.001-seed7"]["settings"]["evaluate"], separators=(",", ":"))
    assert text.count(said) == 1
    more = small_row(Asked("test", "few", "tcd", 1e-3, 3))
    longer = write_lines(PLAN, {**rows, ("run", name_of(more)): more})
    assert set(text.splitlines()) < set(longer.splitlines())


def test_what_only_looks_like_something_shared_comes_back_as_it_is():
    rows = {("prepared", "big"): {"step": 3, "conditions": {"shared": "no such name"}, "notes": {"shared": 5}}}
    assert read_lines(write_lines(PLAN, rows), "runs.jsonl")[1] == rows


LINES = write_lines(PLAN, some_rows()).splitlines()
RUN = next(number for number, line in enumerate(LINES) if '"kind":"run"' in line)


def spoilt(place, line):
    return "\n".join([*LINES[:place], *([] if line is None else [line]), *LINES[place + 1 :]]) + "\n"


@pytest.mark.parametrize(
    ("place", "line", "said"),
    [
        (RUN, LINES[RUN][:-9], "it is not whole JSON"),
        (RUN, "", "it is empty"),
        (RUN, "[1]", "no JSON object with a name"),
        (RUN, '{"kind":"run"}', "no JSON object with a name"),
        (RUN, "<<<<<<< HEAD", "it is not whole JSON"),
        (RUN, LINES[RUN].replace('"kind":"run"', '"kind":"walk"'), "there is no kind 'walk'"),
        (RUN, LINES[RUN].replace('"settings"', '"setting"'), "a run has 'settings', which is missing"),
        (RUN, LINES[RUN].replace('"seed":10,', '"seed":11,', 1), "holds test/few/tcd-lr0.001-seed11"),
        (RUN, LINES[RUN + 1], "is there twice"),
        (RUN, LINES[0], "only the first, is the plan"),
        (1, None, "no line before it is shared under the name"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_what_to_do(place, line, said):
    text = spoilt(place, line)
    with pytest.raises(UserError, match=said) as told:
        read_lines(text, "results/mine/runs.jsonl")
    assert "results/mine/runs.jsonl, line " in str(told.value)
    assert "version control" in str(told.value)
    if line is not None and said != "is there twice":
        assert f"line {place + 1}:" in str(told.value)


def test_a_file_without_its_plan_is_named():
    for text in ("", LINES[1] + "\n"):
        with pytest.raises(UserError, match=r"runs\.jsonl, line 1: "):
            read_lines(text, "runs.jsonl")
