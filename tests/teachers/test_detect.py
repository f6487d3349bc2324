import numpy as np
import pytest

from posestill.data.coco import CocoSource
from posestill.schema import UserError
from posestill.teachers.detect import open_detector
from posestill.teachers.one_stage import overlap
from tests.conftest import shared_folder
from tests.networks import photo, write_detector, write_teacher


def test_a_detector_finds_people_with_their_boxes(tmp_path):
    detector = open_detector(write_detector(tmp_path / "d.onnx"))
    found = detector(photo(1, (64, 64)))
    np.testing.assert_allclose(found.boxes, [[16, 6.4, 32, 51.2]], atol=1e-3)
    assert found.score == pytest.approx([0.9])
    assert len(detector(photo(1) * 0).boxes) == 0
    assert len(open_detector(tmp_path / "d.onnx", threshold=0.95)(photo(1)).boxes) == 0


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
