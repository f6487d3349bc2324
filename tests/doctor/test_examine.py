import json
import shutil

import cv2
import numpy as np
import pytest

from posestill.cli.main import main
from posestill.doctor.examine import describe, examine, is_sound, open_dataset
from posestill.doctor.findings import Finding
from posestill.schema import UserError
from tests.doctor.planted import TRAIN, plant, rewrite

VAL = "person_keypoints_val"


def names(dataset):
    return [annotation_set.name for annotation_set in dataset.annotation_sets]


def folders(dataset):
    return [annotation_set.folder for annotation_set in dataset.annotation_sets]


def test_the_sample_is_sound_as_a_folder_and_file_by_file(sample_folder):
    dataset = open_dataset(sample_folder)
    assert names(dataset) == [TRAIN, VAL]
    assert folders(dataset) == [sample_folder / "train", sample_folder / "val"]
    assert examine(dataset) == []
    for name, images in ((TRAIN, "train"), (VAL, "val")):
        path = sample_folder / "annotations" / f"{name}.json"
        assert folders(open_dataset(path)) == [sample_folder / images]
        assert examine(open_dataset(path, images=sample_folder / images)) == []


def test_the_sample_is_sound_as_a_yolo_folder(sample_yolo):
    dataset = open_dataset(sample_yolo)
    assert names(dataset) == ["train", "val"]
    assert examine(dataset) == []


def test_photographs_of_coco_are_sound(coco_sample):
    dataset = open_dataset(coco_sample)
    assert names(dataset) == ["all", "train", "val"]
    assert examine(dataset) == []
    given = coco_sample / "metainfo.json"
    for annotation_set in dataset.annotation_sets:
        path = coco_sample / "annotations" / f"{annotation_set.name}.json"
        assert examine(open_dataset(path, images=coco_sample / "images", metainfo=given)) == []


LAYOUTS = {
    "annotations/person_keypoints_val2017.json": "val2017",
    "annotations/val.json": "images",
    "annotations/all.json": "images/all",
    "val.json": "images",
    "labels.json": ".",
    "valid/_annotations.coco.json": "valid",
}
"""an annotation file, and where the images of such a dataset lie"""


@pytest.mark.parametrize("annotations", LAYOUTS)
def test_images_are_found_where_datasets_keep_them(annotations, tiny_coco, tmp_path):
    images = tmp_path / LAYOUTS[annotations]
    shutil.copytree(tiny_coco / "val", images, dirs_exist_ok=True)
    (tmp_path / annotations).parent.mkdir(exist_ok=True)
    shutil.copyfile(tiny_coco / "annotations" / f"{VAL}.json", tmp_path / annotations)
    dataset = open_dataset(tmp_path)
    assert [folder.resolve() for folder in folders(dataset)] == [images.resolve()]
    assert examine(dataset) == []


def test_a_folder_of_images_with_other_names_is_taken_when_no_name_fits(tiny_coco, tmp_path):
    shutil.copytree(tiny_coco, tmp_path / "copy")
    for path in (tmp_path / "copy/val").iterdir():
        path.rename(path.with_name(f"other-{path.name}"))
    dataset = open_dataset(tmp_path / "copy")
    assert folders(dataset)[1] == tmp_path / "copy/val"
    (finding,) = examine(dataset)
    assert (finding.kind, finding.annotation_set, len(finding.where)) == ("image-missing", VAL, 4)


def test_a_metainfo_file_beside_the_annotations_helps_where_it_fits_them(tiny_coco, tmp_path):
    sides = [f"k{index}" for index in range(17)]

    def rename(content):
        content["categories"][0]["keypoints"] = sides

    root = rewrite(rename, tiny_coco, tmp_path / "copy")
    path = root / "annotations" / f"{TRAIN}.json"
    fitting = {"names": sides, "flip_pairs": [[1, 2]], "sigmas": [0.1] * 17}
    for content, kinds in (
        (fitting, []),
        ({**fitting, "names": [*sides[1:], "k0"]}, ["no-sides", "no-sigmas"]),
        ({"other": {"names": ["a", "b"]}}, ["no-sides", "no-sigmas"]),
    ):
        (root / "metainfo.json").write_text(json.dumps(content))
        assert [finding.kind for finding in examine(open_dataset(path))] == kinds
    (tmp_path / "given.json").write_text(json.dumps(fitting))
    assert examine(open_dataset(path, metainfo=tmp_path / "given.json")) == []


def test_what_is_no_dataset_is_refused(tiny_coco, tmp_path):
    with pytest.raises(UserError, match=r"neither COCO annotation files nor a data\.yaml"):
        open_dataset(tmp_path)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UserError, match="is not a COCO file"):
        open_dataset(tmp_path / "a.json")
    with pytest.raises(UserError, match="no folder of images .*nowhere: correct --images"):
        open_dataset(tiny_coco / "annotations" / f"{VAL}.json", images=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("annotations", "bbox", 5, "entry 0 of annotations: bbox is 5"),
        ("annotations", "id", [1], r"entry 0 of annotations: id is \[1\]"),
        ("images", "file_name", 5, "entry 0 of images: file_name is 5"),
        ("categories", "id", None, "category 'person' has no id"),
        ("categories", "skeleton", [1, 2], "skeleton edge 1 is not a pair"),
    ],
)
def test_values_of_another_type_are_named(tiny_coco, tmp_path, kind, key, value, message):
    def change(content):
        content[kind][0][key] = value

    with pytest.raises(UserError, match=message):
        open_dataset(rewrite(change, tiny_coco, tmp_path / "copy"))


def test_an_entry_that_is_no_mapping_is_named(tiny_coco, tmp_path):
    def change(content):
        content["images"][2] = "a.jpg"

    with pytest.raises(UserError, match="entry 2 of images is 'a.jpg'; a mapping is wanted"):
        open_dataset(rewrite(change, tiny_coco, tmp_path / "copy"))


def test_findings_are_told_errors_first_with_a_few_places_and_the_remedy(tiny_coco):
    dataset = open_dataset(tiny_coco)
    places = tuple(f"annotation {number}" for number in range(1, 8))
    findings = [
        Finding("visibility", "error", places, "a visibility is not 0, 1 or 2", "--fix writes 2", TRAIN),
        Finding("few-people", "warning", ("2 people with labels",), "too few", "label more", VAL),
        Finding("no-sigmas", "note", places, "no spreads are given", "give your own", VAL),
    ]
    assert describe(dataset, findings).splitlines() == [
        f"{TRAIN}: 12 images, 32 annotations (25 with labels, 6 without, 1 crowds), images in {tiny_coco / 'train'}",
        f"{VAL}: 4 images, 10 annotations (9 with labels, 1 without, 0 crowds), images in {tiny_coco / 'val'}",
        "",
        "errors",
        f"  [visibility] {TRAIN}: a visibility is not 0, 1 or 2 (7x)",
        "      annotation 1; annotation 2; annotation 3; annotation 4; annotation 5 and 2 more",
        "      -> --fix writes 2",
        "",
        "warnings",
        f"  [few-people] {VAL}: too few (1x)",
        "      2 people with labels",
        "      -> label more",
        "",
        "notes",
        f"  [no-sigmas] {VAL}: no spreads are given",
        f"      {'; '.join(places)}",
        "      -> give your own",
        "",
        f"{tiny_coco}: 1 errors, 1 warnings",
    ]
    assert not is_sound(findings)
    assert is_sound(findings[2:])


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `posestill data check` in this process; returns its exit status and what it printed."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["posestill", "data", "check", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr().out

    return run


def test_the_exit_status_tells_sound_faulty_and_unreadable_apart(tiny_coco, tmp_path, run):
    sheet = tmp_path / "sheet.png"
    status, printed = run(tiny_coco, "--sheet", sheet)
    assert status == 0
    assert f"{tiny_coco}: nothing is wrong\ncontact sheet: {sheet}" in printed
    assert cv2.imread(str(sheet)).shape == (5 * 224, 6 * 176, 3)
    faulty = plant("no area", tiny_coco, tmp_path / "faulty").root
    status, printed = run(faulty, "--sheet", sheet, "--fix", tmp_path / "mended")
    assert status == 1
    assert f"[area-missing] {TRAIN}: no area: OKS cannot be scaled (32x)" in printed
    assert f"repaired:\n  {TRAIN}: 32 areas filled with 0.53 of the bbox\ncopy: {tmp_path / 'mended'}" in printed
    assert run(tmp_path / "mended", "--sheet", sheet)[0] == 0
    assert run(tmp_path / "nowhere.json", "--sheet", sheet)[0] == 2
    assert run(tiny_coco, "--sheet", tmp_path / "sheet.txt")[0] == 2


def test_what_a_repair_leaves_to_the_user_is_told(tiny_coco, tmp_path, run):
    faulty = plant("keypoint far from its bbox", tiny_coco, tmp_path / "faulty").root
    status, printed = run(faulty, "--sheet", tmp_path / "sheet.png", "--fix", tmp_path / "mended")
    assert status == 1
    assert "repaired:\n  nothing had to be changed\nleft to you:\n" in printed
    assert f"  [keypoint-far] {TRAIN}: a labelled keypoint lies far from its bbox\ncopy: " in printed


def test_files_that_no_entry_names_make_no_difference(tiny_coco, tmp_path):
    shutil.copytree(tiny_coco, tmp_path / "copy")
    (tmp_path / "copy/train/notes.txt").write_text("not listed")
    cv2.imwrite(str(tmp_path / "copy/train/spare.png"), np.zeros((9, 9, 3), dtype=np.uint8))
    assert examine(open_dataset(tmp_path / "copy")) == []
