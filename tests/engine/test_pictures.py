import json

import numpy as np
import pytest
import torch

from posestill.data.images import ImagesConfig
from posestill.engine import pictures
from posestill.engine.config import run_of
from posestill.engine.log import RunLog
from posestill.engine.pictures import check_confidence, find_people, open_pictures, skeleton_of
from posestill.engine.setup import open_sources
from posestill.evaluation.evaluate import EvaluateConfig, evaluate_model
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17, from_category
from posestill.teachers.base import ModelTeacher
from tests.conftest import small_model, small_model_config
from tests.networks import write_detector, write_photos, write_teacher, write_video


class Heard(RunLog):
    """A log that keeps what it is told."""

    def __init__(self):
        super().__init__(None, quiet=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def run(teacher, folder, *, val=None, **settings):
    data = {"train": {"name": "images", "folder": str(folder), **settings}}
    content = {
        "data": data if val is None else {**data, "val": val},
        "model": small_model_config("coords").model_dump(mode="json"),
        "method": "pseudo_label",
        "teacher": {"name": "file", "path": str(teacher), "cache": True},
        "train": {"steps": 2, "batch_size": 4},
    }  # fmt: skip
    return run_of(content, where="test")


@pytest.fixture
def teacher(tmp_path):
    return write_teacher(tmp_path / "teacher.onnx")


def test_some_pictures_are_held_out_where_the_teachers_answers_stand_in_for_labels(tmp_path, teacher):
    log = Heard()
    opened = open_pictures(run(teacher, write_photos(tmp_path / "p", 20)), log=log)
    assert len(opened.train.people) == 17
    assert [person.image_id for person in opened.val.people] == [19, 20]
    assert all(person.keypoints is None for person in opened.train.people)
    assert all((person.keypoints[:, 2] == 2).all() for person in opened.val.people)
    assert opened.train.skeleton.names == COCO_17.names
    assert "held out: the last 2 of 20 pictures" in log.lines[0]
    assert opened.labelled is None


def test_a_detector_finds_the_people_and_empty_pictures_are_counted_and_named(tmp_path, teacher):
    log = Heard()
    detector = write_detector(tmp_path / "d.onnx")
    opened = open_pictures(run(teacher, write_photos(tmp_path / "p", 12, dark=7), detector=str(detector)), log=log)
    assert "nobody was found in 7 of 12 pictures: 6.png, 7.png, 8.png, 9.png, 10.png and 2 more" in log.lines
    assert len(opened.train.people) + len(opened.val.people) == 4  # and one picture between
    assert opened.train.people[0].score == pytest.approx(0.9)
    assert opened.val.boxes == "d.onnx's"


def test_a_folder_where_nobody_is_found_is_refused(tmp_path, teacher):
    given = run(teacher, write_photos(tmp_path / "p", 3, dark=3), detector=str(write_detector(tmp_path / "d.onnx")))
    with pytest.raises(UserError, match=r"nobody was found in the 3 pictures \(d\.onnx's boxes scored above 0\.3\): "):
        open_pictures(given, log=Heard())


def test_unreadable_pictures_are_counted_and_named(tmp_path, teacher):
    folder, log = write_photos(tmp_path / "p", 20), Heard()
    (folder / "broken.jpg").write_bytes(b"")
    open_pictures(run(teacher, folder), log=log)
    assert log.lines[0] == "1 pictures cannot be decoded and are left out: broken.jpg"


def test_a_video_is_held_out_by_its_last_part(tmp_path, teacher):
    opened = open_pictures(run(teacher, write_video(tmp_path / "v.avi", 100), frame_step=2), log=Heard())
    held = [person.image_id for person in opened.val.people]
    assert held == [46, 47, 48, 49, 50]
    assert max(person.image_id for person in opened.train.people) == 35  # two seconds are ten of these frames


def test_keypoints_can_be_named_and_keep_the_teachers_edges(tmp_path, teacher):
    names = ["left_ankle", "left_knee", "right_knee", "right_ankle"]
    opened = open_pictures(run(teacher, write_photos(tmp_path / "p", 12), keypoints=names), log=Heard())
    assert list(opened.train.skeleton.names) == names
    assert opened.train.skeleton.edges == ((0, 1), (3, 2))
    assert opened.val.answers.shape == (1, 4, 3)
    with pytest.raises(UserError, match=r"data\.train\.keypoints: the teacher says nothing of 'tail'"):
        open_pictures(run(teacher, tmp_path / "p", keypoints=["tail"]), log=Heard())


def labels(tmp_path, numbers):
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in numbers],
        "categories": [{"id": 1, "keypoints": ["nose", "left_ankle", "right_ankle"]}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 30, 50],
             "keypoints": [9, 9, 2, 9, 30, 1, 0, 0, 0]}
            for number in numbers
        ],
    }  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return {"name": "held_out", "annotations": str(tmp_path / "labels.json")}


def test_pictures_with_labels_are_held_out_in_the_place_of_a_share(tmp_path, teacher):
    folder, log = write_photos(tmp_path / "p", 12), Heard()
    opened = open_pictures(run(teacher, folder, val=labels(tmp_path, [2, 5, 9])), log=log)
    assert [person.image_id for person in opened.val.people] == [2, 5, 9]
    assert {person.image_id for person in opened.train.people} == {1, 3, 4, 6, 7, 8, 10, 11, 12}
    assert [person.image_id for person in opened.labelled.people] == [2, 5, 9]
    assert "held out: the 3 pictures that have labels in" in log.lines[0]
    with pytest.raises(UserError, match="has labels of every picture, and these are not trained on"):
        open_pictures(run(teacher, folder, val=labels(tmp_path, range(1, 13))), log=Heard())


def test_pictures_with_labels_in_which_nobody_is_found_are_refused(tmp_path, teacher):
    folder = write_photos(tmp_path / "p", 12)
    (tmp_path / "boxes.json").write_text(json.dumps({f"{number}.png": [[0, 0, 30, 50]] for number in range(1, 9)}))
    given = run(teacher, folder, val=labels(tmp_path, [10, 11]), boxes=str(tmp_path / "boxes.json"))
    with pytest.raises(UserError, match="nobody was found in the 2 pictures with labels: correct the boxes"):
        open_pictures(given, log=Heard())


def test_held_out_people_are_not_cut_out_by_other_boxes(tmp_path, teacher):
    opened = open_pictures(run(teacher, write_photos(tmp_path / "p", 12)), log=Heard())
    with pytest.raises(UserError, match=r"evaluate\.boxes: held-out pictures have boxes of their own"):
        evaluate_model(small_model("coords", skeleton=COCO_17), opened.val, EvaluateConfig(boxes="boxes.json"))


def test_labelled_data_can_judge_pictures_without_labels(tmp_path, teacher, sample_folder):
    val = {"name": "coco", "root": str(sample_folder), "split": "val"}
    opened = open_sources(run(teacher, write_photos(tmp_path / "p", 4), val=val))
    assert len(opened.train.people) == 4
    assert opened.val.image_ids
    with pytest.raises(UserError, match=r"they must be the same, and data\.train\.keypoints can name them"):
        open_sources(run(teacher, tmp_path / "p", val=val, keypoints=["nose"]))


def test_without_a_teacher_there_is_nobody_to_learn_from(tmp_path):
    content = run("t.onnx", tmp_path).model_dump(mode="json")
    with pytest.raises(UserError, match="pictures without labels teach nothing by themselves: give a teacher"):
        run_of({**content, "teacher": None, "method": "supervised"}, where="test")


def test_a_teacher_that_is_sure_of_nobody_held_out_is_refused(tmp_path):
    doubting = write_teacher(tmp_path / "t.onnx", confidence=0.2)
    with pytest.raises(UserError, match=r"sure of no keypoint of the 1 held-out people .*: the whole frame was taken"):
        open_pictures(run(doubting, write_photos(tmp_path / "p", 10)), log=Heard())


def test_held_out_people_of_whom_the_teacher_is_not_sure_are_counted(tmp_path, teacher, monkeypatch):
    from posestill.engine import pictures

    ask = pictures.ask_about

    def doubting(*given, **named):
        found = ask(*given, **named)
        found.keypoints[0, :, 2] = 0.1
        return found

    monkeypatch.setattr(pictures, "ask_about", doubting)
    log = Heard()
    open_pictures(run(teacher, write_photos(tmp_path / "p", 20)), log=log)
    assert log.lines[-1] == "1 of 2 held-out people are judged by nothing: the teacher is not sure of them"


def test_the_share_of_doubtful_people_is_said_and_beyond_half_refused(tmp_path):
    given, log = run("t.onnx", tmp_path), Heard()
    score = torch.from_numpy(np.where(np.arange(10)[:, None] < 4, 0.2, 0.6).repeat(17, axis=1))
    check_confidence(given, score, log=log)
    assert log.lines == ["40 % of the 10 people to train on are doubtful: the teacher's mean confidence is below 0.3"]
    with pytest.raises(
        UserError, match=r"60 % of the 10 .*the whole frame was taken for one person: give boxes or a d"
    ):
        check_confidence(given, 0.8 - score, log=log)
    with pytest.raises(UserError, match="look whether the boxes are right"):
        check_confidence(run("t.onnx", tmp_path, boxes="b.json"), 0.8 - score, log=log)
    check_confidence(run("t.onnx", tmp_path, least_confidence=0), 0.8 - score, log=log)


def test_chosen_keypoints_keep_the_partners_and_spreads_that_the_teacher_gives_them():
    names = ("p", "q", "r", "s")
    given = {"flip_pairs": [[0, 1], [2, 3]], "sigmas": [0.01, 0.02, 0.03, 0.04]}
    teacher = ModelTeacher(small_model(skeleton=from_category({"name": "fish", "keypoints": names}, given)))
    chosen = skeleton_of(teacher, ("q", "p"))
    assert (chosen.swap, chosen.oks_sigmas, chosen.partners_known) == ((1, 0), (0.02, 0.01), True)
    assert skeleton_of(teacher, None) is teacher.skeleton
    assert not skeleton_of(teacher, ("p", "r", "s")).partners_known  # q, the partner of p, is not among them
    with pytest.raises(UserError, match="'left_wrist' has no partner"):
        skeleton_of(ModelTeacher(small_model(skeleton=COCO_17)), ("nose", "left_wrist"))


def test_a_first_picture_that_is_cut_off_is_left_out_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FEWEST_CROPS", 2)
    folder, log = write_photos(tmp_path / "p", 4), Heard()
    first = sorted(folder.iterdir())[0]
    first.write_bytes(first.read_bytes()[:-40])
    given = validate(ImagesConfig, {"folder": folder, "detector": write_detector(tmp_path / "d.onnx")}, where="")
    found = find_people(given, COCO_17, log=log)
    assert sorted(person.image_id for person in found.people) == [2, 3, 4]
