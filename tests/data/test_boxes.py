import json
from pathlib import Path

import numpy as np
import pytest

from posestill.data.boxes import BoxFile, has_keypoints
from posestill.schema import UserError

COCO = {
    "images": [{"id": 7, "file_name": "b.png"}, {"id": 8, "file_name": "c.png"}],
    "categories": [{"id": 3, "keypoints": ["nose"]}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 20, 30]},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}


def written(tmp_path, content):
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path / "boxes.json"


def test_annotations_give_their_boxes_and_image_ids_without_crowds(tmp_path):
    file = BoxFile(written(tmp_path, COCO))
    b, c, other = file.match([Path("x/b.png"), Path("c.png"), Path("d.png")])
    assert (b.image_id, b.boxes.tolist(), b.score.tolist()) == (7, [[1, 2, 20, 30]], [1])
    assert (c.image_id, c.boxes.shape) == (8, (0, 4))
    assert other is None
    assert file.category_id == 3


def test_annotations_without_keypoints_give_the_boxes_of_persons(tmp_path):
    categories = [{"id": 1, "name": "dog"}, {"id": 3, "name": "person"}]
    other = {"id": 3, "image_id": 8, "category_id": 1, "bbox": [0, 0, 4, 4]}
    content = {**COCO, "categories": categories, "annotations": [*COCO["annotations"], other]}
    file = BoxFile(written(tmp_path, content))
    b, c = file.match([Path("b.png"), Path("c.png")])
    assert (b.image_id, b.boxes.tolist(), len(c.boxes)) == (7, [[1, 2, 20, 30]], 0)
    assert file.category_id == 3
    only = BoxFile(written(tmp_path, {**content, "categories": categories[:1]}))
    assert only.match([Path("c.png")])[0].boxes.tolist() == [[0, 0, 4, 4]]
    categories[1]["name"] = "cat"
    with pytest.raises(UserError, match=r"has boxes of dog, cat, and none of these is called person"):
        BoxFile(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (COCO, True),
        ({**COCO, "categories": [{"id": 3, "name": "person"}]}, False),
        ({**COCO, "categories": [{"id": 3, "name": "person", "keypoints": []}]}, False),
        ({"b.png": [[0, 0, 1, 1]]}, False),
        ([{"image_id": 7, "bbox": [0, 0, 1, 1]}], False),
    ],
)
def test_annotations_with_keypoints_are_told_from_mere_boxes(content, expected):
    assert has_keypoints(content) == expected


def test_detections_are_met_by_file_name_or_by_the_number_in_it_and_those_below_the_threshold_go(tmp_path):
    detections = [
        {"image_id": 139, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.9},
        {"image_id": 139, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.2},
        {"image_id": 139, "category_id": 2, "bbox": [2, 2, 5, 5], "score": 0.9},
        {"image_id": 4, "file_name": "own.jpg", "bbox": [3, 3, 5, 5], "score": 0.5},
    ]
    file = BoxFile(written(tmp_path, detections), threshold=0.3)
    found, own = file.match([Path("val2017/000000000139.jpg"), Path("own.jpg")])
    assert (found.image_id, found.boxes.tolist(), found.score.tolist()) == (139, [[0, 0, 5, 5]], [0.9])
    assert (own.image_id, own.boxes.tolist()) == (4, [[3, 3, 5, 5]])


def test_names_with_folders_tell_pictures_of_one_name_apart(tmp_path):
    file = BoxFile(written(tmp_path, {"one/a.jpg": [[0, 0, 1, 1]], "two/a.jpg": [[0, 0, 2, 2]]}))
    one, two = file.match([Path("p/one/a.jpg"), Path("p/two/a.jpg")])
    np.testing.assert_array_equal([*one.boxes, *two.boxes], [[0, 0, 1, 1], [0, 0, 2, 2]])


def test_a_name_that_may_mean_two_pictures_is_refused(tmp_path):
    file = BoxFile(written(tmp_path, {"a.jpg": [[0, 0, 1, 1]]}))
    with pytest.raises(UserError, match=r"two such pictures, one/a\.jpg and two/a\.jpg: write the names with their"):
        file.match([Path("one/a.jpg"), Path("two/a.jpg")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "is neither a COCO annotation file nor COCO detections nor"),
        ("text", "is neither"),
        ({"a.png": [[0, 0, float("inf"), 1]]}, "those of 'a.png', row 0: box is .* no place in a picture"),
        ({"a.png": [[0, 0, 1]]}, r"the boxes in .*boxes\.json: those of 'a.png', row 0 has a box of 3 numbers"),
        ({"b.png": [[0, 0, 1, 1], [0, 0, 1, 1, 0.9]] * 4}, "those of 'b.png', row 1 has a box of 5 numbers"),
        ([{"image_id": 1, "score": 1.0}], r"boxes\.json: entry 0 lacks a proper 'bbox': it is missing"),
    ],
)
def test_what_is_no_file_of_boxes_is_explained(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        BoxFile(written(tmp_path, content))


def test_a_file_that_names_no_picture_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"names none of the 2 images \(the first image: x\.png\)"):
        BoxFile(written(tmp_path, {"c.png": [[0, 0, 1, 1]]})).match([Path("x.png"), Path("y.png")])


def test_the_pictures_of_detections_that_only_name_them_have_numbers_of_their_own(tmp_path):
    rows = [
        {"file_name": name, "bbox": [0, 0, 9, 9], "score": 0.9, "category_id": 1}
        for name in ("a.jpg", "a.jpg", "b.jpg")
    ]
    first, second = BoxFile(written(tmp_path, rows)).match([Path("a.jpg"), Path("b.jpg")])
    assert (len(first.boxes), len(second.boxes)) == (2, 1)
    assert first.image_id != second.image_id


def test_a_picture_of_another_folder_is_not_the_one_that_is_named(tmp_path):
    file = BoxFile(
        written(tmp_path, {"one/1.jpg": [[0, 0, 9, 9]], "one/2.jpg": [[0, 0, 9, 9]], "two/2.jpg": [[5, 5, 9, 9]]})
    )
    found = file.match([Path("/data") / each for each in ("one/1.jpg", "one/2.jpg", "two/1.jpg", "two/2.jpg")])
    assert [each is None for each in found] == [False, False, True, False]
    (moved,) = file.match([Path("elsewhere/1.jpg")])  # none lies in the folders of its name
    assert moved is not None
