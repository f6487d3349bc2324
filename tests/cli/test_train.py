import json

import numpy as np
import pytest

from posestill.draw import write_image
from posestill.models.pose_model import PoseModel
from posestill.skeletons import COCO_17
from tests.conftest import small_model


def test_a_recipe_trains_evaluates_and_predicts(posestill, recipe, tmp_path):
    status, out, _ = posestill("train", recipe, "--out", tmp_path / "run")
    assert status == 0
    assert f"model: {tmp_path / 'run' / 'best'}" in out
    status, out, _ = posestill(
        "evaluate", tmp_path / "run" / "best", "--recipe", tmp_path / "run", "--no-flip-test", "--json",
        tmp_path / "f.json", "--save-results", tmp_path / "r.json",
    )  # fmt: skip
    assert status == 0
    assert "flip test: False, input size: [32, 24]" in out
    assert "no trained confidence" in out
    assert json.loads((tmp_path / "f.json").read_text())["conditions"]["persons"] == 8
    assert len(json.loads((tmp_path / "r.json").read_text())) == 8
    write_image(tmp_path / "photo.png", np.full((60, 40, 3), 90, dtype=np.uint8))
    status, out, _ = posestill("predict", tmp_path / "run" / "best", tmp_path / "photo.png", "--out", tmp_path / "p")
    assert status == 0
    assert "1 persons in 1 images" in out
    entry = json.loads((tmp_path / "p" / "predictions.json").read_text())[0]
    assert len(entry["keypoints"]) == 51
    assert (tmp_path / "p" / "photo.png").exists()


@pytest.mark.parametrize("verb", ["distil", "distill"])
def test_distil_takes_a_teacher_and_asks_for_one(posestill, recipe, tmp_path, verb):
    small_model("heatmap", skeleton=COCO_17).save(tmp_path / "t")
    status, _, err = posestill(verb, recipe, "--out", tmp_path / "run")
    assert (status, "distil needs a teacher" in err) == (2, True)
    status, _, _ = posestill(
        verb, recipe, "--set", "method=tcd", "--teacher", tmp_path / "t", "--out", tmp_path / "run"
    )
    assert status == 0
    assert PoseModel.load(tmp_path / "run" / "best").lineage["teacher"]["path"] == str(tmp_path / "t")


def test_a_run_can_be_resumed_and_its_settings_printed(posestill, recipe, tmp_path):
    posestill("train", recipe, "--out", tmp_path / "run")
    status, _, _ = posestill("train", recipe, "--out", tmp_path / "run", "--resume")
    assert status == 0
    status, out, _ = posestill("config", tmp_path / "run", "--set", "train.steps=9")
    assert status == 0
    assert "steps: 9" in out


def test_a_dry_run_writes_nothing(posestill, recipe, tmp_path):
    status, out, _ = posestill("train", recipe, "--out", tmp_path / "run", "--dry-run")
    assert status == 0
    assert "fits; the first batch's losses: task" in out
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_says_how_to_go_on(posestill, recipe, tmp_path, monkeypatch):
    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("posestill.engine.fit.fit", interrupt)
    status, _, err = posestill("train", recipe, "--out", tmp_path / "run")
    assert (status, err) == (130, "posestill: interrupted; nothing is saved yet, --resume starts anew\n")
