from copy import deepcopy

from posestill.doctor.examine import describe, examine, open_dataset
from posestill.doctor.whole import count_in_words
from tests.doctor.planted import rewrite, serious


def kinds(root):
    return {each.kind for each in serious(examine(open_dataset(root)))}


def test_coordinates_that_are_shares_are_found(tiny_coco, tmp_path):
    def divide(content):
        for entry in content["annotations"]:
            entry["bbox"] = [value / 1000 for value in entry["bbox"]]
            entry["keypoints"] = [value if at % 3 == 2 else value / 1000 for at, value in enumerate(entry["keypoints"])]

    root = rewrite(divide, tiny_coco, tmp_path / "shares")
    (found,) = (each for each in examine(open_dataset(root)) if each.kind == "shares")
    assert found.where == ("all keypoints", "all bboxes")


def test_boxes_that_are_corners_are_found(tiny_coco, tmp_path):
    def as_corners(content):
        sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
        for entry in content["annotations"]:
            width, height = sizes[entry["image_id"]]
            entry["bbox"], entry["area"] = [0.5 * width, 0.5 * height, 0.9 * width, 0.9 * height], 900

    assert "corners" in kinds(rewrite(as_corners, tiny_coco, tmp_path / "corners"))


def test_categories_with_the_same_keypoints_are_read_as_one_and_noted(tiny_coco, tmp_path):
    def split(content):
        content["categories"].append({**deepcopy(content["categories"][0]), "id": 2, "name": "dog"})
        for entry in content["annotations"][::2]:
            entry["category_id"] = 2

    root = rewrite(split, tiny_coco, tmp_path / "two")
    assert kinds(root) == set()
    assert "several-categories" in {each.kind for each in examine(open_dataset(root))}


def test_persons_are_counted_by_their_labels(tiny_coco):
    entries = [{"keypoints": [1, 2, 2]}, {"keypoints": [0, 0, 0]}, {}, {"keypoints": [1, 1, 1], "iscrowd": 1}]
    assert count_in_words(entries) == "1 with labels, 2 without, 1 crowds"
    assert "32 annotations (25 with labels, 6 without, 1 crowds)" in describe(open_dataset(tiny_coco), [])
