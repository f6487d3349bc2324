import numpy as np
import pytest
import torch

from posestill.deploy.bench import Candidate
from posestill.deploy.subject import open_subject
from posestill.schema import UserError
from tests.deploy.conftest import a_model


def test_a_model_folder_is_run_with_its_norms_folded_or_as_it_is(tmp_path):
    model = a_model("coords")
    model.save(tmp_path / "model")
    for plain in (False, True):
        subject = open_subject(Candidate(tmp_path / "model", plain=plain), 2, 1)
        assert subject.network().prediction.xy.shape == (2, 4, 2)
        assert subject.answer().xy.shape == (2, 4, 2)
        assert subject.about["parameters"] == sum(each.numel() for each in model.parameters())
        assert subject.about["size"] == (tmp_path / "model" / "model.safetensors").stat().st_size


def test_an_exported_file_tells_what_its_model_cost(exported):
    path, model = exported
    subject = open_subject(Candidate(path), 3, 1)
    assert subject.network()["maps"].shape == (3, 4, 16, 12)
    assert subject.answer().shape == (3, 4, 3)
    assert subject.about["runtime"] == "torch.export fp32"
    assert subject.about["parameters"] == sum(each.numel() for each in model.parameters())


def test_somebody_elses_file_is_run_by_its_layout(tmp_path):
    pytest.importorskip("onnxruntime")
    from tests.networks import write_teacher

    subject = open_subject(Candidate(write_teacher(tmp_path / "a.onnx"), layout="movenet"), 3, 1)
    assert len(subject.network()) == 3  # the file takes one crop a call
    found = subject.answer()
    assert found.xy.shape == (3, 17, 2)
    assert torch.isfinite(found.xy).all()
    assert subject.about["runtime"] == "ONNX Runtime"
    assert np.isfinite(subject.about["size"])


def test_what_cannot_be_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no model folder and no file"):
        open_subject(Candidate(tmp_path / "nowhere"), 1, 1)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match="is no model folder and none of .onnx, .xml, .tflite, .pt2"):
        open_subject(Candidate(tmp_path / "a.txt"), 1, 1)
    (tmp_path / "a.pt2").write_text("a")
    with pytest.raises(UserError, match="has no a.pt2.json beside it"):
        open_subject(Candidate(tmp_path / "a.pt2"), 1, 1)
