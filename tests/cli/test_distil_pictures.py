"""`posestill distil` on pictures without labels and without a recipe, in this process and in one of its own."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from posestill.engine import choose
from posestill.engine.config import load_run
from tests.html.parsed import below, parsed
from tests.networks import write_detector, write_photos, write_teacher

SMALL = (
    "--set", "model.size=[32, 32]", "--set", "model.backbone={name: small_resnet, channels: [8, 16], max_pool: false}",
    "--set", "train.threads=1", "--set", "train.batch_size=4",
)  # fmt: skip

RECIPE = {
    "data": {"train": {"name": "images", "folder": "photos"}},
    "model": {"size": [32, 32], "backbone": {"name": "small_resnet", "channels": [8, 16], "max_pool": False},
              "head": "flat_fc", "codec": "coords"},
    "method": "pseudo_label",
    "teacher": {"name": "bundled", "cache": True},
    "train": {"steps": 2, "batch_size": 4, "threads": 1},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "_can_be_fetched", lambda: False)
    monkeypatch.setattr(choose, "_is_cached", lambda published: False)
    monkeypatch.chdir(tmp_path)
    write_teacher(tmp_path / "teacher.onnx")
    write_photos(tmp_path / "photos", 16)
    return tmp_path


def words(*more):
    return ("distil", "--images", "photos", "--teacher", "teacher.onnx", "--out", "run", *more)


def test_pictures_and_a_teacher_are_enough_for_a_run_and_its_report(posestill, folder):
    status, out, err = posestill(*words("--steps", 4, *SMALL))
    assert status == 0, err
    for line in ("teacher: ", "people: the whole frame", "student: small", "weights: RANDOM", "method: ", "held out: ",
                 "length: 4 steps", "as a recipe:", "0 % of the 13 people"):  # fmt: skip
        assert line in err
    assert "step 4/4: agreement with the teacher's answers: mean OKS" in err
    assert "(whole-frame boxes" in err
    assert out.splitlines()[-3:] == ["model: run/best", "figures: run/eval.json", "report: run/report.html"]
    found = json.loads((folder / "run" / "eval.json").read_text())
    assert found["conditions"]["truth"] == "the teacher's answers"
    assert found["notes"][0].startswith("Truth: the teacher's answers. There are no labels here")
    assert len(found["agreement"]["by_keypoint"]) == 17
    report = parsed((folder / "run" / "report.html").read_text())
    assert re.search(r"agrees with its teacher to a mean OKS of [\d.]+ on 2 people held out", report.text)
    assert "Truth: the teacher's answers" in report.one("ul", "notes").text
    for title in (
        "Agreement with the teacher by keypoint", "Agreement with the teacher by its confidence", "Size and time",
        "The same people, side by side", "Where teacher and student agree least",
    ):  # fmt: skip
        assert below(report, title)
    assert "accuracy" not in report.text.lower()
    beside = json.loads((folder / "run" / "beside.json").read_text())
    assert beside["teacher"]["bytes"] == (folder / "teacher.onnx").stat().st_size
    assert beside["student"]["bytes"] == (folder / "run" / "best" / "model.safetensors").stat().st_size
    assert 0 < beside["student"]["fastest"] <= beside["student"]["milliseconds"]
    assert load_run("run").data.train.folder[0].name == "photos"


def test_a_student_from_random_weights_is_said_loudly_at_both_ends_and_in_the_report(posestill, folder):
    status, _, err = posestill(
        *words(
            "--steps", 1, "--student", "test_convnext", "--set", "model.size=[32, 32]", "--set", "train.batch_size=4"
        )
    )
    assert status == 0, err
    assert err.count("!!! RANDOM WEIGHTS: the student (test_convnext) started from random weights") == 2
    report = (folder / "run" / "report.html").read_text()
    assert "RANDOM WEIGHTS" in report
    assert report.count("How much more is there to gain?") == 1


def test_labels_of_some_pictures_are_measured_by(posestill, folder):
    content = {
        "images": [{"id": 1, "file_name": "3.png"}, {"id": 2, "file_name": "7.png"}],
        "categories": [{"id": 1, "keypoints": ["nose", "left_ankle", "right_ankle"]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 60],
                         "keypoints": [20, 20, 2, 20, 30, 2, 0, 0, 0]}],
    }  # fmt: skip
    (folder / "labels.json").write_text(json.dumps(content))
    status, out, err = posestill(*words("--steps", 2, "--annotations", "labels.json", *SMALL))
    assert status == 0, err
    assert "held out: the 2 pictures that have labels in labels.json" in err
    assert out.splitlines()[0].startswith("on 1 people with labels: mean OKS ")
    found = json.loads((folder / "run" / "beside.json").read_text())["on_labels"]
    assert found["keypoints"] == ["nose", "left_ankle"]
    assert (found["persons"], found["boxes"]) == (1, "whole-frame")
    report = parsed((folder / "run" / "report.html").read_text())
    assert "1 person with labels. Both were shown the same people by whole-frame boxes" in report.text


def test_a_run_goes_on_by_its_folder_alone_and_is_not_overwritten(posestill, folder):
    assert posestill(*words("--steps", 2, *SMALL))[0] == 0
    before = (folder / "run" / "config.yaml").read_text()
    status, _, err = posestill(*words("--steps", 2, *SMALL))
    assert (status, "run holds a run already: choose another --out" in err) == (2, True)
    status, _, err = posestill("distil", "--resume", "--out", "run")
    assert status == 0, err
    assert "going on from step 2" in err
    assert (folder / "run" / "config.yaml").read_text() == before
    status, _, err = posestill(*words("--steps", 2, *SMALL, "--resume"))
    assert (status, "going on from step 2" in err) == (0, True)
    status, _, err = posestill(*words("--steps", 4, *SMALL, "--resume"))
    assert (status, "train.steps was 2 and is now 4, but" in err) == (2, True)
    status, _, err = posestill(*words("--frame-step", 3, *SMALL, "--resume"))
    assert (status, "run was begun with another --frame-step (10 there, 3 here)" in err) == (2, True)


def test_a_dry_run_prints_the_run_and_leaves_nothing(posestill, folder):
    status, out, err = posestill(*words(*SMALL, "--dry-run"))
    assert status == 0, err
    assert yaml.safe_load(out)["data"]["train"]["folder"] == ["photos"]
    assert "# fits; the first batch's losses: task 0, pseudo_label" in out
    assert not (folder / "run").exists()


def test_a_detectors_boxes_are_those_of_the_run(posestill, folder):
    write_detector(folder / "detector.onnx")
    write_photos(folder / "photos", 16, dark=1)
    status, _, err = posestill(*words("--steps", 1, "--detector", "detector.onnx", *SMALL))
    assert status == 0, err
    assert "nobody was found in 1 of 16 pictures: 16.png" in err
    assert "(detector.onnx's boxes" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["distil", "--images", "photos"], "distil needs a recipe, or pictures and a teacher"),
        (["distil", "--teacher", "teacher.onnx"], "distil needs a recipe, or pictures and a teacher"),
        (["distil", "sample", "--images", "photos", "--steps", 3, "--frame-step", 2],
         "--images, --frame-step, --steps describe a run without a recipe"),
        (list(words("--student", "smal")), "--student: 'smal' is neither small nor good nor a network of timm"),
        (list(words("--control")), "--control: there are no labels to train the student alone on"),
        (list(words("--weights", "gone.safetensors")), "gone.safetensors"),
        (list(words("--boxes", "gone.json")), "no file of boxes gone.json"),
        (["distil", "--images", "gone", "--teacher", "teacher.onnx"], "no folder, picture or video gone"),
        (["distil", "--images", "photos", "--teacher", "gone.onnx"], "gone.onnx"),
        (list(words("--set", "train.stpes=3")), "train.stpes: no such key; did you mean 'steps'"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_short_message_and_status_2(posestill, folder, given, message):
    status, _, err = posestill(*given)
    assert (status, message in err) == (2, True), err
    assert "Traceback" not in err


def test_a_teacher_that_doubts_most_people_stops_the_run_before_it_trains(posestill, folder):
    write_teacher(folder / "teacher.onnx", sure=4)
    status, _, err = posestill(*words("--steps", 2, *SMALL))
    assert status == 2
    assert "100 % of the 13 people to train on are doubtful" in err
    assert "give boxes or a detector" in err
    assert not (folder / "run" / "config.yaml").exists()
    status, _, err = posestill(*words("--steps", 2, *SMALL, "--set", "data.train.least_confidence=0"))
    assert status == 0, err


def test_a_recipe_takes_a_file_as_its_teacher(posestill, folder):
    (folder / "own.yaml").write_text(yaml.safe_dump(RECIPE))
    status, _, err = posestill("distil", "own.yaml", "--teacher", "teacher.onnx", "--out", "run")
    assert status == 0, err
    teacher = yaml.safe_load((folder / "run" / "config.yaml").read_text())["teacher"]
    assert (teacher["name"], teacher["path"], teacher["cache"]) == ("file", "teacher.onnx", True)


def test_there_is_no_control_where_nobody_has_labels(posestill, folder):
    (folder / "own.yaml").write_text(yaml.safe_dump(RECIPE))
    status, _, err = posestill("distil", "own.yaml", "--teacher", "teacher.onnx", "--control", "--out", "run")
    assert (status, "pictures without labels leave nothing to train the student alone on" in err) == (2, True)


@pytest.mark.slow
def test_distil_of_pictures_in_a_process_of_its_own(folder):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "posestill", *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )

    done = run(*words("--steps", 3, "--student", "small"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "!!! RANDOM WEIGHTS" in done.stderr
    assert (folder / "run" / "report.html").read_text().startswith("<!doctype html>")
    again = run("distil", "--resume", "--out", "run")
    assert again.returncode == 0, again.stderr
