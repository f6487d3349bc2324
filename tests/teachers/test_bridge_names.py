"""Keypoints of a student and of a published network meet by name, in whatever style; two of them may have a middle."""

import numpy as np
import pytest
import torch

from posestill.data.topdown import TopDownDataset
from posestill.schema import UserError
from posestill.skeletons import from_category
from posestill.teachers.bridge import Bridge, worth_knowing
from posestill.teachers.file import FileConfig
from posestill.types import PoseBatch
from tests.conftest import DotSource, small_model
from tests.teachers.networks import says

PLACES = np.stack([np.arange(17) / 64, np.arange(17) / 32, 0.5 + np.arange(17) / 64], axis=-1)
"""y, x as shares of the crop, score"""


@pytest.fixture
def movenet(tmp_path):
    return says(tmp_path / "movenet.onnx", ["N", 32, 32, 3], {"keypoints": PLACES[None]}, dtype="uint8")


def student(*names):
    skeleton = from_category({"name": "own", "keypoints": names}, {"flip_pairs": []})
    return small_model("coords", size=[32, 32], skeleton=skeleton)


def bridge(path, names, *keypoints) -> Bridge:
    return Bridge(FileConfig(path=path, names=names).build(), student(*keypoints))


def said(made: Bridge) -> np.ndarray:
    """(K, 3) of one crop."""
    batch: PoseBatch = TopDownDataset(DotSource(1), size=(32, 32)).__getitems__([(0, 0)])
    taught = made.keypoints(made.teacher(batch), batch)
    return torch.cat([taught.xy[0], taught.score[0, :, None]], dim=-1).numpy()


def place(*indices) -> np.ndarray:
    y, x, score = PLACES[list(indices)].T
    return np.array([(32 * x - 0.5).mean(), (32 * y - 0.5).mean(), score.min()])


@pytest.mark.parametrize(
    "names",
    [
        ("nose", "left_ankle", "right_wrist"),
        ("Nose", "LAnkle", "RWrist"),
        ("nose", "l_ankle", "r_wrist"),
        ("NOSE", "ankle.l", "wrist.r"),
        ("nose", "lankle", "rwrist"),
        ("Nose", "LeftAnkle", "Right Wrist"),
    ],
)
def test_names_meet_in_whatever_style(movenet, names):
    made = bridge(movenet, {}, *names)
    assert made.source.tolist() == [0, 15, 10]
    assert made.without == ()
    np.testing.assert_allclose(said(made), [place(0), place(15), place(10)], atol=1e-5)


def test_a_keypoint_may_be_the_middle_of_two_and_is_as_sure_as_the_less_sure_one(movenet):
    made = bridge(movenet, {"neck": ("left_shoulder", "right_shoulder"), "top": "nose"}, "top", "neck", "left_hip")
    np.testing.assert_allclose(said(made), [place(0), place(5, 6), place(11)], atol=1e-5)


def test_what_the_teacher_does_not_know_is_said_and_has_no_score(movenet):
    made = bridge(movenet, {}, "head_top", "left_knee", "tail")
    assert made.without == ("head_top", "tail")
    found = said(made)
    assert found[:, 2].tolist() == [0, pytest.approx(PLACES[13, 2]), 0]
    teacher = FileConfig(path=movenet, licence="CC-BY-NC-4.0").build()
    told = worth_knowing(teacher, student("head_top", "left_knee", "tail"))
    assert "head_top, tail" in told[0]
    assert "CC-BY-NC-4.0" in told[1]


@pytest.mark.parametrize(
    ("names", "keypoints", "words"),
    [
        ({}, ("tip", "tail"), "none of the student's keypoints (tip, tail, ...) is among the teacher's (nose,"),
        ({"tipp": "nose"}, ("tip",), "teacher.names: the student has no keypoint 'tipp'; did you mean 'tip'?"),
        ({"tip": "noze"}, ("tip",), "teacher.names.tip: the teacher has no keypoint 'noze'; did you mean 'nose'?"),
        ({"tip": ("nose", "left_eyes")}, ("tip",), "the teacher has no keypoint 'left_eyes'; did you mean 'left_eye'?"),
    ],
)
def test_names_that_meet_nothing_are_refused(movenet, names, keypoints, words):
    with pytest.raises(UserError) as error:
        bridge(movenet, names, *keypoints)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
