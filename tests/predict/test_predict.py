import numpy as np
import pytest

import posestill
from posestill.evaluation.evaluate import EvaluateConfig, predict_poses
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
    assert posestill.load(tmp_path).skeleton == DOTS
    assert set(posestill.__all__) == {"Predictor", "load"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = posestill.nothing
