from pathlib import Path

import cv2
import numpy as np
import pytest

from posestill.schema import UserError
from posestill.teachers.blazepose import BlazePose
from posestill.teachers.file import FileConfig, open_layout
from posestill.teachers.keypoint_sets import BLAZEPOSE_NAMES
from posestill.teachers.runtime import Port, RuntimeNetwork, open_network
from tests.teachers.networks import crops, says

SIDE = 256
HIPS, UP, NOSE = 33, 34, 0
COLOURS = {HIPS: (255, 0, 0), UP: (0, 255, 0), NOSE: (0, 0, 255)}


class SeesColours(RuntimeNetwork):
    """Finds three coloured discs as a BlazePose finds hips, the point above them, and the nose."""

    path = Path("colours.tflite")
    inputs = (Port("input_1", (1, SIDE, SIDE, 3), np.dtype(np.float32)),)
    outputs = (Port("Identity", (1, 195), np.dtype(np.float32)),)

    def __init__(self):
        self.shown = []

    def __call__(self, tensors):
        (picture,) = tensors["input_1"]
        self.shown.append(picture)
        numbers = np.zeros((39, 5), dtype=np.float32)
        numbers[:, 3:] = [2.0, 1.0]  # visibility, presence: the lower counts
        rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5  # places from the edges
        for point, colour in COLOURS.items():
            weight = (picture * (np.array(colour) > 0)).sum(-1) - (picture * (np.array(colour) == 0)).sum(-1)
            weight = weight.clip(0)
            if weight.sum() > 1:
                numbers[point, :2] = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
        return {"Identity": numbers.reshape(1, 195)}


def person(angle, size, reach=60.0):
    """A crop with the discs of a person who leans by `angle` degrees, clockwise as seen; and their places (x, y)."""
    turn = np.deg2rad(angle)
    up = np.array([np.sin(turn), -np.cos(turn)])
    hips = np.array([size / 2 + 7.25, size / 2 - 3.5])
    places = {HIPS: hips, UP: hips + reach * up, NOSE: hips + 0.7 * reach * up + 12 * np.array([-up[1], up[0]])}
    picture = np.zeros((size, size, 3), dtype=np.uint8)
    for point, place in places.items():
        centre = tuple(np.round(place * 16).astype(int).tolist())
        cv2.circle(picture, centre, 6 * 16, COLOURS[point], -1, cv2.LINE_AA, shift=4)
    return picture, places


def found(layout, network, picture):
    """(33, 3) in px of the crop."""
    read = layout.codec.decode(layout.prediction(layout.look(network, picture[None])))
    return np.concatenate([read.xy[0].numpy(), read.score[0, :, None].numpy()], axis=-1)


@pytest.mark.parametrize("angle", [0, 30, 90, 135, 180, 270])
def test_a_person_is_turned_upright_and_brought_back(angle):
    network = SeesColours()
    layout = BlazePose(network)
    assert (layout.size, layout.padding) == ((384, 384), 1.875)
    picture, places = person(angle, 384)
    pose = found(layout, network, picture)
    np.testing.assert_allclose(pose[NOSE, :2], places[NOSE], atol=0.2)
    assert pose[NOSE, 2] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)
    first, second = network.shown
    np.testing.assert_array_equal(first, picture[64:320, 64:320].astype(np.float32) / np.float32(255))
    numbers = network({"input_1": second[None]})["Identity"].reshape(39, 5)
    np.testing.assert_allclose(numbers[HIPS, :2], [128, 128], atol=0.3)  # the hips in the middle
    np.testing.assert_allclose(numbers[UP, :2], [128, 128 - SIDE / 2.5], atol=0.6)  # and the other straight above


def test_the_upright_layout_looks_once_at_the_crop_as_it_is():
    network = SeesColours()
    layout = BlazePose(network, turns=False)
    assert (layout.size, layout.padding) == ((256, 256), 1.25)
    picture, places = person(90, 256)
    np.testing.assert_allclose(found(layout, network, picture)[NOSE, :2], places[NOSE], atol=0.2)
    assert len(network.shown) == 1
    np.testing.assert_array_equal(network.shown[0], picture.astype(np.float32) / np.float32(255))


def test_where_nobody_is_found_the_first_look_counts():
    network = SeesColours()
    pose = found(BlazePose(network), network, np.zeros((384, 384, 3), dtype=np.uint8))
    assert len(network.shown) == 1
    assert np.isfinite(pose).all()


def test_the_names_are_the_33_of_the_network():
    assert len(BLAZEPOSE_NAMES) == 33
    assert BLAZEPOSE_NAMES[0] == "nose"
    assert BLAZEPOSE_NAMES[11:13] == ("left_shoulder", "right_shoulder")
    assert BLAZEPOSE_NAMES[23:33:2] == ("left_hip", "left_knee", "left_ankle", "left_heel", "left_foot_index")
    skeleton = BlazePose(SeesColours()).skeleton
    assert [skeleton.names[at] for at in skeleton.swap[:4]] == [
        "nose", "right_eye_inner", "right_eye", "right_eye_outer",
    ]  # fmt: skip


def test_a_file_is_read_alike_whatever_the_order_of_its_outputs(tmp_path):
    numbers = np.zeros((39, 5))
    numbers[:, :2], numbers[:, 3:] = [64.5, 128.5], 20
    answers = {"flag": np.array([0.9]), "points": numbers.ravel(), "world": np.zeros(117)}
    network = open_network(says(tmp_path / "n.onnx", [1, 256, 256, 3], answers))
    layout = open_layout(network)
    assert layout.name == "blazepose"
    upright = open_layout(network, "blazepose-upright")
    np.testing.assert_allclose(found(upright, network, crops(1, (256, 256))[0])[3], [64, 128, 1], atol=1e-4)
    teacher = FileConfig(path=network.path).build()
    assert (teacher.input_size, teacher.padding) == ((384, 384), 1.875)


def test_a_file_of_another_form_is_refused(tmp_path):
    for shape, answers, dtype, words in (
        ([1, 3, 256, 256], {"p": np.zeros(195)}, "float32", "gives one picture (nhwc)"),
        ([1, 256, 256, 3], {"p": np.zeros(99)}, "float32", "reads an output of 195 numbers"),
        ([1, 256, 256, 3], {"p": np.zeros(195)}, "uint8", "gives numbers between whole ones"),
    ):
        network = open_network(says(tmp_path / "n.onnx", shape, answers, dtype=dtype))
        with pytest.raises(UserError) as error:
            open_layout(network, "blazepose")
        assert words in str(error.value)
