import json

import cv2
import numpy as np
import pytest

from posestill.data.coco import CocoConfig, CocoSource
from posestill.schema import UserError


def write(tmp_path, *, annotations=None, categories=None, images=None):
    (tmp_path / "images").mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / "images" / "one.png"), np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    content = {
        "images": images or [{"id": 5, "file_name": "one.png", "width": 4, "height": 4}],
        "categories": categories or [{"id": 1, "name": "p", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}],
        "annotations": annotations
        or [{"id": 9, "image_id": 5, "category_id": 1, "bbox": [0, 0, 2, 4], "keypoints": [1, 2, 2, 0, 0, 0]}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_becomes_people_and_rgb_images(tmp_path):
    source = CocoSource(write(tmp_path), images=tmp_path / "images")
    (person,) = source.people
    assert (person.id, person.image_id, person.crowd) == (9, 5, False)
    assert person.keypoints.tolist() == [[1, 2, 2], [0, 0, 0]]
    assert person.area == pytest.approx(0.53 * 8)  # none in the file
    assert source.image(5)[0, 0].tolist() == [2, 1, 0]  # OpenCV wrote blue first
    assert source.skeleton.names == ("a", "b")


@pytest.mark.parametrize("keypoints", [None, [1, 2, 0, 3, 4, 0]])
def test_a_person_without_labels_is_legal(tmp_path, keypoints):
    entry = {"id": 1, "image_id": 5, "bbox": [0, 0, 2, 2], **({} if keypoints is None else {"keypoints": keypoints})}
    assert CocoSource(write(tmp_path, annotations=[entry]), images=None).people[0].keypoints is None


def test_annotations_of_other_categories_are_left_out(tmp_path):
    categories = [{"id": 1, "name": "p", "keypoints": ["a", "b"]}, {"id": 2, "name": "car"}]
    entries = [
        {"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 2, 2]},
        {"id": 2, "image_id": 5, "category_id": 2, "bbox": [0, 0, 2, 2]},
    ]
    assert len(CocoSource(write(tmp_path, annotations=entries, categories=categories), images=None).people) == 1


def test_the_real_sample_opens_with_its_crowds_and_unlabelled_people(coco_sample):
    source = CocoConfig(annotations=coco_sample / "annotations" / "all.json", images=coco_sample / "images").build()
    assert len(source.people) == 66
    assert sum(person.keypoints is not None for person in source.people) == 36
    assert source.image(source.people[0].image_id).shape[2] == 3


def test_the_usual_tree_is_accepted_as_it_is(tmp_path):
    (tmp_path / "annotations").mkdir()
    path = write(tmp_path)
    path.rename(tmp_path / "annotations" / "person_keypoints_val2017.json")
    (tmp_path / "images").rename(tmp_path / "val2017")
    source = CocoConfig(root=tmp_path, split="val2017").build()
    assert source.image(5).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"id": 1, "image_id": 5}]}, "annotation 1 lacks a proper 'bbox'"),
        ({"annotations": [{"id": 1, "image_id": 5, "bbox": [1, 2]}]}, "bbox of 2 numbers"),
        (
            {"annotations": [{"id": 1, "image_id": 5, "bbox": [0, 0, 1, 1], "keypoints": [1, 2, 2]}]},
            "3 keypoint numbers",
        ),
        ({"annotations": [{"id": 1, "image_id": 6, "bbox": [0, 0, 1, 1]}]}, r"1 image_ids .*\(such as 6\)"),
        ({"categories": [{"id": 1, "name": "car"}]}, "found 0 .*car"),
        ({"images": [{"id": 5, "file_name": "gone.png"}]}, r"names gone\.png, which .* does not hold"),
    ],
)
def test_a_broken_file_is_answered_with_what_is_wrong(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        CocoSource(write(tmp_path, **change), images=tmp_path / "images")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no annotation file .*x\.json"):
        CocoSource(tmp_path / "x.json", images=None)
    with pytest.raises(UserError, match="is a folder"):
        CocoSource(tmp_path, images=None)
    with pytest.raises(UserError, match="no folder of images .*nowhere"):
        CocoSource(write(tmp_path), images=tmp_path / "nowhere")
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"cut\.json is not valid JSON"):
        CocoSource(tmp_path / "cut.json", images=None)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="is not a COCO file"):
        CocoSource(tmp_path / "list.json", images=None)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    path = write(tmp_path)
    (tmp_path / "images" / "one.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"one\.png cannot be decoded"):
        CocoSource(path, images=tmp_path / "images").image(5)


def test_both_ways_to_name_the_files_at_once_are_refused(tmp_path):
    with pytest.raises(ValueError, match="either root and split, or annotations and images"):
        CocoConfig(root=tmp_path, split="a", annotations=tmp_path)
    with pytest.raises(ValueError, match="either root and split"):
        CocoConfig(root=tmp_path)
