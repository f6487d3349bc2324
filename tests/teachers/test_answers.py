import numpy as np
import pytest

from posestill.data.images import ImagesConfig
from posestill.engine.choose import open_teacher
from posestill.schema import validate
from posestill.skeletons import COCO_17
from posestill.teachers.answers import Answers, ask_about, most_agreed, similarity
from posestill.teachers.base import ModelTeacher
from posestill.types import Person
from tests.conftest import DotSource, small_model
from tests.networks import spot, write_photos, write_teacher


def photos(folder, count=3, **settings):
    given = {"folder": write_photos(folder, count), "keypoints": COCO_17.names, **settings}
    return validate(ImagesConfig, given, where="data.train").build()


def person(area):
    return Person(id=1, image_id=1, bbox=np.array([0.0, 0, 9, 9]), keypoints=None, area=area)


def test_a_file_answers_in_image_px_about_every_person_once(tmp_path):
    teacher, source, done = open_teacher(str(write_teacher(tmp_path / "t.onnx"))), photos(tmp_path / "p"), []
    found = ask_about(teacher, source, batch_size=2, progress=done.append)
    assert done == [2, 1]
    middle = found.keypoints[..., :2].mean(axis=1)
    np.testing.assert_allclose(middle, [spot(number) for number in (1, 2, 3)], atol=2.0)
    assert found.keypoints[..., 2] == pytest.approx(0.9)


def test_answers_about_the_mirrored_crop_come_back_with_their_partners_exchanged(tmp_path):
    teacher = open_teacher(str(write_teacher(tmp_path / "t.onnx")))
    found = ask_about(teacher, photos(tmp_path / "p", 1))
    # The network's keypoints lie in one direction whatever it sees: mirrored, the nose lies on the other side.
    px = 60 * 1.25 / 32  # image px per px of the crop
    assert found.apart[0, 0] == pytest.approx(2 * 0.12 * 32 * px, abs=0.3)
    assert found.keypoints[0, 0, 0] == pytest.approx(spot(1)[0], abs=2.0)  # the mean of both
    large, small = (found.agreement([person(area)], skeleton=COCO_17, threshold=0.3) for area in (1e9, 10.0))
    assert small < min(large, 0.5)  # a person is never larger than the pose that the teacher sees
    assert np.isnan(found.agreement([person(10.0)], skeleton=COCO_17, threshold=0.95)).all()


def test_agreement_is_the_oks_of_the_two_answers_over_sure_keypoints_by_hand():
    """Two keypoints count, of which one is placed alike; the other lies a spread of its own apart: exp(-1/2)."""
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, [5, 6], 2] = 0.9
    keypoints[0, [5, 6], :2] = [[0, 0], [1e4, 1e4]]  # so far apart that the person's own area is the smaller one
    apart = np.full((1, 17), 1e6)  # of keypoints that are not sure
    apart[0, [5, 6]] = 0, np.sqrt(400.0) * 2 * COCO_17.oks_sigmas[6]
    found = Answers(keypoints, apart).agreement([person(400.0)], skeleton=COCO_17, threshold=0.3)
    assert found == pytest.approx([(1 + np.exp(-0.5)) / 2])


def test_those_who_agree_least_are_left_out_and_those_without_an_answer():
    agreement = np.array([0.9, np.nan, 0.2, 0.5, 0.1, 0.8])
    assert most_agreed(agreement, leave_out=0.4).tolist() == [True, False, False, True, False, True]
    assert most_agreed(agreement, leave_out=0.0).tolist() == [True, False, True, True, True, True]
    assert not most_agreed(np.full(3, np.nan), leave_out=0.5).any()


def test_a_model_of_ours_gives_what_evaluation_would(tmp_path):
    from posestill.evaluation.evaluate import EvaluateConfig, predict_poses

    source, model = DotSource(4), small_model()
    found = ask_about(ModelTeacher(model), source)
    expected = predict_poses(model.eval(), source, np.arange(4), EvaluateConfig(flip_test=True)).keypoints
    np.testing.assert_allclose(found.keypoints, expected, atol=1e-3)


def test_answers_are_named_as_the_student_names_them(tmp_path):
    teacher = open_teacher(str(write_teacher(tmp_path / "t.onnx")))
    teacher.names = {"neck": ("left_shoulder", "right_shoulder")}
    keypoints = np.arange(17 * 3, dtype=float).reshape(1, 17, 3)
    found = Answers(keypoints, np.arange(17.0)[None]).named(teacher, ["RAnkle", "neck", "tail"])
    left, right = COCO_17.names.index("left_shoulder"), COCO_17.names.index("right_shoulder")
    assert found.keypoints[0, 0].tolist() == keypoints[0, COCO_17.names.index("right_ankle")].tolist()
    assert found.keypoints[0, 1, :2].tolist() == ((keypoints[0, left] + keypoints[0, right]) / 2)[:2].tolist()
    assert found.keypoints[0, 1, 2] == min(keypoints[0, left, 2], keypoints[0, right, 2])
    assert found.keypoints[0, 2].tolist() == [0, 0, 0]
    assert found.apart[0, 1] == max(left, right)


def test_two_spreads_apart_is_six_tenths_alike():
    distance = 2 * 0.026 * 100.0  # of the nose, on a person of 100 x 100 px
    found = similarity(np.full(17, distance), area=100.0**2, skeleton=COCO_17)
    assert found[0] == pytest.approx(np.exp(-0.5))


def test_a_teacher_whose_partners_nobody_knows_is_asked_about_upright_crops_alone(tmp_path):
    teacher = open_teacher(str(write_teacher(tmp_path / "t.onnx")))
    known = ask_about(teacher, photos(tmp_path / "p", 1))
    teacher.skeleton = COCO_17.model_copy(update={"partners_known": False, "swap": tuple(range(17))})
    found = ask_about(teacher, photos(tmp_path / "p", 1))
    assert np.isnan(found.apart).all()
    assert np.isnan(found.agreement([person(100.0)], skeleton=COCO_17, threshold=0.3)).all()
    # The network's keypoints lie in one direction whatever it sees, from which the mean with the mirrored crop is off.
    assert abs(found.keypoints[0, 0, 0] - known.keypoints[0, 0, 0]) == pytest.approx(known.apart[0, 0] / 2, abs=0.3)
