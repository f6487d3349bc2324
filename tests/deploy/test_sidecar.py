import json

import pytest

from posestill.deploy.sidecar import licences, read_sidecar, sidecar_path
from posestill.schema import UserError, validate
from posestill.teachers.layouts import LayoutConfig, layout_beside


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
