import json

import pytest

from posestill.data.coco import CocoSource
from posestill.doctor.examine import examine, open_dataset, repair
from posestill.schema import UserError
from tests.doctor.planted import FAULTS, TRAIN, as_corners, plant, rewrite, serious

ONLY_TOLD = {"keypoint-far", "sides-exchanged", "no-sides", "few-people"}


def approximately(content):
    """The same content with its lists of numbers compared to a hair's breadth."""
    entries = []
    for entry in content["annotations"]:
        numbers = {key: pytest.approx(entry[key], abs=1e-6) for key in ("bbox", "keypoints", "area") if key in entry}
        entries.append({**entry, **numbers})
    return {**content, "annotations": entries}


@pytest.mark.parametrize("name", FAULTS)
def test_a_repaired_copy_is_sound_and_holds_what_was_there_before(name, tiny_coco, tmp_path):
    planted = plant(name, tiny_coco, tmp_path / "faulty")
    changes = repair(open_dataset(planted.root), tmp_path / "mended")
    left = {finding.kind for finding in serious(examine(open_dataset(tmp_path / "mended")))}
    if planted.mended is None:
        assert planted.kind in left
        return
    assert left == {planted.kind} & ONLY_TOLD
    assert bool(changes) == (planted.kind not in ONLY_TOLD)
    assert all(line.startswith(f"{TRAIN}: ") for line in changes)
    written = json.loads((tmp_path / "mended" / "annotations" / f"{TRAIN}.json").read_text())
    assert written == approximately(planted.mended)
    images = {path.name for path in (tmp_path / "mended" / "images" / TRAIN).iterdir()}
    there = {path.name for path in (tiny_coco / "train").iterdir()} | {each["file_name"] for each in written["images"]}
    assert images == there - set(planted.images_left_out)


CHANGES = {
    "missing file": {
        "1 images left out: no file, or it cannot be decoded",
        "3 annotations left out: their image is missing or not listed",
    },
    "image twice": {"1 pictures listed twice made one"},
    "no area": {"32 areas filled with 0.53 of the bbox"},
    "keypoint beside the image": {
        "1 keypoints made unlabelled: no number, or outside the image",
        "1 num_keypoints counted again",
    },
    "edges that count from zero": {"1 skeletons that counted from 0 count from 1"},
    "keypoint far from its bbox": set(),
}
"""fault -> what a repair says"""


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_told_with_its_count(name, tiny_coco, tmp_path):
    planted = plant(name, tiny_coco, tmp_path / "faulty")
    told = repair(open_dataset(planted.root), tmp_path / "mended")
    assert {line.removeprefix(f"{TRAIN}: ") for line in told} == CHANGES[name]


def test_a_sound_dataset_is_copied_as_it_is(tiny_coco, tmp_path):
    assert repair(open_dataset(tiny_coco), tmp_path / "copy") == []
    for name in ("person_keypoints_train", "person_keypoints_val"):
        copied = json.loads((tmp_path / "copy" / "annotations" / f"{name}.json").read_text())
        assert copied == json.loads((tiny_coco / "annotations" / f"{name}.json").read_text())
    copied, given = tmp_path / "copy/images" / TRAIN, tiny_coco / "train"
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == {
        path.name: path.read_bytes() for path in given.iterdir()
    }


def test_a_single_annotation_file_becomes_one_folder_of_images(tiny_coco, tmp_path):
    path = tiny_coco / "annotations" / "person_keypoints_val.json"
    repair(open_dataset(path, images=tiny_coco / "val"), tmp_path / "copy")
    source = CocoSource(tmp_path / "copy/annotations/person_keypoints_val.json", images=tmp_path / "copy/images")
    assert len(source.image_ids) == 4
    assert source.image(16).shape == (240, 320, 3)  # turned by 180 degrees in its file


def test_images_outside_their_folder_are_taken_into_the_copy(tiny_coco, tmp_path):
    def move_out(content):
        image = content["images"][0]
        (tmp_path / "faulty/elsewhere").mkdir()
        (tmp_path / "faulty/train" / image["file_name"]).rename(tmp_path / "faulty/elsewhere/a.jpg")
        image["file_name"] = "../elsewhere/a.jpg"

    repair(open_dataset(rewrite(move_out, tiny_coco, tmp_path / "faulty")), tmp_path / "mended")
    assert (tmp_path / "mended/images" / TRAIN / "elsewhere/a.jpg").is_file()
    assert serious(examine(open_dataset(tmp_path / "mended"))) == []


def test_a_metainfo_file_goes_along_with_the_copy(tiny_coco, tmp_path):
    def no_sides(content):
        content["categories"][0]["keypoints"] = [f"k{index}" for index in range(17)]

    root = rewrite(no_sides, tiny_coco, tmp_path / "given")
    (root / "annotations/person_keypoints_val.json").unlink()
    pairs = [[index, index + 1] for index in range(1, 17, 2)]
    info = {"names": [f"k{index}" for index in range(17)], "flip_pairs": pairs, "sigmas": [0.1] * 17}
    (root / "metainfo.json").write_text(json.dumps(info))
    assert examine(open_dataset(root)) == []
    repair(open_dataset(root), tmp_path / "copy")
    assert json.loads((tmp_path / "copy/metainfo.json").read_text()) == info
    assert examine(open_dataset(tmp_path / "copy")) == []


def test_categories_of_the_same_keypoints_become_one(tiny_coco, tmp_path):
    def split_in_two(content):
        content["categories"].append({**content["categories"][0], "id": 2, "name": "athlete"})
        content["annotations"][0]["category_id"] = 2

    root = rewrite(split_in_two, tiny_coco, tmp_path / "given")
    told = repair(open_dataset(root), tmp_path / "mended")
    assert f"{TRAIN}: 1 categories with the same keypoints made one" in told
    written = json.loads((tmp_path / "mended/annotations" / f"{TRAIN}.json").read_text())
    assert [category["name"] for category in written["categories"]] == ["person"]
    assert {entry["category_id"] for entry in written["annotations"]} == {1}
    assert len(written["annotations"]) == 32


def test_a_person_with_neither_bbox_nor_keypoints_is_left_out(tiny_coco, tmp_path):
    def bare(content):
        content["annotations"][0].update(bbox=[], keypoints=[0] * 51, num_keypoints=0)
        content["annotations"][1].update(bbox=[400, 10, 20, 20])  # beside the image

    root = rewrite(bare, tiny_coco, tmp_path / "given")
    assert f"{TRAIN}: 2 annotations left out: neither bbox nor keypoints in the image" in repair(
        open_dataset(root), tmp_path / "mended"
    )
    assert serious(examine(open_dataset(tmp_path / "mended"))) == []


def test_no_file_is_written_over(tiny_coco, tmp_path):
    (tmp_path / "file").write_text("")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="new or empty folder"):
            repair(open_dataset(tiny_coco), taken)


def written(folder):
    return json.loads((folder / "annotations" / f"{TRAIN}.json").read_text())


def test_boxes_that_are_corners_stay_as_they_are_and_are_named_again(tiny_coco, tmp_path):
    root = rewrite(as_corners, tiny_coco, tmp_path / "corners")
    repair(open_dataset(root), tmp_path / "copy")
    assert "corners" in {each.kind for each in serious(examine(open_dataset(tmp_path / "copy")))}
    before = {entry["id"]: entry["bbox"] for entry in written(root)["annotations"]}
    assert {entry["id"]: entry["bbox"] for entry in written(tmp_path / "copy")["annotations"]} == before


def test_labels_made_for_a_larger_copy_are_scaled_to_the_files(tiny_coco, tmp_path):
    def double(content):
        for image in content["images"]:
            image["width"], image["height"] = 2 * image["width"], 2 * image["height"]
        for entry in content["annotations"]:
            entry["bbox"] = [2 * value for value in entry["bbox"]]
            entry["area"] *= 4
            entry["keypoints"] = [value if at % 3 == 2 else 2 * value for at, value in enumerate(entry["keypoints"])]

    root = rewrite(double, tiny_coco, tmp_path / "double")
    changes = repair(open_dataset(root), tmp_path / "copy")
    assert any("annotations scaled to the size of their image's file" in line for line in changes)
    assert not serious(examine(open_dataset(tmp_path / "copy")))
    as_before, found = written(tiny_coco), written(tmp_path / "copy")
    assert [entry["id"] for entry in found["annotations"]] == [entry["id"] for entry in as_before["annotations"]]
    for one, other in zip(as_before["annotations"], found["annotations"], strict=True):
        assert other["keypoints"] == pytest.approx(one["keypoints"], abs=0.01)
        assert other["bbox"] == pytest.approx(one["bbox"], abs=0.01)


def test_people_of_a_second_category_stay_when_it_is_made_one_with_the_first(tiny_coco, tmp_path):
    def split(content):
        content["categories"].append({**content["categories"][0], "id": 2, "name": "player"})
        for entry in content["annotations"][::2]:
            entry["category_id"] = 2
        content["annotations"][0].update(keypoints=[], num_keypoints=0)

    root = rewrite(split, tiny_coco, tmp_path / "two")
    repair(open_dataset(root), tmp_path / "copy")
    assert len(written(tmp_path / "copy")["annotations"]) == len(written(root)["annotations"])


def test_a_crowd_that_is_no_number_is_mended_beside_another_fault(tiny_coco, tmp_path):
    def spoil(content):
        content["annotations"][0].update(iscrowd=2, area=float("nan"))

    root = rewrite(spoil, tiny_coco, tmp_path / "crowd")
    repair(open_dataset(root), tmp_path / "copy")
    assert written(tmp_path / "copy")["annotations"][0]["iscrowd"] == 0
