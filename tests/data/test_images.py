import json

import numpy as np
import pytest

from posestill.data.batches import DataConfig, choose_people
from posestill.data.images import HeldOutConfig, ImagesConfig, TaughtSource, labelled_pictures, with_answer
from posestill.data.pictures import Pictures
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17
from posestill.types import Person
from tests.networks import photo, write_photos, write_video


def config(folder, **settings):
    return validate(ImagesConfig, {"folder": folder, **settings}, where="data.train")


def source(folder, **settings):
    return config(folder, keypoints=COCO_17.names, **settings).build()


def test_without_boxes_every_frame_is_one_person_without_labels(tmp_path):
    people = source(write_photos(tmp_path, 3)).people
    assert [(person.id, person.image_id) for person in people] == [(1, 1), (2, 2), (3, 3)]
    assert people[0].bbox.tolist() == [0, 0, 40, 60]
    assert people[0].keypoints is None
    assert people[0].area == pytest.approx(0.53 * 40 * 60)


def test_boxes_name_the_people_and_empty_ones_are_left_out(tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"1.png": [[1, 2, 20, 30], [0, 0, 0, 9]], "3.png": [[0, 0, 9, 9]]}))
    found = source(write_photos(tmp_path / "p", 3), boxes=tmp_path / "boxes.json")
    assert [(person.image_id, person.bbox.tolist()) for person in found.people] == [
        (1, [1, 2, 20, 30]),
        (3, [0, 0, 9, 9]),
    ]
    np.testing.assert_array_equal(found.image(3), photo(3))
    assert list(found.image_ids) == [1, 2, 3]


def test_a_single_path_and_a_list_are_the_same_setting(tmp_path):
    assert config(str(tmp_path)) == config([str(tmp_path)])
    assert config(str(tmp_path)).model_dump(mode="json")["folder"] == [str(tmp_path)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"boxes": "b.json", "detector": "d.onnx"}, "boxes and detector both say where persons are: give one of them"),
        ({"box_threshold": 1.5}, "less than or equal to 1"),
        ({"frame_step": 0}, "greater than 0"),
        ({"folder": []}, "at least 1 item"),
        ({"framestep": 3}, "did you mean 'frame_step'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        config(**{"folder": tmp_path, **settings})


def test_a_source_that_needs_a_teacher_or_a_detector_says_so(tmp_path):
    write_photos(tmp_path, 1)
    with pytest.raises(UserError, match="have the teacher's keypoints, and there is no teacher here: name them by"):
        config(tmp_path).build()
    with pytest.raises(UserError, match="only a run with a teacher asks a detector; give boxes here"):
        source(tmp_path, detector="d.onnx")
    with pytest.raises(UserError, match="the pictures that a run holds out have no labels of their own"):
        HeldOutConfig().build()


def test_boxes_cannot_name_the_frames_of_a_video(tmp_path):
    (tmp_path / "boxes.json").write_text("{}")
    video = write_video(tmp_path / "v.avi", 3)
    with pytest.raises(UserError, match=r"the frames of v\.avi have no file names by which .*boxes\.json"):
        source(video, boxes=tmp_path / "boxes.json")


def test_people_without_labels_are_trained_on_without_being_asked_for(tmp_path):
    data = validate(DataConfig, {"train": {"name": "images", "folder": str(tmp_path)}}, where="data")
    assert isinstance(data.val, HeldOutConfig)
    assert data.has_no_labels
    labels = choose_people(source(write_photos(tmp_path, 4)), data)
    assert sorted(labels.persons) == [0, 1, 2, 3]
    assert not labels.shown.any()


def test_only_pictures_without_labels_do_without_data_val():
    with pytest.raises(UserError, match="val: name the source of the persons that the run is evaluated on"):
        validate(DataConfig, {"train": {"name": "synthetic", "people": 8}}, where="data")


def test_a_persons_area_is_that_of_the_pose_where_the_frame_is_much_larger():
    person = Person(1, 1, np.array([0.0, 0, 1000, 1000]), None, 530_000.0)
    answer = np.zeros((17, 3))
    answer[:2] = [[100, 100, 0.9], [200, 300, 0.8]]
    answer[2] = [900, 900, 0.1]
    taught = with_answer(person, answer, threshold=0.3)
    assert taught.keypoints[:2].tolist() == [[100, 100, 2], [200, 300, 2]]
    assert not taught.keypoints[2:].any()
    assert taught.area == pytest.approx(0.53 * (1.2 * 100) * (1.2 * 200))
    assert with_answer(person, answer * [1, 1, 0], threshold=0.3) is person  # sure of nothing: no labels
    thin = answer.copy()
    thin[1, 0] = 100
    assert with_answer(person, thin, threshold=0.3).area == pytest.approx(0.53 * (1.2 * 200) ** 2 * 0.25)


def test_answers_stand_in_for_labels_and_say_that_they_do(tmp_path):
    held = source(write_photos(tmp_path, 2)).only([1])
    taught = TaughtSource(held, np.full((1, 17, 3), 0.9), threshold=0.3)
    assert taught.truth == "the teacher's answers"
    assert list(taught.image_ids) == [2]
    assert (taught.people[0].keypoints[:, 2] == 2).all()
    np.testing.assert_array_equal(taught.image(2), photo(2))


def labels(tmp_path, names, images):
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(images, start=50)],
        "categories": [{"id": 1, "keypoints": names}],
        "annotations": [
            {"id": 1, "image_id": 50, "category_id": 1, "bbox": [0, 0, 9, 9],
             "keypoints": [number for at in range(len(names)) for number in (at, at + 0.5, 2)]}
        ],
    }  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path / "labels.json"


def test_labels_of_some_pictures_are_read_in_the_teachers_keypoints(tmp_path):
    given = source(write_photos(tmp_path / "p", 4))
    found = labelled_pictures(given, labels(tmp_path, ["LAnkle", "RAnkle", "head_top"], ["x/3.png", "2.png"]))
    assert sorted(found.image_ids) == [2, 3]
    assert [person.image_id for person in found.people] == [3]
    keypoints = found.people[0].keypoints
    left, right = COCO_17.names.index("left_ankle"), COCO_17.names.index("right_ankle")
    assert keypoints[left].tolist() == [0, 0.5, 2]
    assert keypoints[right].tolist() == [1, 1.5, 2]
    assert (keypoints[:, 2] > 0).sum() == 2  # the teacher knows no top of the head
    assert found.boxes == "ground truth"


def test_labels_of_other_pictures_or_other_keypoints_are_refused(tmp_path):
    given = source(write_photos(tmp_path / "p", 2))
    with pytest.raises(UserError, match="names none of the 2 images"):
        labelled_pictures(given, labels(tmp_path, ["nose"], ["9.png"]))
    with pytest.raises(UserError, match="none of the teacher's keypoints"):
        labelled_pictures(given, labels(tmp_path, ["tail"], ["1.png"]))


def test_a_video_has_no_names_for_labels(tmp_path):
    given = source(write_video(tmp_path / "v.avi", 3))
    assert isinstance(given.pictures, Pictures)
    with pytest.raises(UserError, match="cannot name frames of a video"):
        labelled_pictures(given, labels(tmp_path, ["nose"], ["1.png"]))
