"""Three newcomers' datasets, each from `data check` by `train` to a prediction with a model of its own."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from posestill.data.synthetic.sample import write_sample

pytestmark = pytest.mark.slow
MODEL = """
model: {size: [64, 48], backbone: {name: small_resnet, channels: [8, 16], max_pool: false}, head: flat_fc,
        codec: coords}
method: supervised
train: {steps: 4, batch_size: 8, device: cpu}
"""
OWN_NAMES = ["Head", "L_eye", "R_eye", "L_ear", "R_ear", "L_shoulder", "R_shoulder", "L_elbow", "R_elbow", "L_wrist",
             "R_wrist", "L_hip", "R_hip", "L_knee", "R_knee", "L_ankle", "R_ankle"]  # fmt: skip


def run(folder, *arguments):
    """What a command in a process of its own says, and its exit status, which is never that of a mistake."""
    command = [sys.executable, "-m", "posestill", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def to_a_prediction(folder, checked, train, val, photos):
    """Check a dataset, train on it and predict its photographs; returns what `data check` and `train` say."""
    (folder / "recipe.yaml").write_text(f"data:\n  train: {json.dumps(train)}\n  val: {json.dumps(val)}{MODEL}")
    status, told = run(folder, "data", "check", *checked)
    assert status == 0, told
    status, trained = run(folder, "train", "recipe.yaml", "--out", "run")
    assert status == 0, trained
    figures = json.loads((folder / "run" / "eval.json").read_text())
    assert figures["trained_on"]["persons"]["labelled"] > 0
    assert run(folder, "evaluate", "run/best", "--recipe", "recipe.yaml", "--device", "cpu")[0] == 0
    assert run(folder, "predict", "run/best", photos, "--out", "seen", "--device", "cpu")[0] == 0
    entries = json.loads((folder / "seen" / "predictions.json").read_text())
    assert len(entries) == len([each for each in photos.iterdir() if each.suffix in (".jpg", ".png")])
    assert len(entries[0]["keypoints"]) == 51
    return told, trained


def test_coco_annotations_with_names_of_ones_own(tmp_path):
    write_sample(tmp_path / "mine", pictures=24)
    for split in ("train", "val"):
        path = tmp_path / "mine" / "annotations" / f"person_keypoints_{split}.json"
        content = json.loads(path.read_text())
        content["categories"][0].update(keypoints=OWN_NAMES, name="worker")
        path.with_name(f"{split}.json").write_text(json.dumps(content))
        path.unlink()
    (tmp_path / "info.json").write_text(json.dumps({"sigmas": [0.05] * 17}))
    source = {"name": "coco", "annotations": "mine/annotations/train.json", "images": "mine/train",
              "metainfo": "info.json"}  # fmt: skip
    val = {**source, "annotations": "mine/annotations/val.json", "images": "mine/val"}
    told, trained = to_a_prediction(tmp_path, ("mine", "--metainfo", "info.json"), source, val, tmp_path / "mine/val")
    assert "nothing is wrong" in told
    assert "switched off" not in trained  # L_ and R_ are sides
    skeleton = json.loads((tmp_path / "run/best/config.json").read_text())["skeleton"]
    assert skeleton["swap"][:5] == [0, 2, 1, 4, 3]


def test_a_yolo_pose_folder_as_it_comes(tmp_path):
    write_sample(tmp_path / "mine", pictures=24, yolo=True)
    train = {"name": "yolo", "data": "mine/data.yaml", "split": "train"}
    photos = tmp_path / "mine" / "images" / "val"
    told, trained = to_a_prediction(tmp_path, ("mine",), train, {**train, "split": "val"}, photos)
    assert "nothing is wrong" in told
    assert "with labels" in trained


def test_a_download_of_roboflow_without_a_test_folder_and_with_flip_idx_that_says_nothing(tmp_path):
    write_sample(tmp_path / "written", pictures=24, yolo=True)
    root = tmp_path / "mine"
    for split, called in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            shutil.copytree(tmp_path / "written" / kind / split, root / called / kind)
    content = {
        "train": "../train/images", "val": "../valid/images", "test": "../test/images", "kpt_shape": [17, 3],
        "flip_idx": list(range(17)), "nc": 1, "names": ["person"],
    }  # fmt: skip
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "recipe.yaml").write_text("")
    status, told = run(tmp_path, "data", "check", "mine")
    assert status == 1
    assert told.count("[no-sides]") == 1  # once for both splits
    assert "data.yaml names a folder that is not there" in told
    content["flip_idx"] = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    train = {"name": "yolo", "data": "mine/data.yaml", "split": "train"}
    (tmp_path / "first.yaml").write_text(
        f"data:\n  train: {json.dumps(train)}\n  val: {json.dumps({**train, 'split': 'val'})}{MODEL}"
    )
    status, trained = run(tmp_path, "train", "first.yaml", "--out", "first")
    assert status == 0
    assert "data.augment.flip and evaluate.flip_test are switched off" in trained
    assert json.loads((tmp_path / "first/eval.json").read_text())["conditions"]["flip_test"] is False
    assert "flip: 0.0" in (tmp_path / "first/config.yaml").read_text()
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    told, trained = to_a_prediction(tmp_path, ("mine",), train, {**train, "split": "val"}, root / "valid" / "images")
    assert "nothing is wrong" in told
    assert "switched off" not in trained
