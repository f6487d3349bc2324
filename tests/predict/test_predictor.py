import subprocess
import sys

import numpy as np
import pytest

import posestill
from posestill.data.topdown import warp
from posestill.draw import write_image
from posestill.evaluation.evaluate import EvaluateConfig, predict_poses
from posestill.models.pose_model import PoseModel
from posestill.predict.predictor import Predictor, as_boxes
from posestill.schema import UserError
from tests.conftest import DOTS, DotSource, small_model


def test_a_predictor_gives_what_evaluation_gave():
    source, model = DotSource(5), small_model().eval()
    predictor = posestill.Predictor(model, flip_test=True)
    expected = predict_poses(model, source, np.arange(5), EvaluateConfig()).keypoints
    for index, person in enumerate(source.people):
        found = predictor(source.image(person.image_id), boxes=[person.bbox])
        np.testing.assert_allclose(found[0], expected[index], atol=1e-3)


def test_without_boxes_the_whole_image_is_one_person_and_no_boxes_give_no_poses():
    predictor = posestill.Predictor(small_model())
    image = np.zeros((50, 40, 3), dtype=np.uint8)
    assert predictor(image).shape == (1, 4, 3)
    assert predictor(image, boxes=np.zeros((0, 4))).shape == (0, 4, 3)
    assert predictor.skeleton == DOTS


def test_what_is_no_image_is_refused():
    with pytest.raises(UserError, match="uint8 RGB image is wanted"):
        posestill.Predictor(small_model())(np.zeros((5, 5)))


def test_the_public_names_are_lazy_and_complete(tmp_path):
    small_model().save(tmp_path)
    model = posestill.load(tmp_path)
    assert isinstance(model, posestill.Predictor)
    assert model.skeleton == DOTS
    assert set(posestill.__all__) == {"Predictor", "load"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = posestill.nothing


def test_a_loaded_model_predicts_what_its_network_says(tmp_path):
    small_model().save(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)
    poses = posestill.load(tmp_path).predict(image, boxes=[[4, 6, 18, 24]])
    assert (poses.shape, poses.dtype) == ((1, 4, 3), np.float64)
    np.testing.assert_array_equal(poses, posestill.Predictor(PoseModel.load(tmp_path))(image, boxes=[[4, 6, 18, 24]]))
    mirrored = posestill.load(tmp_path, flip_test=True).predict(image, boxes=[[4, 6, 18, 24]])
    assert not np.array_equal(mirrored, poses)


def test_a_predictor_reads_an_image_file_by_its_name(tmp_path):
    grey = np.full((40, 30, 3), 90, dtype=np.uint8)
    write_image(tmp_path / "a.png", grey)
    predictor = Predictor(small_model())
    np.testing.assert_array_equal(predictor(str(tmp_path / "a.png")), predictor(grey))
    np.testing.assert_array_equal(predictor(tmp_path / "a.png", [[0, 0, 9, 9]]), predictor(grey, [[0, 0, 9, 9]]))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3, 4, 0.9]], r"^boxes: row 1 has 5 numbers: four are wanted, x y w h$"),
        ([[1, 2, 3, 4], [1, 2, 3]], r"^boxes: row 2 is \[1, 2, 3\]: four numbers are wanted, x y w h$"),
        ([1, 2, 3, 4, 5], r"^boxes: 5 numbers are given"),
        ([["a", 2, 3, 4]], r"^boxes: row 1 is"),
        ([[1, 2, 3, 4], [1, 2, 3, float("nan")]], r"^box 2 \[1, 2, 3, nan\] has numbers that are not finite$"),
        ([[1, 2, -3, 4]], r"^box 1 \[1, 2, -3, 4\] has no extent"),
        ([[1, 2, 3, 4], [30, 0, 5, 5]], r"^box 2 \[30, 0, 5, 5\] lies outside of the picture \(30 x 40 px\)$"),
    ],
)
def test_a_box_that_is_none_is_refused_by_its_row(boxes, message):
    with pytest.raises(UserError, match=message):
        Predictor(small_model()).predict(np.zeros((40, 30, 3), dtype=np.uint8), boxes=boxes)


def test_boxes_are_rows_or_one_box_or_nothing():
    assert as_boxes([1, 2, 3, 4]).tolist() == [[1, 2, 3, 4]]
    assert as_boxes([]).shape == as_boxes(np.zeros((0, 4))).shape == (0, 4)
    assert as_boxes(((1, 2, 3, 4), (5, 6, 7, 8))).shape == (2, 4)


def test_a_picture_longer_than_a_warp_reads_is_predicted_as_its_part_is():
    image = np.random.default_rng(0).integers(0, 255, (60, 40000, 3), dtype=np.uint8)
    affine = np.array([[0.8, 0.0, -0.8 * 35000.0], [0.0, 0.8, 2.0]])
    expected = warp(image[:, 34000:36000], affine + [[0, 0, 0.8 * 34000], [0, 0, 0]], (32, 24))
    np.testing.assert_array_equal(warp(image, affine, (32, 24)), expected)
    assert Predictor(small_model()).predict(image).shape == (1, 4, 3)  # also where a crop shows all of it
    outside = np.array([[0.8, 0.0, 500.0], [0.0, 0.8, 2.0]])
    assert warp(image, outside, (32, 24)).max() == 0


def test_importing_posestill_imports_neither_torch_nor_opencv():
    program = "import sys, posestill; sys.exit(bool({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
