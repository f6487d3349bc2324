"""`posestill label`, in this process and in one of its own."""

import json
import os
import subprocess
import sys

import cv2
import pytest

from posestill.data.coco import CocoSource
from tests.networks import write_detector, write_photos, write_teacher


@pytest.fixture
def folder(tmp_path):
    write_teacher(tmp_path / "teacher.onnx")
    write_detector(tmp_path / "detector.onnx")
    write_photos(tmp_path / "photos", 6, dark=2)
    return tmp_path


def test_label_writes_what_a_recipe_reads_and_says_how(posestill, folder):
    out = folder / "labels.json"
    status, said, err = posestill(
        "label", folder / "photos", "--teacher", folder / "teacher.onnx", "--detector", folder / "detector.onnx",
        "--out", out,
    )  # fmt: skip
    assert status == 0, err
    assert said.splitlines()[0].startswith("4 people in 6 pictures, mean confidence 0.90; 0 dropped")
    assert said.splitlines()[1:] == [
        f"labels: {out}",
        f"sheet: {folder / 'labels.png'}",
        f"data.train: {{name: coco, annotations: {out}, images: {folder / 'photos'}}}",
    ]
    assert "nobody was found in 2 of 6 pictures: 5.png, 6.png" in err
    assert "asking the teacher 4/4" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--out", "there.json"],
            "there.json is there already, and not what label wrote there: choose another name, or give",
        ),
        (["--out", "new.json", "--boxes", "b.json", "--detector", "d.onnx"], "boxes and detector both say where"),
        (["--out", "new.json", "--boxes", "gone.json"], "no file of boxes"),
        (["--out", "new.json", "--detector", "teacher.onnx"], "sees one person a crop and gives no boxes"),
        (["--out", "new.json", "--threshold", "0.99"], "the teacher is sure of nobody among 6 people"),
        (["--out", "new.json", "--layout", "movnet"], "did you mean 'movenet'"),
    ],
)
def test_a_mistake_is_a_short_message_and_status_2(posestill, folder, monkeypatch, options, message):
    monkeypatch.chdir(folder)
    (folder / "there.json").write_text("mine")
    status, _, err = posestill("label", "photos", "--teacher", "teacher.onnx", *options)
    assert (status, message in err) == (2, True), err
    assert (folder / "there.json").read_text() == "mine"
    assert not (folder / "new.json").exists()


@pytest.mark.parametrize("pictures", ["gone", "empty"])
def test_where_there_are_no_pictures_there_is_one_clear_line(posestill, folder, pictures):
    (folder / "empty").mkdir()
    status, _, err = posestill(
        "label", folder / pictures, "--teacher", folder / "teacher.onnx", "--out", folder / "l.json"
    )
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert pictures in err


@pytest.mark.slow
def test_label_in_a_process_of_its_own(folder):
    command = ["label", "photos", "--teacher", "teacher.onnx", "--out", "labels.json"]
    done = subprocess.run(
        [sys.executable, "-m", "posestill", *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 people in 6 pictures" in done.stdout
    assert len(CocoSource(folder / "labels.json", images=folder / "photos").people) == 6
    assert json.loads((folder / "labels.json").read_text())["annotations"][0]["agreement"] is not None
    assert cv2.imread(str(folder / "labels.png")) is not None
