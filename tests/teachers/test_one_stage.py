import numpy as np
import pytest

from posestill.schema import UserError
from posestill.teachers.file import FileConfig, open_layout
from posestill.teachers.one_stage import FoundPeople, overlap, squares, suppressed
from posestill.teachers.runtime import open_network
from posestill.types import Coords, mean_prediction
from tests.teachers.networks import crops, says, torch_coords

MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
POINT = (40.0, 60.0)
"""px of the picture seen, from its edges"""
BOX = (20.0, 30.0, 60.0, 90.0)
"""x1 y1 x2 y2"""


def points(last):
    """(17, 3) every keypoint at POINT."""
    return np.tile([*POINT, last], (17, 1))


def multipose(seen=(256, 192), score=0.9):
    """(6, 56) with one person, as shares of the picture seen."""
    height, width = seen
    people = np.zeros((6, 56))
    people[2, :51] = np.tile([POINT[1] / height, POINT[0] / width, 0.7], 17)
    people[2, 51:] = [BOX[1] / height, BOX[0] / width, BOX[3] / height, BOX[2] / width, score]
    return {"people": people}


def rtmo():
    """Two boxes of one person, and a third that is not sure."""
    boxes = np.array([[*BOX, 0.6], [*BOX, 0.9], [100, 100, 120, 140, 0.1]])
    return {"dets": boxes, "keypoints": np.stack([points(0.2), points(0.7), points(0.9)])}


def yolo():
    """(56, M): the person twice, and noise that is not sure."""
    x1, y1, x2, y2 = BOX
    row = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    rows = [[*row, 0.6, *points(0.2).ravel()], [*row, 0.9, *points(0.7).ravel()], [1, 1, 2, 2, 0.01, *[0] * 51]]
    return {"output0": np.array([*rows, *[[0] * 56] * 97]).T}


def yolo_end_to_end():
    """(300, 57): corners, score, class, keypoints."""
    rows = np.zeros((300, 57))
    rows[0] = [*BOX, 0.9, 0, *points(0.7).ravel()]
    return {"output0": rows}


def rf_detr(side):
    """Shares, logits and eight numbers a keypoint."""
    x1, y1, x2, y2 = (each / side for each in BOX)
    logit = np.log(0.9 / 0.1)
    keypoints = np.zeros((3, 17, 8))
    keypoints[1, :, :3] = [POINT[0] / side, POINT[1] / side, np.log(0.7 / 0.3)]
    return {
        "dets": np.array([[0.9] * 4, [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], [0.1] * 4]),
        "labels": np.array([[-9.0, -9.0], [-9.0, logit], [-9.0, -9.0]]),
        "keypoints": keypoints,
    }


def opened(path, shape, answers, **settings):
    network = open_network(says(path / "n.onnx", shape, answers, **settings), also=("seen",))
    return network, open_layout(network)


def seen_by(network, layout, picture):
    return network({layout.port.name: layout.tensor(layout.shrink(picture).seen)})["seen"]


def test_multipose_is_given_whole_numbers_and_multiples_of_32(tmp_path):
    network, layout = opened(tmp_path, [1, "H", "W", 3], multipose(), dtype="int32")
    assert (layout.name, layout.size) == ("movenet-multipose", (256, 256))
    picture = crops(1, (300, 200))[0]
    seen = seen_by(network, layout, picture)
    assert seen.shape == (1, 256, 192, 3)  # 171 px wide, and black beyond
    assert (seen[0, :, 171:] == 0).all()
    assert seen[0, :, :171].mean() == pytest.approx(picture.mean(), abs=1)
    exact = crops(1, (256, 256))[0]
    np.testing.assert_array_equal(seen_by(network, layout, exact)[0], exact)


def test_rtmo_is_given_bgr_as_it_is_from_the_top_left(tmp_path):
    network, layout = opened(tmp_path, ["N", 3, 128, 128], rtmo())
    assert layout.name == "rtmo"
    picture = crops(1, (128, 100))[0]
    seen = seen_by(network, layout, picture)[0]
    np.testing.assert_array_equal(seen[:, :, :100], picture[..., ::-1].transpose(2, 0, 1))
    assert (seen[:, :, 100:] == 114).all()


@pytest.mark.parametrize("answers", [yolo, yolo_end_to_end])
def test_yolo_is_given_shares_of_rgb_in_the_middle_of_grey(answers, tmp_path):
    network, layout = opened(tmp_path, [1, 3, 128, 128], answers())
    assert layout.name == "yolo-pose"
    picture = crops(1, (128, 100))[0]
    seen = seen_by(network, layout, picture)[0]
    np.testing.assert_array_equal(seen[:, :, 14:114], picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert (seen[:, :, :14] == np.float32(114) / np.float32(255)).all()


def test_a_file_of_half_precision_is_given_half_precision(tmp_path):
    network, layout = opened(tmp_path, [1, 3, 128, 128], yolo(), dtype="float16")
    assert layout.tensor(crops(1, (128, 128))[0]).dtype == np.float16
    assert len(layout.people(network, crops(1, (128, 128))[0]).bbox) == 1


def test_rf_detr_is_given_the_stretched_picture_by_imagenets_moments(tmp_path):
    network, layout = opened(tmp_path, [1, 3, 96, 96], rf_detr(96))
    assert layout.name == "rf-detr"
    exact = crops(1, (96, 96))[0]
    np.testing.assert_array_equal(
        seen_by(network, layout, exact)[0], ((exact.astype(np.float32) - MEAN) / STD).transpose(2, 0, 1)
    )
    assert seen_by(network, layout, crops(1, (50, 200))[0]).shape == (1, 3, 96, 96)


CASES = [
    ("multipose", lambda seen: multipose(seen), [1, "H", "W", 3], {"dtype": "int32"}, 256),
    ("rtmo", lambda seen: rtmo(), ["N", 3, 256, 256], {}, 256),
    ("yolo", lambda seen: yolo(), [1, 3, 256, 256], {}, 256),
    ("yolo-end-to-end", lambda seen: yolo_end_to_end(), [1, 3, 256, 256], {}, 256),
    ("rf-detr", lambda seen: rf_detr(256), [1, 3, 256, 256], {}, 256),
]


@pytest.mark.parametrize(("name", "answers", "shape", "settings", "side"), CASES, ids=[each[0] for each in CASES])
@pytest.mark.parametrize("size", [(256, 256), (512, 384), (201, 333), (96, 127)])
def test_people_come_back_on_the_picture_at_their_place(name, answers, shape, settings, side, size, tmp_path):
    height, width = size
    factor = side / max(size)
    small = (round(height * factor), round(width * factor))
    seen = tuple(-(-each // 32) * 32 for each in small) if name == "multipose" else (side, side)
    network, layout = opened(tmp_path, shape, answers(seen), **settings)
    found = layout.people(network, np.zeros((*size, 3), dtype=np.uint8))
    scale = np.array([width / small[1], height / small[0]])
    left_top = (np.array([side, side]) - small[::-1]) // 2 if name.startswith("yolo") else np.zeros(2)
    if name == "rf-detr":
        scale = np.array([width, height]) / side
    corners = (np.array(BOX).reshape(2, 2) - left_top) * scale
    low, high = corners[0].clip(0), np.minimum(corners[1], [width, height])
    assert isinstance(found, FoundPeople)
    np.testing.assert_allclose(found.bbox, [[*low, *(high - low)]], atol=1e-3)
    np.testing.assert_allclose(found.score, [0.9], atol=1e-6)
    # From edges to px centres: half a px less.
    np.testing.assert_allclose(found.keypoints[0, 5], [*((np.array(POINT) - left_top) * scale - 0.5), 0.7], atol=1e-3)


@pytest.mark.parametrize("fixed", [(96, 160), (160, 96)])
def test_a_file_of_a_fixed_size_that_is_no_square_is_filled_up_to_it(fixed, tmp_path):
    network, layout = opened(tmp_path, [1, 3, *fixed], yolo())
    assert layout.size == fixed
    assert layout.shrink(np.zeros((200, 200, 3), dtype=np.uint8)).seen.shape == (*fixed, 3)
    assert layout.look(network, crops(2, fixed))["pose"].shape == (2, 17, 3)


def test_a_file_of_a_fixed_batch_is_given_as_many_pictures(tmp_path):
    network, layout = opened(tmp_path, [4, 3, 128, 128], yolo())
    assert len(layout.people(network, crops(1, (128, 128))[0]).bbox) == 1


def test_of_a_crop_the_person_in_its_middle_is_meant_however_narrow(tmp_path):
    """A standing person's box is a fifth as wide as the crop; a neighbour is scored higher."""
    people = np.zeros((6, 56))
    people[0, :51] = np.tile([0.5, 0.9, 0.8], 17)
    people[0, 51:] = [0.1, 0.8, 0.9, 1.0, 0.99]  # at the right edge
    people[1, :51] = np.tile([0.3, 0.5, 0.6], 17)
    people[1, 51:] = [0.1, 0.42, 0.9, 0.58, 0.4]  # in the middle, 0.16 x 0.8
    network, layout = opened(tmp_path, [1, "H", "W", 3], {"people": people}, dtype="int32")
    pose = layout.look(network, crops(1, layout.size))["pose"]
    np.testing.assert_allclose(pose[0, 0], [127.5, 76.3, 0.6], atol=1e-3)


def test_a_crop_without_anybody_in_its_middle_scores_nothing(tmp_path):
    people = np.zeros((6, 56))
    people[0, 51:] = [0.0, 0.0, 0.2, 0.2, 0.9]  # far too small
    network, layout = opened(tmp_path, [1, "H", "W", 3], {"people": people}, dtype="int32")
    prediction = layout.prediction(layout.look(network, crops(2, layout.size)))
    assert (prediction.score == 0).all()


def test_a_view_in_which_nobody_was_found_says_no_place_in_the_flip_test():
    found, lost = torch_coords([[0.4, 0.6]], [0.8]), torch_coords([[0.0, 0.0]], [0.0])
    for one, other in ((found, lost), (lost, found)):
        mean = mean_prediction(one, other)
        assert isinstance(mean, Coords)
        np.testing.assert_allclose(mean.xy[0], [[0.4, 0.6]])
        np.testing.assert_allclose(mean.score[0], [0.4])
    np.testing.assert_allclose(mean_prediction(found, torch_coords([[0.6, 0.6]], [0.2])).xy[0], [[0.5, 0.6]])


def test_the_teacher_says_places_in_px_of_the_crop(tmp_path):
    person = multipose((256, 256))["people"][2]
    person[51:55] = [0.1, 0.1, 0.9, 0.9]
    network, layout = opened(tmp_path, [1, "H", "W", 3], {"people": np.tile(person, (6, 1))}, dtype="int32")
    found = layout.codec.decode(layout.prediction(layout.look(network, crops(1, (256, 256)))))
    np.testing.assert_allclose(found.xy[0, 0], [POINT[0] - 0.5, POINT[1] - 0.5], atol=1e-3)
    assert FileConfig(path=network.path).build().provides == {"prediction"}


@pytest.mark.parametrize(
    ("wanted", "shape", "answers", "dtype", "words"),
    [
        ("rtmo", [1, 3, 96, 96], yolo(), "float32", "rtmo reads the outputs `dets` and `keypoints`"),
        ("yolo-pose", [1, 96, 96, 3], yolo(), "float32", "yolo-pose gives one picture (nchw)"),
        ("yolo-pose", [1, 3, 96, 96], {"a": np.zeros((25200, 57))}, "float32", "at most 1,000 rows"),
        ("yolo-pose", [1, 3, 96, 96], yolo(), "uint8", "gives numbers between whole ones"),
        ("movenet-multipose", [1, 96, 96, 3], multipose(), "int8", "cannot hold px from 0 to 255"),
    ],
)
def test_a_file_of_another_form_is_refused(wanted, shape, answers, dtype, words, tmp_path):
    network = open_network(says(tmp_path / "n.onnx", shape, answers, dtype=dtype))
    with pytest.raises(UserError) as error:
        open_layout(network, wanted)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_other_keypoints_than_cocos_are_refused(tmp_path):
    answers = {"dets": np.array([[*BOX, 0.9]]), "keypoints": np.zeros((1, 14, 3))}
    network, layout = opened(tmp_path, [1, 3, 96, 96], answers)
    with pytest.raises(UserError, match=r"rtmo has 17 keypoints of three numbers, and the file's are \(14, 3\)"):
        layout.people(network, crops(1, (96, 96))[0])


def test_a_person_is_found_once():
    corners = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10.0]])
    assert suppressed(corners, np.array([0.5, 0.9, 0.1])).tolist() == [1, 2]
    assert suppressed(np.zeros((0, 4)), np.zeros(0)).tolist() == []


def test_overlap_and_squares_by_hand():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 2, 2], [9, 9, 1, 1.0]])
    np.testing.assert_allclose(overlap(boxes, np.array([0, 0, 2, 2.0])), [1, 1 / 7, 0])
    np.testing.assert_allclose(squares(np.array([[10, 0, 2, 8.0]])), [[7, 0, 8, 8]])
    assert squares(np.zeros((0, 4))).shape == (0, 4)
