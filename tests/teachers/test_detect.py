import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from posestill.data.coco import CocoSource
from posestill.schema import UserError
from posestill.teachers.detect import FileDetector, open_detector
from posestill.teachers.one_stage import overlap
from tests.conftest import shared_folder
from tests.networks import photo, write_detector, write_teacher
from tests.saved import save_detector


def test_a_detector_finds_people_with_their_boxes(tmp_path):
    detector = open_detector(write_detector(tmp_path / "d.onnx"))
    found = detector(photo(1, (64, 64)))
    np.testing.assert_allclose(found.boxes, [[16, 6.4, 32, 51.2]], atol=1e-3)
    assert found.score == pytest.approx([0.9])
    assert len(detector(photo(1) * 0).boxes) == 0
    assert len(open_detector(tmp_path / "d.onnx", threshold=0.95)(photo(1)).boxes) == 0


def test_a_low_threshold_lets_in_people_who_are_scored_low(tmp_path):
    write_detector(tmp_path / "d.onnx", scored=0.1)
    assert len(open_detector(tmp_path / "d.onnx", threshold=0.05)(photo(1)).boxes) == 1
    assert len(open_detector(tmp_path / "d.onnx", threshold=0.2)(photo(1)).boxes) == 0


def test_a_file_that_finds_nobody_is_no_detector(tmp_path):
    path = write_teacher(tmp_path / "t.onnx")
    with pytest.raises(UserError, match=r"detector: t\.onnx \(layout movenet\) sees one person a crop and gives no"):
        open_detector(path)
    with pytest.raises(UserError, match=r"^detector: no file .*gone\.onnx"):
        open_detector(tmp_path / "gone.onnx")


def test_movenet_multipose_finds_most_large_people_of_photographs(coco_sample):
    path = shared_folder() / "models" / "movenet-multipose.onnx"
    if not path.is_file():
        pytest.skip("movenet-multipose.onnx is not on this machine (set POSESTILL_SHARED to its folder's parent)")
    pytest.importorskip("onnxruntime")
    detector = open_detector(path)
    source = CocoSource(coco_sample / "annotations" / "all.json", images=coco_sample / "images")
    found = {image_id: detector(source.image(image_id)).boxes for image_id in source.image_ids}
    large = [
        person for person in source.people
        if person.bbox[2:].prod() > 0.05 * np.prod(source.image(person.image_id).shape[:2]) and not person.crowd
    ]  # fmt: skip
    hits = [len(found[each.image_id]) and overlap(found[each.image_id], each.bbox).max() > 0.5 for each in large]
    assert np.mean(hits) > 0.6


def test_a_detector_of_transformers_gives_its_persons_in_px_of_the_picture_surest_first(tmp_path):
    network = save_detector(tmp_path, labels=("person",))
    picture = photo(1, (60, 90))
    found = open_detector(tmp_path, threshold=0.0)(picture)
    given = torch.nn.functional.interpolate(
        torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255, (64, 64), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        answer = network(pixel_values=given)
    score = answer.logits.sigmoid()[0, :, 0]  # (queries,)
    surest = score.argmax()
    x, y, width, height = (answer.pred_boxes[0, surest] * torch.tensor([90, 60, 90, 60])).tolist()
    assert found.score[0] == pytest.approx(score[surest].item(), abs=0.02)
    np.testing.assert_allclose(found.boxes[0], [x - width / 2, y - height / 2, width, height], atol=2)
    assert (np.diff(found.score) <= 0).all()
    assert len(open_detector(tmp_path, threshold=1.0)(picture).boxes) == 0


def test_what_is_no_person_is_left_out_and_the_surest_comes_first(tmp_path, monkeypatch):
    save_detector(tmp_path, ("car", "person"))
    detector = open_detector(tmp_path)
    found = {
        "labels": torch.tensor([0, 1, 1]),
        "scores": torch.tensor([0.9, 0.5, 0.75]),
        "boxes": torch.tensor([[0.0, 0, 4, 4], [1, 2, 4, 8], [0, 0, 2, 2]]),  # corners
    }
    monkeypatch.setattr(detector.processor, "post_process_object_detection", lambda *given, **told: [found])
    people = detector(photo(1))
    assert people.boxes.tolist() == [[0, 0, 2, 2], [1, 2, 3, 6]]
    assert people.score.tolist() == [0.75, 0.5]


def test_a_detector_without_a_class_of_persons_is_refused(tmp_path):
    save_detector(tmp_path, labels=("car", "dog"))
    with pytest.raises(UserError, match=r"^detector: .* knows no person \(its classes: car, dog, \.\.\.\)$"):
        open_detector(tmp_path)


def test_a_detector_of_the_hub_needs_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r'hf:owner/detector needs the package transformers.*posestill\[hf\]"$'):
        open_detector(Path("hf:owner/detector"))


def test_what_is_missing_is_said_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = tmp_path / "d.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(UserError, match=r"^detector: d\.onnx needs the package onnxruntime, which .*pip install"):
        FileDetector(path)
