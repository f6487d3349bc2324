"""`posestill export` in this process: what it refuses, and how it ends."""

import pytest

from posestill.deploy import decoder, export, gate
from posestill.skeletons import COCO_17
from tests.conftest import small_model


@pytest.fixture
def model(tmp_path):
    small_model(skeleton=COCO_17).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(gate, "ROUNDS", 2)
    monkeypatch.setattr(export, "SYNTHETIC", 8)


def test_mistakes_are_one_line_and_end_with_status_2(posestill, model, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    wrong = {
        ("--to", "onx"): "did you mean 'onnx'",
        ("--to", ","): "--to names no runtime",
        ("--to", "pt2", "--int8"): "--int8 makes files for onnx and openvino",
        ("--decode", "within"): "--decode within: outside or inside",
        ("--to", "pt2", "--out", tmp_path / "full"): "is there already",
        ("--to", "pt2", "--out", tmp_path / "file"): "is there already",
        ("--to", "pt2", "--annotations", "a.json"): "--annotations and --images together",
        ("--to", "pt2", "--recipe", "sample", "--annotations", "a.json"): "leave one of them out",
        ("--to", "pt2", "--annotations", tmp_path / "no.json", "--images", tmp_path): "no.json",
    }
    for options, words in wrong.items():
        status, _, said = posestill("export", model, "--out", tmp_path / "out", *options)
        assert status == 2, options
        assert words in said
        assert len(said.strip().splitlines()) == 1
    status, _, said = posestill("export", tmp_path / "nowhere", "--out", tmp_path / "out", "--to", "pt2")
    assert status == 2
    assert "no model in" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_one_line(posestill, model, tmp_path):
    (tmp_path / "file").write_text("mine")
    status, _, said = posestill("export", model, "--out", tmp_path / "file" / "out", "--to", "pt2", "--people", 4)
    assert status == 2
    assert "file" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_drift_ends_with_status_1_names_its_stage_and_leaves_nothing(posestill, model, tmp_path, monkeypatch):
    real = decoder.decode
    monkeypatch.setattr(decoder, "decode", lambda *given: real(*given) + [3, 0, 0])
    status, out, _ = posestill("export", model, "--out", tmp_path / "out", "--to", "pt2", "--people", 8)
    assert status == 1
    assert "the decoding drifted, which moves keypoints by 3.00 px on average" in out
    assert "nothing was exported" in out
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
