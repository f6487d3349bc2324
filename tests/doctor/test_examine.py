import json
import shutil

import cv2
import numpy as np
import pytest
import yaml

from posestill.cli.main import main
from posestill.doctor.checks import counts_from_zero
from posestill.doctor.examine import describe, examine, is_sound, open_dataset, repair
from posestill.schema import UserError
from tests.data.yolo_folder import write_yolo


def kinds(findings):
    return {finding.kind for finding in findings if finding.severity != "note"}


def labelled(content):
    """The labelled person with the largest bbox."""
    people = [entry for entry in content["annotations"] if entry["num_keypoints"] > 12]
    return max(people, key=lambda entry: entry["bbox"][2] * entry["bbox"][3])


@pytest.mark.parametrize("name", ["all", "train", "val"])
def test_the_coco_sample_is_sound(coco_sample, name):
    dataset = open_dataset(coco_sample / "annotations" / f"{name}.json")
    assert examine(dataset) == []
    given = coco_sample / "metainfo.json"
    assert examine(open_dataset(dataset.path, images=coco_sample / "images", metainfo=given)) == []


def test_folders_are_sound_too_and_all_their_files_are_read(coco_sample, tmp_path):
    dataset = open_dataset(coco_sample)
    assert [part.name for part in dataset.parts] == ["all", "train", "val"]
    assert examine(dataset) == []
    write_yolo(tmp_path, coco_sample)
    dataset = open_dataset(tmp_path)
    assert [part.name for part in dataset.parts] == ["train", "val"]
    assert examine(dataset) == []


def first_image(content, root):
    """The file of an image that people stand in."""
    image_id = labelled(content)["image_id"]
    return next(image for image in content["images"] if image["id"] == image_id)


def missing_file(content, root):
    (root / "images" / first_image(content, root)["file_name"]).unlink()


def undecodable(content, root):
    (root / "images" / first_image(content, root)["file_name"]).write_bytes(b"no picture")


def cut_off(content, root):
    path = root / "images" / first_image(content, root)["file_name"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wrong_size(content, root):
    first_image(content, root)["width"] += 7


def image_id_twice(content, root):
    path = root / "images" / "more.png"
    cv2.imwrite(str(path), np.zeros((50, 60, 3), dtype=np.uint8))
    content["images"].append({"id": content["images"][0]["id"], "file_name": "more.png", "width": 60, "height": 50})


def image_twice(content, root):
    image = content["images"][0]
    shutil.copyfile(root / "images" / image["file_name"], root / "images" / "copy.jpg")
    content["images"].append({**image, "id": 999999, "file_name": "copy.jpg"})


def annotation_id_twice(content, root):
    content["annotations"][1]["id"] = content["annotations"][0]["id"]


def unknown_image(content, root):
    content["annotations"][3]["image_id"] = 424242


def unknown_category(content, root):
    content["annotations"][3]["category_id"] = 77


def no_names(content, root):
    content["categories"][0]["keypoints"] = []


def empty_category(content, root):
    content["categories"].append({"id": 2, "name": "pose", "keypoints": []})


def category_without_keypoints(content, root):
    content["categories"].append({"id": 2, "name": "car"})
    content["annotations"][0]["category_id"] = 2


def no_bbox(content, root):
    del labelled(content)["bbox"]


def flat_bbox(content, root):
    labelled(content)["bbox"][2] = 0


def bbox_off_image(content, root):
    entry = labelled(content)
    entry["bbox"] = [entry["bbox"][0], entry["bbox"][1], 900, 900]


def short_keypoints(content, root):
    labelled(content)["keypoints"].pop()


def odd_visibility(content, root):
    entry = labelled(content)
    index = next(i for i in range(17) if entry["keypoints"][3 * i + 2] == 2)
    entry["keypoints"][3 * index + 2] = 3


def keypoint_off_image(content, root):
    entry = labelled(content)
    index = next(i for i in range(17) if entry["keypoints"][3 * i + 2] > 0)
    entry["keypoints"][3 * index] = -40


def keypoint_far(content, root):
    entry = min(
        (each for each in content["annotations"] if each["num_keypoints"] > 5), key=lambda each: max(each["bbox"][2:])
    )
    index = next(i for i in range(17) if entry["keypoints"][3 * i + 2] > 0)
    left = entry["bbox"][0] > 300
    entry["keypoints"][3 * index] = 2 if left else 470


def wrong_count(content, root):
    labelled(content)["num_keypoints"] += 1


def no_area(content, root):
    for entry in content["annotations"]:
        del entry["area"]


def zero_area(content, root):
    content["annotations"][0]["area"] = 0


def huge_area(content, root):
    content["annotations"][0]["area"] = 1e6


def one_sided(content, root):
    content["categories"][0]["keypoints"][1] = "left_eyebrow"


def name_twice(content, root):
    content["categories"][0]["keypoints"][1] = "right_eye"


def exchanged(content, root):
    names = content["categories"][0]["keypoints"]
    sides = {"left": "right", "right": "left"}
    content["categories"][0]["keypoints"] = [
        name if "_" not in name else sides[name.split("_")[0]] + "_" + name.split("_")[1] for name in names
    ]


def no_sides(content, root):
    content["categories"][0]["keypoints"] = [f"k{index}" for index in range(17)]


def zero_based_edges(content, root):
    content["categories"][0]["skeleton"] = [[a - 1, b - 1] for a, b in content["categories"][0]["skeleton"]]


def edge_beyond(content, root):
    content["categories"][0]["skeleton"].append([3, 18])


def not_a_number(content, root):
    labelled(content)["bbox"][0] = float("nan")


def infinite_keypoint(content, root):
    labelled(content)["keypoints"][0] = float("inf")


def few_people(content, root):
    content["annotations"] = content["annotations"][:3]


def no_image_id(content, root):
    del content["annotations"][0]["image_id"]


PLANTED = [
    (missing_file, {"image-missing"}),
    (undecodable, {"image-undecodable"}),
    (cut_off, {"image-undecodable"}),
    (wrong_size, {"image-size"}),
    (image_id_twice, {"image-id-twice"}),
    (image_twice, {"image-twice"}),
    (annotation_id_twice, {"annotation-id-twice"}),
    (unknown_image, {"unknown-image"}),
    (unknown_category, {"unknown-category"}),
    (no_names, {"no-keypoint-names"}),
    (empty_category, {"category-empty"}),
    (category_without_keypoints, {"category-without-keypoints"}),
    (no_bbox, {"bbox-missing"}),
    (flat_bbox, {"bbox-missing"}),
    (bbox_off_image, {"bbox-off-image"}),
    (short_keypoints, {"keypoints-length"}),
    (odd_visibility, {"visibility"}),
    (keypoint_off_image, {"keypoint-off-image"}),
    (keypoint_far, {"keypoint-far"}),
    (wrong_count, {"num-keypoints"}),
    (no_area, {"area-missing"}),
    (zero_area, {"area-wrong"}),
    (huge_area, {"area-wrong"}),
    (one_sided, {"side-without-partner"}),
    (name_twice, {"keypoint-name-twice"}),
    (exchanged, {"sides-exchanged"}),
    (no_sides, {"no-sides"}),
    (zero_based_edges, {"edges-range"}),
    (edge_beyond, {"edges-range"}),
    (not_a_number, {"not-finite"}),
    (infinite_keypoint, {"not-finite"}),
    (few_people, {"few-people"}),
    (no_image_id, {"entry-incomplete"}),
]
ONLY_A_PERSON_CAN_MEND = {"no-keypoint-names", "side-without-partner", "keypoint-name-twice"}


def plant(fault, coco_sample, folder):
    """A copy of the sample (all.json) with one fault in it."""
    shutil.copytree(coco_sample / "images", folder / "images")
    content = json.loads((coco_sample / "annotations" / "all.json").read_text())
    fault(content, folder)
    (folder / "annotations").mkdir()
    (folder / "annotations" / "all.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("fault", "expected"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_found_alone_and_mended_where_it_can_be(fault, expected, coco_sample, tmp_path):
    dataset = open_dataset(plant(fault, coco_sample, tmp_path / "faulty"))
    findings = examine(dataset)
    assert kinds(findings) == expected
    assert next(iter(expected)) in describe(dataset, findings)
    if expected & ONLY_A_PERSON_CAN_MEND:
        return
    changes = repair(dataset, tmp_path / "mended")
    again = examine(open_dataset(tmp_path / "mended"))
    assert not [finding for finding in again if finding.severity == "error"]
    only_told = {"keypoint-far", "sides-exchanged", "no-sides", "few-people"}
    assert kinds(again) == expected & only_told
    assert bool(changes) == (not expected & only_told)


def test_the_same_picture_in_train_and_val_is_told(coco_sample, tmp_path):
    shutil.copytree(coco_sample, tmp_path / "copy")
    shutil.copyfile(tmp_path / "copy/annotations/train.json", tmp_path / "copy/annotations/val.json")
    (finding,) = examine(open_dataset(tmp_path / "copy"))
    assert finding.kind == "split-overlap"
    assert len(finding.where) == 6


def change_yaml(root, **changes):
    path = root / "data.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def change_line(root, change):
    path = sorted((root / "labels" / "train").glob("*.txt"))[0]
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([" ".join(change(first.split())), *rest]) + "\n")


def first_file(root, kind):
    return sorted((root / kind / "train").iterdir())[0]


YOLO_PLANTED = {
    "a short line": (lambda root: change_line(root, lambda words: words[:-2]), {"yolo-line"}),
    "a word": (lambda root: change_line(root, lambda words: ["0", "x", *words[2:]]), {"yolo-line"}),
    "px instead of shares": (lambda root: change_line(root, lambda words: ["0", "320", *words[2:]]), {"yolo-range"}),
    "an unknown class": (lambda root: change_line(root, lambda words: ["4", *words[1:]]), {"yolo-class"}),
    "not finite": (lambda root: change_line(root, lambda words: ["0", "nan", *words[2:]]), {"not-finite"}),
    "a flat box": (lambda root: change_line(root, lambda words: [*words[:3], "0", *words[4:]]), {"bbox-missing"}),
    "kpt_shape": (lambda root: change_yaml(root, kpt_shape=[17, 2]), {"yolo-shape"}),
    "a short flip_idx": (lambda root: change_yaml(root, flip_idx=[0, 2, 1]), {"yolo-flip"}),
    "a flip_idx that is no exchange": (lambda root: change_yaml(root, flip_idx=[*range(1, 17), 0]), {"yolo-flip"}),
    "too few names": (lambda root: change_yaml(root, kpt_names=["nose"]), {"yolo-names"}),
    "sigmas": (lambda root: change_yaml(root, kpt_oks_sigmas=[0.1]), {"yolo-sigmas"}),
    "an empty class": (lambda root: change_yaml(root, names=["person", "dog"]), {"category-empty"}),
    "a label without image": (lambda root: (root / "labels/train/stray.txt").write_text(""), {"label-without-image"}),
    "an undecodable image": (lambda root: first_file(root, "images").write_bytes(b"no"), {"image-undecodable"}),
    "an overlap": (
        lambda root: shutil.copyfile(first_file(root, "images"), root / "images" / "val" / "again.jpg"),
        {"split-overlap"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", YOLO_PLANTED)
def test_a_fault_planted_in_a_yolo_folder_is_found_alone(name, coco_sample, tmp_path):
    fault, expected = YOLO_PLANTED[name]
    root = tmp_path / "yolo"
    write_yolo(root, coco_sample)
    fault(root)
    dataset = open_dataset(root)
    found = kinds(examine(dataset))
    if name == "kpt_shape":  # hardly any line can be read, so hardly anybody is there
        assert found == {"yolo-shape", "few-people", "category-empty"}
        return
    assert found == expected
    repair(dataset, tmp_path / "mended")
    assert not [each for each in examine(open_dataset(tmp_path / "mended")) if each.severity == "error"]


def test_missing_sigmas_are_proposed_with_what_they_come_from(coco_sample, tmp_path):
    def rename(content, root):
        content["categories"][0]["keypoints"][0] = "tail"

    (finding,) = examine(open_dataset(plant(rename, coco_sample, tmp_path / "copy")))
    assert (finding.kind, finding.severity) == ("no-sigmas", "note")
    assert finding.where[0] == "tail 0.079 (COCO's shoulder, or no such part in COCO)"
    assert "left_knee 0.087 (COCO's knee)" in finding.where
    assert is_sound([finding])


def test_no_file_is_written_over(coco_sample, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="new or empty folder"):
        repair(open_dataset(coco_sample), tmp_path)


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither COCO annotation files nor a data\.yaml"):
        open_dataset(tmp_path)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UserError, match="is not a COCO file"):
        open_dataset(tmp_path / "a.json")


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
def test_values_of_another_type_are_named(coco_sample, tmp_path, kind, key, value, message):
    def change(content, root):
        content[kind][0][key] = value

    with pytest.raises(UserError, match=message):
        open_dataset(plant(change, coco_sample, tmp_path / "copy"))


def test_edges_that_start_at_zero_are_recognised():
    assert counts_from_zero([[0, 1], [1, 2]], 3)
    assert not counts_from_zero([[1, 2], [2, 3]], 3)
    assert not counts_from_zero([[0, 3]], 3)


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["posestill", "data", "check", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0


def test_the_exit_status_tells_sound_faulty_and_unreadable_apart(coco_sample, tmp_path, monkeypatch, capsys):
    sheet = tmp_path / "sheet.png"
    assert run(monkeypatch, coco_sample, "--sheet", sheet) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert cv2.imread(str(sheet)).shape == (4 * 224, 6 * 176, 3)
    faulty = plant(no_area, coco_sample, tmp_path / "faulty")
    assert run(monkeypatch, faulty, "--sheet", sheet, "--fix", tmp_path / "mended") == 1
    printed = capsys.readouterr().out
    assert "[area-missing] all: no area: OKS cannot be scaled (66x)" in printed
    assert "66 areas filled with 0.53 of the bbox" in printed
    assert run(monkeypatch, tmp_path / "mended", "--sheet", sheet) == 0
    assert run(monkeypatch, tmp_path / "nowhere.json", "--sheet", sheet) == 2
