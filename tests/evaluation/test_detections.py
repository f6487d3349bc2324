import json

import pytest

from posestill.evaluation.detections import DetectedPeople
from posestill.schema import UserError
from tests.conftest import DotSource


def write(tmp_path, *boxes, score=0.5):
    path = tmp_path / "d.json"
    path.write_text(json.dumps([{"image_id": 2, "bbox": list(box), "score": score} for box in boxes]))
    return path


def test_boxes_on_images_without_people_stay_as_they_cost_precision(tmp_path):
    source = DotSource(3)
    source.people = source.people[:1]  # image 2 shows nobody any more
    source.__class__ = type("WithImages", (DotSource,), {"image_ids": range(1, 4)})
    found = DetectedPeople(source, write(tmp_path, (1, 2, 3, 4)))
    assert [person.image_id for person in found.people] == [2]
    assert list(found.image_ids) == [1, 2, 3]


@pytest.mark.parametrize("box", [(1, 2, float("inf"), 4), (float("nan"), 2, 3, 4), (1e300, 2, 3, 4)])
def test_a_box_of_no_sensible_number_is_refused(tmp_path, box):
    with pytest.raises(UserError, match="entry 0: bbox is .*(which is no place in a picture|four numbers, x y w h)"):
        DetectedPeople(DotSource(3), write(tmp_path, box))


def test_boxes_without_width_and_scores_below_the_threshold_are_left_out(tmp_path):
    path = write(tmp_path, (1, 2, 0, 4), (1, 2, 3, 4))
    assert len(DetectedPeople(DotSource(3), path).people) == 1
    with pytest.raises(UserError, match="has no box"):
        DetectedPeople(DotSource(3), path, threshold=0.6)
