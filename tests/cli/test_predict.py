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


def test_images_of_one_name_are_refused(posestill, tmp_path):
    small_model().save(tmp_path / "model")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "a.png", np.zeros((9, 9, 3), dtype=np.uint8))
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "one", tmp_path / "two")
    assert (status, "several images are called a" in err) == (2, True)
