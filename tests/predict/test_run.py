import csv
import json
import os

import cv2
import numpy as np
import pytest

from posestill.data.image_files import read_image
from posestill.data.images import FoundBoxes
from posestill.draw import write_image
from posestill.files import Outputs
from posestill.models.threads import ThreadTrial
from posestill.predict import run
from posestill.predict.files import Wanted, find_images
from posestill.predict.people import Following
from posestill.predict.predictor import Predictor
from posestill.predict.run import predict_files
from posestill.predict.smooth import OneEuroConfig
from posestill.schema import UserError
from tests.conftest import DOTS, small_model
from tests.predict.clips import write_clip

GREY = np.full((40, 30, 3), 90, dtype=np.uint8)


@pytest.fixture
def predictor():
    return Predictor(small_model())


def photos(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, GREY)
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_cannot_be_read_is_passed_over_and_the_rest_is_written(tmp_path):
    folder = photos(tmp_path / "p", "a.png", "b.png", "c.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:-20])
    os.mkfifo(folder / "d.png")
    (folder / "c\x1b[2J.png").write_bytes(b"")
    wanted, _ = find_images([folder])
    done = predict_files(Predictor(small_model()), wanted, out=tmp_path / "out")
    assert (done.people, done.images, len(done.unreadable)) == (2, 2, 3)
    assert sorted(line.split("image ")[1].split("/")[-1] for line in done.unreadable) == [
        "b.png is cut off: fetch it again",
        "c\\x1b[2J.png is empty: fetch it again",
        "d.png is a pipe, a socket or a device: a file is wanted",
    ]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(entry["file_name"], entry["image_id"]) for entry in entries] == [("a.png", 1), ("c.png", 4)]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "c.png", "predictions.json", ".posestill"}
    assert read_image(tmp_path / "out" / "a.png").shape == GREY.shape


def test_nothing_is_written_where_no_picture_can_be_read(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UserError, match=r"none of the 1 images can be read; image .*a.png cannot be decoded"):
        predict_files(Predictor(small_model()), find_images([tmp_path / "a.png"])[0], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_everything_is_checked_before_anything_is_written(tmp_path):
    folder = photos(tmp_path / "p", "a.png", "b.png")
    photos(tmp_path / "out", "b.png")
    before = (tmp_path / "out" / "b.png").read_bytes()
    with pytest.raises(UserError, match=r"b.png is there already, and not what predict wrote there"):
        predict_files(Predictor(small_model()), find_images([folder])[0], out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]
    assert (tmp_path / "out" / "b.png").read_bytes() == before


def test_a_drawing_that_cannot_be_written_ends_the_command_and_leaves_no_half_file(tmp_path, monkeypatch):
    folder = photos(tmp_path / "p", "a.png", "b.png")
    wanted, _ = find_images([folder])
    (tmp_path / "out").mkdir()
    real = Outputs.write

    def full(self, path, write, **options):
        if path.name == "b.png":

            def write(draft):
                draft.write_bytes(b"half")
                raise OSError(28, "No space left on device")

        real(self, path, write, **options)

    monkeypatch.setattr(Outputs, "write", full)
    with pytest.raises(UserError, match=r"b.png could not be written \(No space left on device\)"):
        predict_files(Predictor(small_model()), wanted, out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", ".posestill"}


def test_persons_of_several_pictures_are_asked_about_together_and_get_the_poses_that_they_have_alone(
    predictor, tmp_path, monkeypatch
):
    rng = np.random.default_rng(0)
    for number in range(5):
        write_image(tmp_path / f"{number}.png", rng.integers(0, 255, (40, 30, 3), dtype=np.uint8))
    boxes = {f"{number}.png": [[1, 2, 20, 30]] * number for number in range(5)}  # 0 to 4 persons
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    wanted, _ = find_images([tmp_path / f"{number}.png" for number in range(5)], tmp_path / "boxes.json")
    asked = []
    real = Predictor.poses
    monkeypatch.setattr(
        Predictor, "poses", lambda self, crops, *rest: asked.append(len(crops.pixels)) or real(self, crops, *rest)
    )
    done = predict_files(
        predictor, wanted, out=tmp_path / "out", draw=False, results=tmp_path / "r.jsonl", batch_size=3
    )
    assert (done.people, done.images, done.empty) == (10, 5, 1)
    assert asked == [3, 3, 3, 1]  # 1 and 2 of the first pictures, 3 of one, 4 of the last one
    for number, told in enumerate(lines(tmp_path / "r.jsonl")):
        alone = predictor.predict(tmp_path / f"{number}.png", boxes[f"{number}.png"])
        found = [[person["keypoints"][name] for name in DOTS.names] for person in told["people"]]
        np.testing.assert_allclose(np.array(found).reshape(-1, 4, 3), alone, atol=0.006)


def test_frames_of_a_video_are_told_in_each_format_and_drawn_as_a_video(predictor, tmp_path):
    write_clip(tmp_path / "walk.mp4", 5)
    write_image(tmp_path / "a.png", GREY)
    wanted, _ = find_images([tmp_path / "walk.mp4", tmp_path / "a.png"])
    for suffix in ("json", "jsonl", "csv"):
        done = predict_files(predictor, wanted, out=tmp_path / suffix, results=tmp_path / f"r.{suffix}")
        assert (done.people, done.images, done.frames, done.videos, done.empty) == (6, 1, 5, 1, 0)
    entries = json.loads((tmp_path / "r.json").read_text())
    assert [(each["file_name"], each.get("frame"), each["image_id"]) for each in entries] == [
        *(("walk.mp4", frame, 2 + frame) for frame in range(5)), ("a.png", None, 1),
    ]  # fmt: skip
    told = lines(tmp_path / "r.jsonl")
    assert [each.get("seconds") for each in told] == [0.0, 0.1, 0.2, 0.3, 0.4, None]
    assert told[0]["people"][0]["box"] == [0, 0, 64, 48]
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [row["frame"] for row in rows] == ["0", "1", "2", "3", "4", ""]
    x, y, _ = told[3]["people"][0]["keypoints"]["bottom"]
    assert (float(rows[3]["bottom_x"]), float(rows[3]["bottom_y"])) == (
        pytest.approx(x, abs=0.006),
        pytest.approx(y, abs=0.006),
    )
    drawn = cv2.VideoCapture(str(tmp_path / "csv" / "walk.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (5, 10)
    assert (drawn.get(cv2.CAP_PROP_FRAME_WIDTH), drawn.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)
    assert {path.name for path in (tmp_path / "csv").iterdir()} == {"walk.mp4", "a.png", ".posestill"}


def test_lines_stand_in_the_file_as_soon_as_they_are_known(predictor, tmp_path, monkeypatch):
    folder = photos(tmp_path / "p", "a.png", "b.png", "c.png")
    seen = []
    real = Wanted.read

    def read(self):
        there = tmp_path / "r.jsonl"
        seen.append(len(there.read_text().splitlines()) if there.exists() else 0)
        return real(self)

    monkeypatch.setattr(Wanted, "read", read)
    wanted, _ = find_images([folder])
    predict_files(predictor, wanted, out=tmp_path / "out", draw=False, results=tmp_path / "r.jsonl", batch_size=1)
    assert seen == [0, 1, 2]


def test_a_detector_is_asked_about_every_picture_and_nobody_may_be_there(predictor, tmp_path, monkeypatch):
    asked = predictor.poses

    def half_sure(*given):
        found = asked(*given)
        found[..., 2] = 0.5
        return found

    monkeypatch.setattr(predictor, "poses", half_sure)
    folder = photos(tmp_path / "p", "a.png", "b.png")
    write_image(folder / "b.png", GREY * 0)

    def finder(image):
        there = int(image.max() > 0)
        return FoundBoxes(np.array([[2.0, 3.0, 20.0, 30.0]] * there).reshape(-1, 4), np.full(there, 0.7))

    done = predict_files(
        predictor, find_images([folder])[0], out=tmp_path / "out", results=tmp_path / "r.jsonl", finder=finder
    )
    assert (done.people, done.empty) == (1, 1)
    first, second = lines(tmp_path / "r.jsonl")
    (person,) = first["people"]
    assert (person["box"], person["box_score"]) == ([2, 3, 20, 30], 0.7)
    counting = [score for *_, score in person["keypoints"].values() if score > 0.2]
    assert counting
    assert person["score"] == pytest.approx(0.7 * np.mean(counting), abs=2e-4)
    assert second["people"] == []
    assert read_image(tmp_path / "out" / "b.png").max() == 0


def test_boxes_in_which_nobody_can_stand_are_left_out_and_named(predictor, tmp_path):
    photos(tmp_path, "a.png")
    boxes = [[1, 2, 20, 30], [100, 0, 5, 5], [3, 3, 0, 9], [-30, -5, 29, 40], [-5, -5, 20, 20]]
    done = predict_files(predictor, [Wanted(tmp_path / "a.png", 1, np.array(boxes, dtype=float))], out=tmp_path / "out")
    assert done.people == 2
    assert done.left_out == [
        "a.png: box 2 [100, 0, 5, 5] lies outside of the picture (30 x 40 px)",
        "a.png: box 3 [3, 3, 0, 9] has no extent: boxes are x, y, width, height",
        "a.png: box 4 [-30, -5, 29, 40] lies outside of the picture (30 x 40 px)",
    ]


def test_what_is_no_video_is_passed_over_and_the_rest_is_predicted(predictor, tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    write_clip(tmp_path / "b.mp4", 3)
    done = predict_files(predictor, find_images([tmp_path])[0], out=tmp_path / "out")
    assert (done.frames, done.videos) == (3, 1)
    assert done.unreadable == [
        f"video {tmp_path / 'a.mp4'} cannot be opened: it is no video, is cut off, or OpenCV lacks its codec"
    ]
    with pytest.raises(UserError, match=r"^none of the 1 images can be read; video .*a.mp4 cannot be opened"):
        predict_files(predictor, find_images([tmp_path / "a.mp4"])[0], out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_with_track_the_detector_is_asked_again_where_somebody_is_lost_and_now_and_then(tmp_path, monkeypatch):
    write_clip(tmp_path / "walk.mp4", 9)
    asked = []
    confidence = {}

    class Sure(Predictor):
        """Says that it is sure of everybody, but in one frame that it sees for the first time."""

        def poses(self, crops, stages=None):
            places = np.array([[1, 1], [5, 1], [1, 5], [5, 5]]) / 6 * [24, 32]  # the box around them is as large
            inverse = np.linalg.inv(
                np.concatenate([crops.to_input, np.tile([[[0, 0, 1]]], (len(crops.pixels), 1, 1))], axis=1)
            )
            xy = np.concatenate([places, np.ones((4, 1))], axis=1) @ inverse[:, :2].transpose(0, 2, 1)
            lost = confidence.pop("lost", False)
            return np.concatenate([xy, np.full((len(xy), 4, 1), 0.0 if lost else 0.9)], axis=-1)

    def finder(image):
        asked.append(1)
        return FoundBoxes(np.array([[10.0, 8.0, 30.0, 30.0]]), np.ones(1))

    def run(**options):
        asked.clear()
        done = predict_files(
            Sure(small_model()), find_images([tmp_path / "walk.mp4"])[0], out=tmp_path / "out", draw=False,
            results=tmp_path / "r.jsonl", finder=finder, following=Following(track=True, **options),
            outputs=Outputs("predict", overwrite=True),
        )  # fmt: skip
        assert {person["track"] for told in lines(tmp_path / "r.jsonl") for person in told["people"]} == {1}
        assert done.people == 9
        return len(asked)

    assert run(find_every=100) == 1
    assert run(find_every=4) == 3  # in frames 0, 4 and 8
    real = Sure.poses
    calls = []

    def poses(self, crops, stages=None):
        calls.append(1)
        if len(calls) == 6:
            confidence["lost"] = True
        return real(self, crops, stages)

    monkeypatch.setattr(Sure, "poses", poses)
    assert run(find_every=100) == 2
    assert len(calls) >= 10  # the frame in which it was lost was asked about twice


def test_smoothed_keypoints_tremble_less(tmp_path):
    write_clip(tmp_path / "noise.mp4", 12, noise=True)
    predictor = Predictor(small_model("coords"))
    wanted, _ = find_images([tmp_path / "noise.mp4"])
    spread = []
    for smooth in (None, OneEuroConfig(min_cutoff=0.1, beta=0)):
        predict_files(
            predictor, wanted, out=tmp_path, draw=False, results=tmp_path / "r.jsonl",
            following=Following(smooth=smooth), outputs=Outputs("predict", overwrite=True),
        )  # fmt: skip
        told = lines(tmp_path / "r.jsonl")
        x = np.array([[xy[:2] for xy in each["people"][0]["keypoints"].values()] for each in told])
        spread.append(np.abs(np.diff(x, axis=0)).mean())
        assert told[0]["people"][0].get("track") == (None if smooth is None else 1)
    assert 0 < spread[1] < 0.2 * spread[0]


class StandIn:
    """A camera of 3 frames, and none behind any other number."""

    def __init__(self, number):
        self.left = 3 if number == 0 else 0

    def isOpened(self):
        return self.left > 0

    def get(self, what):
        return 0.0

    def read(self):
        self.left -= 1
        return (True, GREY) if self.left >= 0 else (False, None)

    def release(self):
        pass


def test_a_camera_is_read_until_it_ends_and_one_that_is_not_there_is_named(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr("posestill.predict.video.cv2.VideoCapture", StandIn)
    done = predict_files(predictor, find_images(["camera:0", "camera:7"])[0], out=tmp_path, draw=False)
    assert (done.frames, done.videos) == (3, 1)
    assert done.unreadable == ["camera:7 is not there, or another program has it: name another, such as camera:0"]
    entries = json.loads((tmp_path / "predictions.json").read_text())
    assert [(each["file_name"], each["frame"], each["image_id"]) for each in entries] == [
        ("camera-0", 0, 1), ("camera-0", 1, 2), ("camera-0", 2, 3),
    ]  # fmt: skip


def test_a_user_who_stops_a_camera_keeps_what_was_predicted(predictor, tmp_path, monkeypatch):
    class Stopped(StandIn):
        def read(self):
            if self.left == 1:
                raise KeyboardInterrupt
            return super().read()

    monkeypatch.setattr("posestill.predict.video.cv2.VideoCapture", Stopped)
    wanted, _ = find_images(["camera:0"])
    done = predict_files(predictor, wanted, out=tmp_path, draw=False, results=tmp_path / "r.jsonl")
    assert (done.frames, done.is_stopped) == (2, True)
    assert len(lines(tmp_path / "r.jsonl")) == 2


def test_a_list_that_could_not_be_finished_leaves_nothing_and_lines_leave_what_is_whole(
    predictor, tmp_path, monkeypatch
):
    folder = photos(tmp_path / "p", "a.png", "b.png")

    def broken(self):
        if self.path.name == "b.png":
            raise MemoryError
        return GREY

    monkeypatch.setattr(Wanted, "read", broken)
    for suffix, left in (("json", set()), ("jsonl", {"r.jsonl"}), ("csv", {"r.csv"})):
        with pytest.raises(MemoryError):
            predict_files(
                predictor, find_images([folder])[0] * 2, out=tmp_path, draw=False, batch_size=1,
                results=tmp_path / suffix / f"r.{suffix}",
            )  # fmt: skip
        there = {path.name for path in (tmp_path / suffix).iterdir()} if (tmp_path / suffix).exists() else set()
        assert there - {".posestill"} <= left


def test_the_fastest_number_of_threads_is_told_before_anything_is_predicted(tmp_path, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(run, "try_threads", lambda work: (found.append(work()), ThreadTrial({1: 0.01, 2: 0.02}))[1])
    wanted, _ = find_images([photos(tmp_path / "p", "a.png")])
    assert predict_files(Predictor(small_model(), device="cpu"), wanted, out=tmp_path / "out").images == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "threads: 1 of 2 threads is the fastest here (1: 10 ms, 2: 20 ms)"
    assert told[1].startswith("predicting 1/1")
    assert found[0].shape == (1, 4, 3)  # the whole work for one person was tried
