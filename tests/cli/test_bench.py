"""`posestill bench` in this process: what it refuses, and what it hands on."""

import json

from posestill.cli.bench import _layout_of
from posestill.deploy import bench as room
from posestill.deploy.bench import Measured
from tests.conftest import small_model


def test_mistakes_are_one_line_and_end_with_status_2(posestill, tmp_path):
    small_model("coords").save(tmp_path / "model")
    wrong = {
        (tmp_path / "nowhere",): "no model folder and no file",
        (tmp_path / "model", "--batch", "0"): "--batch 0: whole numbers from 1 on",
        (tmp_path / "model", "--threads", "two"): "--threads two: whole numbers from 1 on",
        (tmp_path / "model", "--to", "onx"): "did you mean 'onnx'",
        (tmp_path,): "no model in",
    }
    for options, words in wrong.items():
        status, _, said = posestill("bench", *options)
        assert status == 2, options
        assert words in said
        assert len(said.strip().splitlines()) == 1


def test_models_or_a_loader_are_measured_and_not_both(posestill, tmp_path, recipe):
    for given in ((), (tmp_path / "model", "--loader", recipe)):
        status, _, said = posestill("bench", *given)
        assert (status, said.strip()) == (2, "posestill: bench: give models to measure, or --loader RECIPE")


def test_a_change_without_a_recipe_is_refused(posestill, tmp_path):
    status, _, said = posestill("bench", tmp_path / "model", "--set", "train.workers=2")
    assert (status, "--set changes the recipe of --loader" in said) == (2, True)


def test_the_figures_of_a_loader_replace_nothing_of_the_users(posestill, tmp_path, recipe):
    (tmp_path / "b.json").write_text("mine")
    for output in (tmp_path / "b.json", recipe):
        before = output.read_text()
        status, _, said = posestill("bench", "--loader", recipe, "--json", output)
        assert (status, output.read_text()) == (2, before)
        assert "--overwrite" in said


def test_table_and_json_have_a_row_for_each(posestill, tmp_path, monkeypatch):
    small_model("coords").save(tmp_path / "model")
    asked = []

    def measured(candidates, *, batches, threads, rounds, progress):
        asked.append((candidates, batches, threads, rounds))
        return [
            Measured("model", "PyTorch", batch, 1, 2.0, 3.0, (1.0, 4.0), 9, 2.5, None, 1_500_000, 64_000_000, 6_000_000)
            for batch in batches
        ]

    monkeypatch.setattr(room, "bench", measured)
    status, out, _ = posestill(
        "bench", tmp_path / "model", "--to", "none", "--batch", "1,4", "--threads", "1", "--json", tmp_path / "b.json"
    )
    assert status == 0
    assert asked[0][1:] == ([1, 4], [1], 12)
    assert [each.path for each in asked[0][0]] == [tmp_path / "model"]
    assert out.splitlines()[2].split() == [
        "model", "PyTorch", "1", "1", "2.00", "3.00", "[1.00,", "4.00]", "2.50", "500.0", "-", "1.50", "0.064", "6.00",
    ]  # fmt: skip
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [(row["batch"], row["throughput"]) for row in rows] == [(1, 500), (4, 2000)]


def test_a_file_of_the_users_is_not_written_over_and_an_earlier_one_of_its_own_is(posestill, tmp_path, monkeypatch):
    small_model("coords").save(tmp_path / "model")
    asked, row = [], Measured("model", "PyTorch", 1, 1, 2.0, 3.0, (1.0, 4.0), 9, 2.5, None, 1, 1, 1)
    monkeypatch.setattr(room, "bench", lambda candidates, **settings: asked.append(settings) or [row])
    command = ("bench", tmp_path / "model", "--to", "none", "--json", tmp_path / "b.json")
    (tmp_path / "b.json").write_text("mine")
    status, _, said = posestill(*command)
    assert (status, (tmp_path / "b.json").read_text(), asked) == (2, "mine", [])
    assert "--overwrite" in said
    assert posestill(*command, "--overwrite")[0] == 0
    assert posestill(*command)[0] == 0
    assert len(json.loads((tmp_path / "b.json").read_text())["rows"]) == 1


def test_a_layout_may_be_said_for_all_files_or_for_one(tmp_path):
    assert _layout_of(tmp_path / "a.onnx", ["movenet"]) == "movenet"
    assert _layout_of(tmp_path / "a.onnx", ["b.onnx=hrnet", "a.onnx=vitpose", "movenet"]) == "vitpose"
    assert _layout_of(tmp_path / "a.onnx", ["b.onnx=hrnet"]) is None
