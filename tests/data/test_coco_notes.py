import json

import cv2
import numpy as np
import pytest

from posestill.data.coco import CocoSource
from posestill.data.source import count_people
from posestill.schema import UserError


def source(tmp_path, *, boxes=None, keypoints=None, sizes=(100, 80), pictures=False):
    """Three persons in a picture each, 80 wide and 100 high."""
    boxes = boxes or [[10, 20, 30, 40]] * 3
    keypoints = keypoints or [[12, 22, 2, 30, 50, 2]] * 3
    content = {
        "images": [{"id": at, "file_name": f"{at}.png", "height": sizes[0], "width": sizes[1]} for at in range(3)],
        "categories": [{"id": 1, "name": "p", "keypoints": ["a", "b"]}],
        "annotations": [
            {"id": at, "image_id": at, "category_id": 1, "bbox": box, "area": 500, "keypoints": points}
            for at, (box, points) in enumerate(zip(boxes, keypoints, strict=True))
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    for at in range(3 if pictures else 0):
        cv2.imwrite(str(tmp_path / f"{at}.png"), np.zeros((100, 80, 3), dtype=np.uint8))
    return CocoSource(tmp_path / "a.json", images=tmp_path if pictures else None)


def test_nothing_is_said_of_sound_labels(tmp_path):
    assert source(tmp_path, pictures=True).notes == ()


@pytest.mark.parametrize("box", [[float("nan")] * 4, [None] * 4, [10, 10, 0, 0], [50, 50, -20, -10], [1, 2, 3, 0]])
def test_a_person_without_a_usable_box_is_left_out_and_counted(tmp_path, box):
    found = source(tmp_path, boxes=[[10, 20, 30, 40], box, [10, 20, 30, 40]])
    assert vars(count_people(found.people)) == {"labelled": 2, "unlabelled": 0, "crowds": 0, "without_bbox": 1}
    (note,) = found.notes
    assert note.startswith("a.json: 1 of 3 persons are left out for their bbox, annotation 1 with")


def test_boxes_that_are_two_corners_are_told(tmp_path):
    found = source(tmp_path, boxes=[[40, 50, 70, 90], [30, 60, 78, 99], [5, 5, 60, 70]])
    assert "The 3 bboxes look like x1 y1 x2 y2" in found.notes[0]
    assert source(tmp_path, boxes=[[40, 50, 38, 49], [30, 60, 48, 39], [5, 5, 60, 70]]).notes == ()


def test_boxes_far_from_their_images_are_counted(tmp_path):
    found = source(tmp_path, boxes=[[10, 20, 30, 40], [500, 20, 30, 40], [-90, 20, 30, 40]])
    assert (
        "2 of 3 bboxes lie mostly outside their images, annotation 1 with [500.0, 20.0, 30.0, 40.0]" in found.notes[0]
    )


def test_shares_in_the_place_of_px_are_refused(tmp_path):
    with pytest.raises(UserError, match="all keypoints lie within 0..1"):
        source(tmp_path, keypoints=[[0.1, 0.2, 2, 0.3, 0.9, 1]] * 3)
    with pytest.raises(UserError, match="all bboxes lie within 0..1"):
        source(tmp_path, boxes=[[0.1, 0.2, 0.5, 0.6]] * 3)


def test_labels_of_pictures_that_are_turned_or_of_another_size_are_told(tmp_path):
    turned = source(tmp_path, sizes=(80, 100), pictures=True)
    assert "3 of 3 pictures are turned by their files (EXIF)" in turned.notes[0]
    assert "0.png is 80 x 100, the annotations say 100 x 80" in turned.notes[0]
    assert "have another size" in source(tmp_path, sizes=(200, 160), pictures=True).notes[0]


def test_labels_mostly_outside_their_images_are_told(tmp_path):
    found = source(tmp_path, keypoints=[[200, 22, 2, 30, 50, 2]] * 3)
    assert "3 of 6 labelled keypoints lie outside their images" in found.notes[0]


def test_other_visibilities_are_told(tmp_path):
    found = source(tmp_path, keypoints=[[12, 22, 0.7, 30, 50, 2]] * 3)
    assert "3 keypoints have a visibility other than 0, 1 and 2" in found.notes[0]
    assert found.people[0].keypoints[0].tolist() == [12, 22, 0.7]
