from copy import deepcopy

import pytest

from posestill.doctor.examine import describe, examine, open_dataset
from posestill.doctor.whole import count_in_words
from tests.doctor.planted import as_corners, rewrite, serious


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


@pytest.mark.parametrize("keypoints", ["left out", None, []])
def test_people_without_keypoints_are_no_fault(tiny_coco, tmp_path, keypoints):
    def hide(content):
        for entry in content["annotations"][::2]:
            entry.update(keypoints=keypoints, num_keypoints=0)
            if keypoints == "left out":
                del entry["keypoints"]

    assert kinds(rewrite(hide, tiny_coco, tmp_path / "fewer")) == set()


def test_spreads_that_the_category_brings_are_not_proposed(tiny_coco, tmp_path):
    def rename(content):
        category = content["categories"][0]
        category["keypoints"] = [f"{name}_of_mine" for name in category["keypoints"]]

    def rename_with_spreads(content):
        rename(content)
        content["categories"][0]["sigmas"] = [0.05] * 17

    for change, proposed in ((rename, True), (rename_with_spreads, False)):
        found = examine(open_dataset(rewrite(change, tiny_coco, tmp_path / change.__name__)))
        assert ("no-sigmas" in {each.kind for each in found}) == proposed
