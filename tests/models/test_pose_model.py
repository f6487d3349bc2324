import json

import pytest
import torch

import posestill
from posestill.models.pose_model import PoseModel, build_model
from posestill.schema import UserError
from tests.conftest import DOTS, small_model, small_model_config


@pytest.mark.parametrize("kind", ["heatmap", "coords"])
def test_a_saved_model_loads_and_predicts_the_same(tmp_path, kind):
    model = small_model(kind).eval()
    image = torch.randint(0, 255, (2, 3, 32, 24), dtype=torch.uint8)
    model.lineage["teacher"] = {"path": "x"}
    model.save(tmp_path / "m")
    loaded = PoseModel.load(tmp_path / "m")
    for flip_test in (False, True):
        one, other = model.predict(image, flip_test=flip_test), loaded.predict(image, flip_test=flip_test)
        assert torch.equal(one.xy, other.xy)
        assert torch.equal(one.score, other.score)
    assert loaded.lineage == {"teacher": {"path": "x"}}
    assert loaded.skeleton == DOTS
    assert not loaded.training
    assert ("none" in json.loads((tmp_path / "m" / "config.json").read_text())["score"]) == (kind == "coords")


def test_bytes_and_fractions_of_them_are_the_same_image():
    model = small_model().eval()
    image = torch.randint(0, 255, (1, 3, 32, 24), dtype=torch.uint8)
    torch.testing.assert_close(model(image).prediction.maps, model(image.float() / 255).prediction.maps)


def test_prediction_leaves_batch_norm_and_the_mode_alone():
    model = small_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.predict(torch.rand(2, 3, 32, 24))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_flip_test_of_a_mirrored_image_is_the_mirror_of_its_flip_test():
    model = small_model("coords").eval()
    image = torch.rand(3, 3, 32, 24)
    one = model.predict(image, flip_test=True).xy
    other = model.predict(image.flip(-1), flip_test=True).xy[:, list(DOTS.swap)]
    torch.testing.assert_close(23 - one[..., 0], other[..., 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(one[..., 1], other[..., 1], atol=1e-4, rtol=0)


def test_an_image_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(UserError, match=r"crops of \(32, 24\) and was given \(64, 48\)"):
        small_model()(torch.rand(1, 3, 64, 48))


def test_a_head_that_does_not_fit_its_codec_is_found_at_build():
    with pytest.raises(UserError, match=r"maps of \(16, 12\).*expects \(8, 6\).*stride 4"):
        small_model(codec={"name": "heatmap", "stride": 4})
    with pytest.raises(UserError, match="returns Coords and the codec reads Heatmaps"):
        small_model(head="gap_fc")


def test_the_backbone_alone_is_taken_over(tmp_path):
    donor = small_model("heatmap", seed=1)
    donor.save(tmp_path / "donor")
    student = build_model(small_model_config("coords", init_from=f"{tmp_path / 'donor'}#backbone"), DOTS)
    for name, value in donor.backbone.state_dict().items():
        assert torch.equal(value, student.backbone.state_dict()[name])
    assert student.lineage["init_from"].endswith("#backbone")
    student.save(tmp_path / "student")
    assert PoseModel.load(tmp_path / "student").config.init_from is None  # its own weights are all there


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("#backbon", "no part 'backbon'; did you mean 'backbone'"),
        ("", "does not fit this model"),
        ("/no", "no weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_keys(tmp_path, part, message):
    small_model("heatmap").save(tmp_path / "donor")
    with pytest.raises(UserError, match=message):
        build_model(small_model_config("coords", init_from=f"{tmp_path / 'donor'}{part}"), DOTS)


def test_broken_and_missing_folders_are_explained(tmp_path):
    with pytest.raises(UserError, match="no model in .*a model folder holds"):
        PoseModel.load(tmp_path)
    small_model().save(tmp_path / "best")
    with pytest.raises(UserError, match="did you mean .*best"):
        PoseModel.load(tmp_path)
    weights = tmp_path / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match=r"model\.safetensors is broken"):
        PoseModel.load(tmp_path / "best")
    weights.unlink()
    with pytest.raises(UserError, match="no weights"):
        PoseModel.load(tmp_path / "best")
    settings = tmp_path / "best" / "config.json"
    settings.write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="not written by posestill"):
        PoseModel.load(tmp_path / "best")
    settings.write_text('{"format": "posestill", "model": {}}')
    with pytest.raises(UserError, match="lacks skeleton"):
        PoseModel.load(tmp_path / "best")
    settings.write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        PoseModel.load(tmp_path / "best")


def test_a_checkpoint_of_other_weights_is_refused_with_the_shapes(tmp_path):
    small_model().save(tmp_path / "m")
    described = json.loads((tmp_path / "m" / "config.json").read_text())
    described["model"]["backbone"]["channels"] = [8, 32]
    (tmp_path / "m" / "config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"does not fit .*is \(16, .*wanted \(32, "):
        PoseModel.load(tmp_path / "m")


def test_a_model_of_another_version_that_does_not_fit_is_told_in_one_line_that_names_both(tmp_path):
    small_model().save(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["version"] == posestill.__version__
    described["model"]["head"]["of_the_future"] = 1
    (tmp_path / "config.json").write_text(json.dumps({**described, "version": "9.1"}))
    with pytest.raises(
        UserError, match=r"^the model in [^\n]* was written by posestill 9\.1, and this is [^\n]*of_the_f"
    ):
        PoseModel.load(tmp_path)
    del described["model"]["head"]["of_the_future"]
    (tmp_path / "config.json").write_text(json.dumps({**described, "version": "9.1"}))
    assert PoseModel.load(tmp_path).skeleton == small_model().skeleton  # what fits is loaded
