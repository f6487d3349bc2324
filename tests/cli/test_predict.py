import json
import re
import struct
import zlib

import cv2
import numpy as np
import pytest

from posestill.draw import write_image
from tests.conftest import DOTS, small_model
from tests.networks import write_detector
from tests.predict.clips import write_clip


def test_boxes_come_from_a_coco_file_or_a_plain_mapping(posestill, tmp_path, capsys):
    small_model().save(tmp_path / "model")
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name, np.full((60, 40, 3), 90, dtype=np.uint8))
    (tmp_path / "plain.json").write_text(json.dumps({"a.png": [[0, 0, 20, 30], [10, 10, 20, 30]]}))
    coco = {
        "images": [{"id": 7, "file_name": "b.png"}], "categories": [{"id": 1, "keypoints": list(DOTS.names)}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 20, 30]}],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for boxes, people, ids in (("plain.json", 2, {1}), ("coco.json", 1, {7})):
        status, out, err = posestill(
            "predict",
            tmp_path / "model",
            tmp_path / "images",
            "--boxes",
            tmp_path / boxes,
            "--out",
            tmp_path / boxes[:4],
        )
        assert (status, f"{people} persons in 1 images" in out) == (0, True), err
        entries = json.loads((tmp_path / boxes[:4] / "predictions.json").read_text())
        assert {entry["image_id"] for entry in entries} == ids
    (tmp_path / "wrong.json").write_text("[1]")
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "images", "--boxes", tmp_path / "wrong.json")
    assert (status, "is neither a COCO annotation file nor" in err) == (2, True)
    (tmp_path / "other.json").write_text(json.dumps({"c.png": [[0, 0, 1, 1]]}))
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "images", "--boxes", tmp_path / "other.json")
    assert (status, "names none of the 2 images" in err) == (2, True)


def folder_of(tmp_path, *names):
    small_model().save(tmp_path / "model")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name, np.zeros((9, 9, 3), dtype=np.uint8))


def test_images_of_one_name_are_drawn_apart(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "one/a.png", "two/a.png", "two/b.png", "two/b.jpg")
    status, out, err = posestill("predict", "model", "one", "two", "--out", "out")
    assert (status, "4 persons in 4 images -> out" in out) == (0, True), err
    drawn = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert drawn == {"one/a.png", "two/a.png", "b.png.png", "b.jpg.png"}
    names = [entry["file_name"] for entry in json.loads((tmp_path / "out" / "predictions.json").read_text())]
    assert names == ["one/a.png", "two/a.png", "b.jpg", "b.png"]


def test_the_folder_of_the_pictures_is_no_place_for_drawings(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "photos/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    before = (tmp_path / "photos" / "a.jpg").read_bytes()
    for out in ("photos", "link", "photos/."):
        status, _, err = posestill("predict", "model", "photos", "--out", out)
        assert (status, "is a folder of the pictures" in err, "--overwrite" in err) == (2, True, True), err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    status, _, err = posestill("predict", "model", "photos", "--out", "photos", "--overwrite")
    assert status == 0, err
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == before  # the drawing is a.png


def test_a_second_run_with_the_same_output_needs_no_word_and_sees_no_drawings(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "photos/a.jpg", "photos/b/a.jpg")
    for _ in range(2):
        status, out, err = posestill("predict", "model", "photos", "--out", "photos/drawn")
        assert (status, "2 persons in 2 images" in out) == (0, True), err


def test_a_picture_that_cannot_be_read_is_named_and_the_exit_status_says_so(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "photos/a.jpg", "photos/b.png")
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "c.heic").write_bytes(b"")
    status, out, err = posestill("predict", "model", "photos")
    assert status == 1
    assert "1 persons in 1 images -> predictions" in out
    assert "1 other files in these folders are no pictures by their names (.heic)" in out
    assert "passed over: image photos/b.png cannot be decoded" in err
    assert "1 of 2 images could not be read" in err
    assert (tmp_path / "predictions" / "a.png").is_file()


def test_predictions_are_written_in_the_format_of_their_name_and_whole_frames_are_said_once(
    posestill, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "photos/a.png", "photos/b.png")
    status, out, err = posestill("predict", "model", "photos/*.png", "--no-draw", "--save-results", "r.jsonl")
    assert (status, out.count("each picture is taken for one person as a whole")) == (0, 1), err
    assert "2 persons in 2 images -> r.jsonl" in out
    names = [json.loads(line)["file_name"] for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert names == ["a.png", "b.png"]
    assert not (tmp_path / "predictions").exists()
    assert posestill("predict", "model", "photos", "--save-results", "r.csv")[0] == 0
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 3
    assert (tmp_path / "predictions" / "a.png").is_file()


def test_a_video_is_drawn_followed_smoothed_and_its_time_is_told(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_model().save(tmp_path / "model")
    write_clip(tmp_path / "walk.mp4", 6)
    write_detector(tmp_path / "detector.onnx")
    options = ("--detector", "detector.onnx", "--track", "--threshold", "0", "--smooth", "--beta", "2", "--frames", "4")
    status, out, err = posestill("predict", "model", "walk.mp4", *options, "--save-results", "r.jsonl")
    assert status == 0, err
    assert "4 persons in 4 frames of 1 videos -> r.jsonl, predictions" in out
    assert re.search(
        r"^[\d.]+ s: decode \d+ %, find \d+ %, crop \d+ %, network \d+ %, decode keypoints", out, flags=re.M
    )
    assert "No boxes" not in out
    told = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [each["frame"] for each in told] == [0, 1, 2, 3]
    assert [person["track"] for each in told for person in each["people"]] == [1, 1, 1, 1]
    assert cv2.VideoCapture("predictions/walk.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == 4


MISTAKES = {
    "no such file": (("gone.png",), "no image or folder gone.png"),
    "no file of a pattern": (("gone*.png",), "no image or folder gone*.png"),
    "no video": (("text.mp4",), "video text.mp4 cannot be opened: it is no video"),
    "a folder without pictures": (("empty",), "folder empty holds no images and no videos"),
    "a camera that is not there": (("camera:97",), "camera:97 is not there, or another program has it"),
    "a huge picture": (("huge.png",), "image huge.png declares 100000 x 100000 px"),
    "rows of five numbers": (("a.png", "--boxes", "five.json"), "has a box of 5 numbers"),
    "nobody": (("a.png", "--boxes", "nobody.json"), "nobody was found at all"),
    "a box outside": (("a.png", "--boxes", "outside.json"), "nobody was found at all"),
    "boxes of a video": (("walk.mp4", "--boxes", "five.json"), "walk.mp4: --boxes name no frames of a video"),
    "two finders": (("a.png", "--boxes", "five.json", "--detector", "d.onnx"), "give one of them"),
    "annotations alone": (("a.png", "--annotations", "five.json"), "give --boxes, too"),
    "a detector that is not there": (("a.png", "--detector", "gone.onnx"), "gone.onnx"),
    "no format": (("a.png", "--save-results", "r.xml"), "--save-results r.xml: name it .json"),
    "an output that is no folder": (("a.png", "--out", "a.png/out"), "a.png is no folder"),
    "an output of the system": (("a.png", "--out", "/proc/nothing/here"), "/proc/nothing"),
    "pictures tracked": (("a.png", "--track"), "--track follows persons from frame to frame"),
    "a setting alone": (("walk.mp4", "--min-cutoff", "2"), "--min-cutoff is a setting of --smooth"),
    "a setting without sense": (("walk.mp4", "--smooth", "--beta", "-1"), "--smooth:"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(posestill, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "a.png")
    write_clip(tmp_path / "walk.mp4", 2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    header = struct.pack(">II", 100_000, 100_000) + bytes([8, 2, 0, 0, 0])
    block = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + block)
    for name, boxes in (("five", [[1, 2, 3, 4, 0.9]]), ("nobody", []), ("outside", [[500, 500, 9, 9]])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"a.png": boxes}))
    arguments, message = MISTAKES[case]
    status, _, err = posestill("predict", "model", *arguments)
    said = [line for line in err.splitlines() if not line.startswith("predicting")]
    assert (status, message in said[-1] or message in said[-2]) == (2, True), err
    assert len(said) <= (2 if case in ("a box outside", "a setting without sense") else 1), err
    assert "Traceback" not in err


def test_the_rest_of_a_batch_is_predicted_and_the_exit_status_is_1(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "a.png", "b.png")
    write_clip(tmp_path / "walk.mp4", 2)
    (tmp_path / "text.mp4").write_text("no video")
    status, out, err = posestill(
        "predict", "model", "gone.png", "a.png", "text.mp4", "walk.mp4", "camera:97", "--save-results", "r.csv"
    )
    assert (status, "3 persons in 1 images and 2 frames of 1 videos" in out) == (1, True), err
    passed = [line.removeprefix("passed over: ") for line in err.splitlines() if line.startswith("passed over: ")]
    assert [line.split(" ")[0:2] for line in passed] == [["no", "image"], ["video", "text.mp4"], ["camera:97", "is"]]
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": [[0, 0, 9, 9], [50, 50, 9, 9]], "b.png": []}))
    status, out, err = posestill("predict", "model", "a.png", "b.png", "--boxes", "boxes.json")
    assert status == 1
    assert "1 persons in 2 images" in out
    assert "nobody was found in 1 of 2 pictures" in out
    assert "passed over: a.png: box 2 [50, 50, 9, 9] lies outside of the picture (9 x 9 px)" in err


@pytest.mark.parametrize(("given", "expected"), [("camera:0", 0), ("walk.mp4", 130)])
def test_a_user_who_stops_keeps_what_was_written_and_a_camera_is_meant_to_be_stopped(
    posestill, tmp_path, monkeypatch, given, expected
):
    class Stopped:
        """Gives three frames; then somebody presses Ctrl-C."""

        def __init__(self, number):
            self.left = 3

        def isOpened(self):
            return True

        def get(self, what):
            return 10.0

        def read(self):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return True, np.full((48, 64, 3), 90, dtype=np.uint8)

        def release(self):
            pass

    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path)
    write_clip(tmp_path / "walk.mp4", 1)
    monkeypatch.setattr("posestill.predict.video.cv2.VideoCapture", Stopped)
    status, out, err = posestill("predict", "model", given, "--save-results", "r.csv")
    assert (status, "3 persons in 3 frames of 1 videos" in out) == (expected, True), err
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1 + 3
    assert ("stopped: what was predicted before is written" in err) == (expected == 130)
    assert (tmp_path / "predictions" / f"{given.replace(':', '-').removesuffix('.mp4')}.mp4").stat().st_size > 300
