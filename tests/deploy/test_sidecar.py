import json

import pytest

from posestill.deploy.sidecar import FileFacts, layout_of, licences, read_sidecar, sidecar_path
from posestill.schema import UserError, validate
from posestill.skeletons import from_category
from posestill.teachers.keypoint_sets import keypoint_set
from posestill.teachers.layouts import LayoutConfig, layout_beside
from tests.conftest import small_model


def test_a_sidecar_says_what_whoever_runs_the_file_must_know(exported):
    path, model = exported
    told = read_sidecar(path)
    assert told["size"] == [32, 24]
    assert told["input"] == {
        "name": "image", "order": "nchw", "dtype": "float32", "batch": None, "colours": "rgb", "range": [0, 255],
    }  # fmt: skip
    assert told["outputs"] == {"maps": [4, 16, 12]}
    assert told["codec"]["name"] == "heatmap"
    assert told["skeleton"]["names"] == list(model.skeleton.names)
    assert told["parameters"] == sum(each.numel() for each in model.parameters())
    assert told["normalisation"]["mean"] == pytest.approx(model.mean.flatten().tolist())
    assert (told["precision"], told["decode"], told["licence"]) == ("fp32", "outside", [])


def test_its_layout_is_one_that_teachers_are_read_by(exported):
    path, model = exported
    found = layout_beside(path)
    assert found == validate(LayoutConfig, read_sidecar(path)["layout"], where="test")
    assert found.size == (32, 24)
    assert found.codec == model.config.codec


def test_a_file_without_a_sidecar_is_somebody_elses(tmp_path):
    assert read_sidecar(tmp_path / "a.onnx") is None
    assert layout_beside(tmp_path / "a.onnx") is None
    (tmp_path / "a.onnx.json").write_text('{"format": "theirs"}')
    assert read_sidecar(tmp_path / "a.onnx") is None
    assert layout_beside(tmp_path / "a.onnx") is None


def test_another_version_or_a_broken_sidecar_is_refused(exported, tmp_path):
    content = {**read_sidecar(exported[0]), "version": 99}
    sidecar_path(tmp_path / "a.pt2").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is of version 99, and this posestill reads 1: export the model again"):
        read_sidecar(tmp_path / "a.pt2")
    sidecar_path(tmp_path / "a.pt2").write_text("{")
    with pytest.raises(UserError, match=r"a.pt2.json is not valid JSON"):
        read_sidecar(tmp_path / "a.pt2")


def test_licences_are_those_of_the_student_and_of_its_teachers_once_each():
    lineage = {
        "pretrained_licence": "apache-2.0",
        "teacher": {"licence": "cc-by-nc-4.0", "lineage": [{"licence": "apache-2.0"}, {"licence": None}]},
    }
    assert licences(lineage) == ["apache-2.0", "cc-by-nc-4.0"]


def test_the_layout_brings_partners_and_spreads_to_whoever_learns_from_the_file():
    told = {"flip_pairs": [[0, 1]], "sigmas": [0.05, 0.06, 0.07]}
    skeleton = from_category({"name": "fish", "keypoints": ["p", "q", "r"]}, told)
    model = small_model("heatmap", skeleton=skeleton)
    facts = FileFacts("onnx", "fp32", "outside", "nchw", "image", None, {"maps": [3, 8, 6]})
    layout = validate(LayoutConfig, layout_of(model, facts), where="layout")
    read = keypoint_set(layout.keypoints, count=3, where="layout", told=layout.told_of_keypoints)
    assert (read.swap, read.oks_sigmas) == (skeleton.swap, skeleton.oks_sigmas)
