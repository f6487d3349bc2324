import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from posestill.doctor.examine import examine, open_dataset, repair
from posestill.schema import UserError
from tests.doctor.planted import serious

FIRST, SECOND = "000000000001", "000000000002"


def change_yaml(root, **changes):
    path = root / "data.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def change_line(root, change):
    """Change the first line of the first label file, given as its words."""
    path = root / "labels/train" / f"{FIRST}.txt"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([" ".join(change(first.split())), *rest]) + "\n")


@dataclass(frozen=True)
class Fault:
    plant: Callable[[Path], object]
    kind: str
    place: str
    """with {root} and {labels} for the folders"""
    people: int
    """labelled or not, that a repaired copy has in train"""


LINE = "{labels}/" + FIRST + ".txt, line 1"
YOLO_FAULTS = {
    "a short line": Fault(
        lambda root: change_line(root, lambda words: words[:-2]), "yolo-line",
        LINE + ": 54 values; kpt_shape [17, 3] makes 56", 30,
    ),
    "a word": Fault(
        lambda root: change_line(root, lambda words: ["0", "x", *words[2:]]), "yolo-line",
        LINE + ": holds something that is no number", 30,
    ),
    "px instead of shares": Fault(
        lambda root: change_line(root, lambda words: ["0", "160", *words[2:]]), "yolo-range",
        LINE + ": 1 values such as 160 lie outside 0..1", 30,
    ),
    "an unknown class": Fault(
        lambda root: change_line(root, lambda words: ["4", *words[1:]]), "yolo-class",
        LINE + ": class 4 is not among the 1 names of data.yaml", 30,
    ),
    "not finite": Fault(
        lambda root: change_line(root, lambda words: ["0", "nan", *words[2:]]), "yolo-line",
        LINE + ": holds NaN or infinity", 30,
    ),
    "a visibility of 3": Fault(
        lambda root: change_line(root, lambda words: [*words[:-1], "3"]), "yolo-visibility",
        LINE + ": visibility 3; 0, 1 and 2 are known", 30,
    ),
    "a short flip_idx": Fault(
        lambda root: change_yaml(root, flip_idx=[0, 2, 1]), "yolo-flip",
        "{root}/data.yaml: flip_idx has 3 entries; kpt_shape says 17 keypoints", 31,
    ),
    "a flip_idx that is no exchange": Fault(
        lambda root: change_yaml(root, flip_idx=[*range(1, 17), 0]), "yolo-flip",
        "{root}/data.yaml: flip_idx sends 0 to 1 and 1 to 2: partners must agree", 31,
    ),
    "too few names": Fault(
        lambda root: change_yaml(root, kpt_names=["nose"]), "yolo-names",
        "{root}/data.yaml: kpt_names has 1 different names; kpt_shape says 17 keypoints", 31,
    ),
    "too few spreads": Fault(
        lambda root: change_yaml(root, kpt_oks_sigmas=[0.1]), "yolo-sigmas",
        "{root}/data.yaml: kpt_oks_sigmas are not 17 positive numbers", 31,
    ),
    "a label without an image": Fault(
        lambda root: (root / "labels/train/stray.txt").write_text(""), "label-without-image",
        "{labels}/stray.txt", 31,
    ),
    "a flat box": Fault(
        lambda root: change_line(root, lambda words: ["0", "0.5", "0.5", "0", "0.5", *words[5:]]), "bbox-missing",
        "annotation 1: [160.0, 60.0, 0.0, 120.0]", 30,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", YOLO_FAULTS)
def test_a_fault_planted_in_a_yolo_folder_is_found_alone_and_left_out_of_the_copy(name, tiny_yolo, tmp_path):
    fault, root = YOLO_FAULTS[name], tmp_path / "yolo"
    shutil.copytree(tiny_yolo, root)
    fault.plant(root)
    dataset = open_dataset(root)
    (finding,) = serious(examine(dataset))
    assert finding.kind == fault.kind
    assert finding.where == (fault.place.format(root=root, labels=root / "labels/train"),)
    assert finding.annotation_set == "train"
    repair(dataset, tmp_path / "mended")
    assert serious(examine(open_dataset(tmp_path / "mended"))) == []
    written = json.loads((tmp_path / "mended/annotations/train.json").read_text())
    assert len(written["annotations"]) == fault.people
    assert len(written["images"]) == 12


def test_a_value_a_little_too_far_out_is_told_and_put_on_the_border(tiny_yolo, tmp_path):
    root = tmp_path / "yolo"
    shutil.copytree(tiny_yolo, root)
    path = root / "labels/train" / f"{SECOND}.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    lines[1][5] = "1.05"  # a nose, of one who stands near the right border
    path.write_text("\n".join(map(" ".join, lines)))
    dataset = open_dataset(root)
    (finding,) = serious(examine(dataset))
    assert (finding.kind, finding.where) == ("yolo-range", (f"{path}, line 2: 1 values such as 1.05 lie outside 0..1",))
    repair(dataset, tmp_path / "mended")
    mended = json.loads((tmp_path / "mended/annotations/train.json").read_text())["annotations"]
    noses = [entry["keypoints"][0] for entry in mended if entry["image_id"] == 2]
    assert noses[1] == 320
    assert serious(examine(open_dataset(tmp_path / "mended"))) == []


def test_a_class_that_nobody_has_is_told_of_every_split_and_left_out(tiny_yolo, tmp_path):
    root = tmp_path / "yolo"
    shutil.copytree(tiny_yolo, root)
    change_yaml(root, names=["person", "dog"])
    dataset = open_dataset(root)
    found = [(each.kind, each.where, each.annotation_set) for each in serious(examine(dataset))]
    assert found == [("category-empty", ("category 2 (dog)",), "train, val")]
    told = repair(dataset, tmp_path / "mended")
    assert told == [f"{split}: 1 categories with the same keypoints made one" for split in ("train", "val")]
    assert serious(examine(open_dataset(tmp_path / "mended"))) == []


def test_a_kpt_shape_that_no_line_fits_is_the_fault_and_not_the_lines(tiny_yolo, tmp_path):
    root = tmp_path / "yolo"
    shutil.copytree(tiny_yolo, root)
    change_yaml(root, kpt_shape=[17, 2])
    found = {(each.annotation_set, each.kind, len(each.where)) for each in serious(examine(open_dataset(root)))}
    # nobody can be read, so that nobody is there
    assert found == {
        ("train", "yolo-shape", 31),
        ("val", "yolo-shape", 10),
        ("train, val", "category-empty", 1),
        ("train, val", "few-people", 1),
    }


def test_an_image_of_a_yolo_folder_that_cannot_be_decoded_is_left_out(tiny_yolo, tmp_path):
    root = tmp_path / "yolo"
    shutil.copytree(tiny_yolo, root)
    (root / "images/train" / f"{SECOND}.jpg").write_bytes(b"no picture")
    dataset = open_dataset(root)
    (finding,) = serious(examine(dataset))
    place = f"image 2 (images/train/{SECOND}.jpg)"
    assert (finding.kind, finding.where, finding.annotation_set) == (
        "image-undecodable",
        (f"{place}: it cannot be decoded: fetch it again, or save it anew as PNG or JPEG",),
        "train",
    )
    repair(dataset, tmp_path / "mended")
    assert serious(examine(open_dataset(tmp_path / "mended"))) == []
    assert len(json.loads((tmp_path / "mended/annotations/train.json").read_text())["images"]) == 11


def test_the_same_picture_in_two_splits_of_a_yolo_folder_is_told(tiny_yolo, tmp_path):
    root = tmp_path / "yolo"
    shutil.copytree(tiny_yolo, root)
    shutil.copyfile(root / "images/train" / f"{FIRST}.jpg", root / "images/val/again.jpg")
    (finding,) = serious(examine(open_dataset(root)))
    assert (finding.kind, finding.where) == ("split-overlap", (f"images/train/{FIRST}.jpg",))


def test_a_sound_yolo_folder_becomes_the_same_people_in_coco(tiny_yolo, tiny_coco, tmp_path):
    dataset = open_dataset(tiny_yolo)
    assert [each.name for each in dataset.annotation_sets] == ["train", "val"]
    assert examine(dataset) == []
    assert examine(open_dataset(tiny_yolo / "data.yaml")) == []
    repair(dataset, tmp_path / "coco")
    written = json.loads((tmp_path / "coco/annotations/val.json").read_text())["annotations"]
    given = json.loads((tiny_coco / "annotations/person_keypoints_val.json").read_text())["annotations"]
    for one, other in zip(written, given, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.01)
        assert one["keypoints"] == pytest.approx(other["keypoints"], abs=0.01)
        assert one["num_keypoints"] == other["num_keypoints"]


def test_what_was_assumed_for_a_silent_data_yaml_is_noted(tiny_yolo, tmp_path):
    root = tmp_path / "yolo"
    shutil.copytree(tiny_yolo, root)
    content = yaml.safe_load((root / "data.yaml").read_text())
    del content["kpt_names"]
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    notes = [(each.annotation_set, each.kind, each.what) for each in examine(open_dataset(root))]
    what = "kpt_names are missing; 17 keypoints with COCO's flip_idx are taken for COCO's 17"
    assert notes == [("train, val", "assumed", what)]


def test_a_data_yaml_without_splits_is_refused(tiny_yolo, tmp_path):
    (tmp_path / "data.yaml").write_text("kpt_shape: [17, 3]\n")
    with pytest.raises(UserError, match="has no train, val or test"):
        open_dataset(tmp_path)
