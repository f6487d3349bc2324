"""`posestill push`: what it says and writes; what is sent is tested in tests/deploy/test_push.py."""

import pytest

from tests.conftest import small_model

pytest.importorskip("huggingface_hub")


@pytest.fixture
def model(tmp_path):
    taught = small_model()
    taught.lineage = {"teacher": {"file": "movenet.onnx"}}
    taught.save(tmp_path / "model")
    (tmp_path / "model" / "me.jpg").write_bytes(b"a picture")
    return tmp_path / "model"


def test_a_dry_run_prints_files_and_card_and_sends_and_writes_nothing(posestill, model, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    status, out, err = posestill("push", model, "me/small", "--licence", "mit", "--dry-run")
    assert status == 0, err
    assert "bytes  model.safetensors" in out
    assert "pipeline_tag: keypoint-detection" in out
    assert out.splitlines()[-1] == "nothing was sent"
    assert sorted(tmp_path.rglob("*")) == before


def test_it_says_what_stays_here_and_that_the_teacher_has_no_name(posestill, model):
    _, out, _ = posestill("push", model, "me/small", "--licence", "mit", "--dry-run")
    assert "stays here: me.jpg" in out
    assert "give --base-model OWNER/NAME" in out
    _, out, _ = posestill("push", model, "me/small", "--licence", "mit", "--dry-run", "--base-model", "them/large")
    assert "give --base-model OWNER/NAME" not in out
    assert "base_model: them/large" in out


def test_into_a_folder_it_writes_what_would_be_sent(posestill, model, tmp_path):
    status, out, err = posestill("push", model, "me/small", "--licence", "mit", "--out", tmp_path / "o")
    assert status == 0, err
    written = {path.name for path in (tmp_path / "o").iterdir()}
    assert written == {"README.md", "config.json", "model.safetensors", ".posestill"}
    assert out.splitlines()[-1] == f"nothing was sent; it is in {tmp_path / 'o'}"


def test_a_licence_must_be_named(posestill, model):
    status, _, err = posestill("push", model, "me/small", "--dry-run")
    assert (status, "--licence" in err) == (2, True)
