import json

import numpy as np

from posestill.draw import write_image
from tests.conftest import DOTS, small_model


def test_boxes_come_from_a_coco_file_or_a_plain_mapping(posestill, tmp_path, capsys):
    small_model().save(tmp_path / "model")
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name, np.full((60, 40, 3), 90, dtype=np.uint8))
    (tmp_path / "plain.json").write_text(json.dumps({"a.png": [[0, 0, 20, 30], [10, 10, 20, 30]]}))
    coco = {
        "images": [{"id": 7, "file_name": "b.png"}], "categories": [{"id": 1, "keypoints": list(DOTS.names)}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 20, 30]}],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for boxes, people, ids in (("plain.json", 2, {1}), ("coco.json", 1, {7})):
        status, out, err = posestill(
            "predict",
            tmp_path / "model",
            tmp_path / "images",
            "--boxes",
            tmp_path / boxes,
            "--out",
            tmp_path / boxes[:4],
        )
        assert (status, f"{people} persons in 1 images" in out) == (0, True), err
        entries = json.loads((tmp_path / boxes[:4] / "predictions.json").read_text())
        assert {entry["image_id"] for entry in entries} == ids
    (tmp_path / "wrong.json").write_text("[1]")
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "images", "--boxes", tmp_path / "wrong.json")
    assert (status, "is neither a COCO annotation file nor" in err) == (2, True)
    (tmp_path / "other.json").write_text(json.dumps({"c.png": [[0, 0, 1, 1]]}))
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "images", "--boxes", tmp_path / "other.json")
    assert (status, "names none of the 2 images" in err) == (2, True)


def folder_of(tmp_path, *names):
    small_model().save(tmp_path / "model")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name, np.zeros((9, 9, 3), dtype=np.uint8))


def test_images_of_one_name_are_drawn_apart(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "one/a.png", "two/a.png", "two/b.png", "two/b.jpg")
    status, out, err = posestill("predict", "model", "one", "two", "--out", "out")
    assert (status, "4 persons in 4 images -> out" in out) == (0, True), err
    drawn = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert drawn == {"one/a.png", "two/a.png", "b.png.png", "b.jpg.png"}
    names = [entry["file_name"] for entry in json.loads((tmp_path / "out" / "predictions.json").read_text())]
    assert names == ["one/a.png", "two/a.png", "b.jpg", "b.png"]


def test_the_folder_of_the_pictures_is_no_place_for_drawings(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "photos/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    before = (tmp_path / "photos" / "a.jpg").read_bytes()
    for out in ("photos", "link", "photos/."):
        status, _, err = posestill("predict", "model", "photos", "--out", out)
        assert (status, "is a folder of the pictures" in err, "--overwrite" in err) == (2, True, True), err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    status, _, err = posestill("predict", "model", "photos", "--out", "photos", "--overwrite")
    assert status == 0, err
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == before  # the drawing is a.png


def test_a_second_run_with_the_same_output_needs_no_word_and_sees_no_drawings(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "photos/a.jpg", "photos/b/a.jpg")
    for _ in range(2):
        status, out, err = posestill("predict", "model", "photos", "--out", "photos/drawn")
        assert (status, "2 persons in 2 images" in out) == (0, True), err


def test_a_picture_that_cannot_be_read_is_named_and_the_exit_status_says_so(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path, "photos/a.jpg", "photos/b.png")
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "c.heic").write_bytes(b"")
    status, out, err = posestill("predict", "model", "photos")
    assert status == 1
    assert "1 persons in 1 images -> predictions" in out
    assert "1 other files in these folders are no pictures by their names (.heic)" in out
    assert "passed over: image photos/b.png cannot be decoded" in err
    assert "1 of 2 images could not be read" in err
    assert (tmp_path / "predictions" / "a.png").is_file()
