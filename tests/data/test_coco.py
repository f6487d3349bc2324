import json

import cv2
import numpy as np
import pytest

from posestill.data.coco import CocoConfig, CocoSource, coco_lists
from posestill.schema import UserError
from posestill.skeletons import COCO_17, COCO_WHOLEBODY


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


COUNTS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}


def wholebody_entry(**changes):
    """Keypoint k, counted through all lists, lies at (k, 2 k) and is visible; a change to None leaves a list out."""
    numbers = np.stack([np.arange(133.0), 2 * np.arange(133.0), np.full(133, 2.0)], axis=-1)
    ends = np.cumsum(list(COUNTS.values()))
    lists = {name: numbers[end - COUNTS[name] : end].ravel().tolist() for name, end in zip(COUNTS, ends, strict=True)}
    entry = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 132, 264], "area": 900.0, **lists, **changes}
    return {key: value for key, value in entry.items() if value is not None}


def write_wholebody(tmp_path, *entries):
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.names)}]
    return write(tmp_path, annotations=[{**entry, "id": 1 + index} for index, entry in enumerate(entries)],
                 categories=categories)  # fmt: skip


def test_the_five_lists_of_a_wholebody_file_become_133_keypoints(tmp_path):
    source = CocoSource(write_wholebody(tmp_path, wholebody_entry()), images=None, wholebody=True)
    assert source.skeleton == COCO_WHOLEBODY
    (person,) = source.people
    assert person.keypoints.tolist() == [[k, 2 * k, 2] for k in range(133)]
    assert person.area == 900


def test_the_same_file_read_as_coco_body_has_its_17_keypoints(tmp_path):
    (person,) = CocoSource(write_wholebody(tmp_path, wholebody_entry()), images=None).people
    assert person.keypoints.shape == (17, 3)


def test_one_list_of_133_keypoints_is_read_too(tmp_path):
    entry = {"id": 1, "image_id": 5, "bbox": [0, 0, 1, 1], "keypoints": [1, 2, 2] * 133}
    (person,) = CocoSource(write_wholebody(tmp_path, entry), images=None, wholebody=True).people
    assert person.keypoints.shape == (133, 3)


def test_wholebody_people_without_labels_are_legal(tmp_path):
    zeros = {name: [0] * 3 * count for name, count in COUNTS.items()}
    bare = {"image_id": 5, "bbox": [0, 0, 1, 1]}
    only_a_hand = {**zeros, "lefthand_kpts": [3, 4, 1] * 21}
    path = write_wholebody(tmp_path, wholebody_entry(**zeros), bare, wholebody_entry(**only_a_hand))
    none, neither, hand = CocoSource(path, images=None, wholebody=True).people
    assert none.keypoints is None
    assert neither.keypoints is None
    assert np.flatnonzero(hand.keypoints[:, 2]).tolist() == list(range(91, 112))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_kpts": None}, "annotation 1 lacks face_kpts: COCO-WholeBody's lists are keypoints, foot_kpts, "),
        ({"keypoints": None}, "annotation 1 lacks keypoints"),
        ({"foot_kpts": [0] * 15}, "annotation 1 has 15 numbers in foot_kpts; its 6 keypoints make 18"),
        ({"keypoints": [0] * 399}, "annotation 1 has 399 numbers in keypoints; its 17 keypoints make 51"),
    ],
)
def test_a_broken_wholebody_file_is_answered_with_what_is_wrong(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        CocoSource(write_wholebody(tmp_path, wholebody_entry(**change)), images=None, wholebody=True)


@pytest.mark.parametrize(("split", "name"), [("val2017", "val"), ("train2017", "train")])
def test_the_usual_wholebody_tree_is_accepted_as_it_is(tmp_path, split, name):
    (tmp_path / "annotations").mkdir()
    path = write_wholebody(tmp_path, wholebody_entry())
    path.rename(tmp_path / "annotations" / f"coco_wholebody_{name}_v1.0.json")
    (tmp_path / "images").rename(tmp_path / split)
    source = CocoConfig(root=tmp_path, split=split, wholebody=True).build()
    assert source.image(5).shape == (4, 4, 3)
    assert source.people[0].keypoints.shape == (133, 3)


def test_wholebody_settings_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train and val splits, no 'test2017'"):
        CocoConfig(root=tmp_path, split="test2017", wholebody=True)
    with pytest.raises(ValueError, match="brings its own skeleton"):
        CocoConfig(root=tmp_path, split="val2017", wholebody=True, metainfo=tmp_path / "m.json")


def test_keypoints_are_written_in_the_lists_that_they_were_read_from():
    entry = wholebody_entry()
    keypoints = np.concatenate([np.reshape(entry[name], (-1, 3)) for name in COUNTS])
    assert coco_lists(keypoints, COCO_WHOLEBODY) == {name: entry[name] for name in COUNTS}
    assert coco_lists(keypoints[:17], COCO_17) == {"keypoints": entry["keypoints"]}
