import json

import cv2
import numpy as np
import pytest

from posestill.data.coco import CocoSource
from posestill.data.images import FoundBoxes, ImagesConfig, ImageSource, as_people
from posestill.data.pictures import Pictures
from posestill.engine.choose import open_teacher
from posestill.evaluation.evaluate import evaluate_model
from posestill.files import Outputs
from posestill.predict.label import Asked, frames_folder, label_pictures, sheet_path, write_labels
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from posestill.teachers.answers import Answers
from tests.conftest import small_model
from tests.engine.test_pictures import Heard
from tests.networks import photo, spot, write_detector, write_photos, write_teacher, write_video


def label(tmp_path, folder, *, teacher=None, threshold=0.3, **settings):
    given = validate(ImagesConfig, {"folder": folder, **settings}, where="label")
    path = teacher or write_teacher(tmp_path / "t.onnx")
    out = tmp_path / "labels.json"
    return label_pictures(given, open_teacher(str(path)), out, threshold=threshold, log=Heard()), out


def test_our_own_source_reads_the_labels(tmp_path):
    found, out = label(tmp_path, write_photos(tmp_path / "p" / "deep", 3))
    assert (found.people, found.pictures, found.dropped) == (3, 3, 0)
    assert found.confidence == pytest.approx(0.9)
    source = CocoSource(out, images=found.images)
    for part in ("names", "swap", "edges", "oks_sigmas"):
        assert getattr(source.skeleton, part) == getattr(COCO_17, part)
    for number, person in enumerate(source.people, start=1):
        assert (person.keypoints[:, 2] == 2).all()
        np.testing.assert_allclose(person.keypoints[:, :2].mean(axis=0), spot(number), atol=2.0)
        np.testing.assert_array_equal(source.image(person.image_id), photo(number))
        assert person.bbox.tolist() == [0, 0, 40, 60]
    annotation = json.loads(out.read_text())["annotations"][0]
    assert annotation["confidence"] == pytest.approx(0.9, abs=1e-3)
    assert 0 < annotation["agreement"] < 1  # this teacher's keypoints do not follow the mirror
    assert annotation["num_keypoints"] == 17


def test_labels_that_a_teacher_made_are_never_taken_for_the_truth(tmp_path):
    found, out = label(tmp_path, write_photos(tmp_path / "p", 3))
    source = CocoSource(out, images=found.images)
    assert source.truth == "the teacher's answers"
    assert json.loads(out.read_text())["info"]["teacher"]["file"] == "t.onnx"
    evaluation = evaluate_model(small_model(skeleton=source.skeleton), source)
    assert evaluation.conditions["truth"] == "the teacher's answers"
    assert evaluation.notes[0].startswith("Truth: the teacher's answers. There are no labels here")


def test_keypoints_below_the_threshold_are_not_visible(tmp_path):
    _, out = label(tmp_path, write_photos(tmp_path / "p", 1), teacher=write_teacher(tmp_path / "t.onnx", sure=6))
    keypoints = np.reshape(json.loads(out.read_text())["annotations"][0]["keypoints"], (17, 3))
    # The answer is the mean with that on the mirrored crop, where partners are exchanged.
    assert set(keypoints[:5, 2]) == {2}
    assert not keypoints[7:].any()


def test_people_of_whom_the_teacher_is_sure_of_too_little_are_dropped_and_drawn(tmp_path):
    detector = write_detector(tmp_path / "d.onnx")
    given = write_photos(tmp_path / "p", 4, dark=1)
    found, out = label(tmp_path, given, detector=detector)
    assert (found.people, found.pictures) == (3, 4)
    assert len(json.loads(out.read_text())["images"]) == 4  # a picture without people is one, too
    out.unlink()
    found.sheet.unlink()
    with pytest.raises(UserError, match=r"sure of nobody among 3 people \(a quarter of the keypoints above 0\.95\)"):
        label(tmp_path, given, detector=detector, threshold=0.95)
    assert not out.exists()


def test_who_is_doubtful_is_left_out_beside_who_is_kept(tmp_path):
    pictures = Pictures([write_photos(tmp_path / "p", 2)])
    people = as_people({at: FoundBoxes(np.array([[0.0, 0, 40, 60]]), np.ones(1)) for at in (0, 1)})
    source = ImageSource(pictures, people, COCO_17, boxes="by hand")
    keypoints = np.full((2, 17, 3), 20.0)
    keypoints[..., 2] = np.where(np.arange(17) < [[5], [4]], 0.9, 0.1)  # a quarter of 17 is 4.25
    out, outputs = tmp_path / "labels.json", Outputs("label")
    for path in (out, sheet_path(out)):
        outputs.claim(path, "--out")
    asked = Asked(source, Answers(keypoints, np.full((2, 17), np.nan)), {}, {})
    found = write_labels(asked, out, outputs, threshold=0.3)
    assert (found.people, found.dropped) == (1, 1)
    assert [each["num_keypoints"] for each in json.loads(out.read_text())["annotations"]] == [5]
    sheet = cv2.imread(str(found.sheet))
    assert (sheet[2 * 248 + 24 :, :176] < 255).any()


def test_the_sheet_shows_three_rows(tmp_path):
    found, out = label(tmp_path, write_photos(tmp_path / "p", 10))
    assert found.sheet == sheet_path(out) == tmp_path / "labels.png"
    sheet = cv2.imread(str(found.sheet))
    assert sheet.shape == (3 * (224 + 24), 8 * 176, 3)
    row = 224 + 24
    assert sheet[24:row, : 8 * 176].min() < 60  # eight people
    assert (sheet[row + 24 : 2 * row, 2 * 176 :] == 255).all()  # the other two
    assert (sheet[2 * row + 24 :] == 255).all()  # nobody was dropped


def test_what_is_there_is_not_overwritten(tmp_path):
    folder = write_photos(tmp_path / "p", 1)
    for path in (tmp_path / "labels.json", tmp_path / "labels.png"):
        path.write_text("mine")
        with pytest.raises(UserError, match=f"{path.name} is there already, and not what label wrote there"):
            label(tmp_path, folder)
        assert path.read_text() == "mine"
        path.unlink()


def test_frames_of_a_video_are_written_beside_the_labels(tmp_path):
    found, out = label(tmp_path, write_video(tmp_path / "v.avi", 21))
    assert found.images == frames_folder(out) == tmp_path / "labels-frames"
    source = CocoSource(out, images=found.images)
    assert sorted(source.file_names.values()) == ["v-000000.jpg", "v-000010.jpg", "v-000020.jpg"]
    assert source.image(source.people[1].image_id).shape == (60, 40, 3)


def test_videos_and_pictures_are_labelled_apart(tmp_path):
    write_video(write_photos(tmp_path / "p", 1) / "v.avi", 5)
    with pytest.raises(UserError, match="videos and pictures lie in different folders"):
        label(tmp_path, tmp_path / "p")


def test_what_names_do_not_tell_of_the_keypoints_is_written_and_read_back(tmp_path):
    """The faces of whole bodies have numbers for names, and their partners are not their own."""
    pictures = Pictures([write_photos(tmp_path / "p", 1)])
    people = as_people({0: FoundBoxes(np.array([[10.0, 10, 40, 40]]), np.ones(1))})
    source = ImageSource(pictures, people, COCO_WHOLEBODY, boxes="by hand")
    keypoints = np.concatenate([np.random.default_rng(0).uniform(12, 48, (1, 133, 2)), np.ones((1, 133, 1))], axis=2)
    asked, outputs = (
        Asked(source, Answers(keypoints, np.full((1, 133), np.nan)), {}, {}),
        Outputs("label", overwrite=True),
    )
    for path in (tmp_path / "labels.json", sheet_path(tmp_path / "labels.json")):
        outputs.claim(path, "--out")
    write_labels(asked, tmp_path / "labels.json", outputs, threshold=0.3)
    read = CocoSource(tmp_path / "labels.json", images=tmp_path / "p").skeleton
    assert (read.swap, read.oks_sigmas) == (COCO_WHOLEBODY.swap, COCO_WHOLEBODY.oks_sigmas)
    (annotation,) = json.loads((tmp_path / "labels.json").read_text())["annotations"]
    assert "agreement" not in annotation  # nothing was compared


def test_a_category_that_says_nonsense_of_its_keypoints_is_refused_by_name(tmp_path):
    category = {"id": 1, "name": "person", "keypoints": ["a", "b"], "flip_pairs": [[0, 2]]}
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": [category]}))
    with pytest.raises(UserError, match=r"a\.json: its category: flip_pairs has 2; a keypoint's number from 0 to 1"):
        CocoSource(tmp_path / "a.json", images=None)


def test_pictures_that_the_detector_could_not_read_are_neither_counted_nor_listed(tmp_path):
    folder = write_photos(tmp_path / "p", 4)
    second = sorted(folder.iterdir())[1]
    second.write_bytes(second.read_bytes()[:-40])
    found, out = label(tmp_path, folder, detector=write_detector(tmp_path / "d.onnx"))
    content = json.loads(out.read_text())
    assert (found.pictures, len(content["images"]), len(found.unreadable)) == (3, 3, 1)
    assert second.name not in {image["file_name"] for image in content["images"]}
