import shutil

import pytest

from posestill.doctor.checks import counts_from_zero
from posestill.doctor.examine import examine, is_sound, open_dataset
from posestill.doctor.findings import KINDS
from tests.doctor.planted import FAULTS, TRAIN, plant, rewrite, serious
from tests.doctor.test_yolo import YOLO_FAULTS


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_alone_and_where_it_is(name, tiny_coco, tmp_path):
    planted = plant(name, tiny_coco, tmp_path / "faulty")
    (finding,) = serious(examine(open_dataset(planted.root)))
    assert (finding.kind, list(finding.where)) == (planted.kind, planted.places)
    assert finding.annotation_set == TRAIN
    assert (finding.severity, finding.what, finding.remedy) == KINDS[planted.kind]


def test_every_kind_of_fault_is_planted_somewhere(tiny_coco, tmp_path):
    kinds = {plant(name, tiny_coco, tmp_path / name).kind for name in FAULTS}
    kinds |= {fault.kind for fault in YOLO_FAULTS.values()}
    elsewhere = {"split-overlap", "yolo-shape", "shares", "corners", "several-categories", "sixteen-bits"}
    assert kinds | elsewhere == set(KINDS)


def test_the_same_picture_in_train_and_val_is_told_by_its_name(tiny_coco, tmp_path):
    shutil.copytree(tiny_coco, tmp_path / "copy")
    (tmp_path / "copy/val/000000000014.png").write_bytes((tiny_coco / "train/000000000003.png").read_bytes())
    (finding,) = examine(open_dataset(tmp_path / "copy"))
    assert (finding.kind, finding.where) == ("split-overlap", ("000000000003.png",))
    assert finding.annotation_set == "person_keypoints_train and person_keypoints_val"


def test_files_without_a_split_in_their_names_may_share_pictures(tiny_coco, tmp_path):
    shutil.copytree(tiny_coco / "train", tmp_path / "images")
    (tmp_path / "annotations").mkdir()
    for name in ("all", "some"):
        shutil.copyfile(tiny_coco / "annotations" / f"{TRAIN}.json", tmp_path / "annotations" / f"{name}.json")
    assert examine(open_dataset(tmp_path)) == []


def test_spreads_that_nobody_gave_are_proposed_with_what_they_come_from(tiny_coco, tmp_path):
    def rename(content):
        content["categories"][0]["keypoints"][0] = "tail"

    (finding,) = examine(open_dataset(rewrite(rename, tiny_coco, tmp_path / "copy")))
    assert (finding.kind, finding.severity) == ("no-sigmas", "note")
    assert finding.where[0] == "tail 0.079 (COCO's shoulder, or no such part in COCO)"
    assert "left_knee 0.087 (COCO's knee)" in finding.where
    assert len(finding.where) == 17
    assert is_sound([finding])


def test_a_missing_image_is_checked_by_the_size_that_its_entry_gives(tiny_coco, tmp_path):
    def leave_the_image(content):
        image = content["images"][0]
        (tmp_path / "copy/train" / image["file_name"]).unlink()
        content["annotations"][0]["bbox"] = [300, 200, 90, 30]

    found = serious(examine(open_dataset(rewrite(leave_the_image, tiny_coco, tmp_path / "copy"))))
    assert {finding.kind: finding.where for finding in found} == {
        "image-missing": ("image 1 (000000000001.jpg)",),
        "bbox-off-image": ("annotation 1: [300, 200, 90, 30] in 320 x 240",),
    }


def test_without_any_size_nothing_is_said_about_the_images_border(tiny_coco, tmp_path):
    def forget_the_size(content):
        image = content["images"][0]
        del image["width"], image["height"]
        (tmp_path / "copy/train" / image["file_name"]).unlink()
        content["annotations"][0]["bbox"] = [300, 200, 90, 30]

    found = serious(examine(open_dataset(rewrite(forget_the_size, tiny_coco, tmp_path / "copy"))))
    assert [finding.kind for finding in found] == ["image-missing"]


def test_edges_that_start_at_zero_are_recognised():
    assert counts_from_zero([[0, 1], [1, 2]], 3)
    assert not counts_from_zero([[1, 2], [2, 3]], 3)
    assert not counts_from_zero([[0, 3]], 3)
