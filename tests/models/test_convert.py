import pytest
import torch
from typer.testing import CliRunner

from posestill.cli.main import app
from posestill.models.convert import convert_checkpoint
from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.models.published import PUBLISHED
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17
from tests.mmpose import filled, shapes_of
from tests.published import fill, plain_distilpose

PLAIN = plain_distilpose()


@pytest.fixture(scope="module")
def published():
    """DistilPose-S under its published names, with values that tell layers apart."""
    student = PLAIN.PlainDistilPose()
    fill(student)
    return student.eval()


def test_the_published_layout_has_the_230_entries_of_the_release(published):
    assert len(published.state_dict()) == 230


@pytest.mark.parametrize("nested", [True, False])
def test_a_converted_student_computes_what_the_published_one_does(published, nested, tmp_path):
    state = published.state_dict()
    torch.save({"state_dict": state, "meta": {"epoch": 300}} if nested else state, tmp_path / "s.pth")
    converted = convert_checkpoint(tmp_path / "s.pth", "distilpose-s")
    assert converted.unused == ()
    converted.model.save(tmp_path / "model")
    model = PoseModel.load(tmp_path / "model").double()
    plain = PLAIN.PlainDistilPose().double().eval()
    plain.load_state_dict(state)
    image = torch.rand(3, 3, 256, 192, dtype=torch.float64)
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)
    with torch.no_grad():
        wanted, found = plain((image - mean) / std), model(image)
    cells = torch.tensor([48.0, 64.0], dtype=torch.float64)
    pairs = [
        (found.prediction.xy, wanted["xy"]),
        (found.prediction.score, wanted["score"][..., 0]),
        (found.prediction.scale * cells, wanted["sigma"]),
        (found.tokens.visual, wanted["vis_token"]),
        (found.tokens.keypoint, wanted["kpt_token"]),
    ]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_converted_students_flip_test_is_the_published_one_with_the_scores_swapped(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "s.pth")
    model = convert_checkpoint(tmp_path / "s.pth", "distilpose-s").model
    image = torch.rand(2, 3, 256, 192)
    found = model.predict(image, flip_test=True)
    one, other = model(image).prediction, model(image.flip(-1)).prediction
    swap = list(COCO_17.swap)
    x = (one.xy[..., 0] + 1 - other.xy[:, swap, 0]) / 2
    y = (one.xy[..., 1] + other.xy[:, swap, 1]) / 2
    torch.testing.assert_close(found.xy, torch.stack([x * 192, y * 256], dim=-1))
    torch.testing.assert_close(found.score, (one.score + other.score[:, swap]) / 2)


def renamed(model, *, teacher):
    """Our model's weights under the published names, written here by hand and not by convert.py's table."""
    words = [("head.keypoint_tokens", "keypoint_token"), ("head.position", "pos_embedding"),
             ("head.embed", "patch_to_embedding"), ("attention_norm", "0.fn.norm"), ("mlp_norm", "1.fn.norm"),
             ("qkv", "0.fn.fn.to_qkv"), ("merge", "0.fn.fn.to_out.0"), ("mlp.0", "1.fn.fn.net.0"),
             ("mlp.2", "1.fn.fn.net.3"), ("head.layers", "transformer.layers"), ("head.output.layers", "mlp_head"),
             ("head.output.norm", "mlp_head.0"), ("head.output.linear", "mlp_head.1")]  # fmt: skip
    state = {}
    for key, value in model.state_dict().items():
        if not key.startswith("backbone."):
            for ours, theirs in words:
                key = key.replace(ours, theirs)
            key = f"keypoint_head.{'tokenpose' if teacher else 'tokenhead'}.{key}"
        state[key] = value
    return state


@pytest.mark.release
@pytest.mark.parametrize("layout", ["distilpose-l", "tokenpose-hr48"])
def test_the_larger_published_layouts_convert(layout, tmp_path):
    model = PoseModel(validate(ModelConfig, PUBLISHED[layout].model, where="test"), COCO_17)
    fill(model)
    torch.save({"state_dict": renamed(model, teacher=layout == "tokenpose-hr48")}, tmp_path / "m.pth")
    converted = convert_checkpoint(tmp_path / "m.pth", layout)
    assert converted.unused == ()
    for name, value in model.state_dict().items():
        assert torch.equal(converted.model.state_dict()[name], value), name


def test_keys_that_do_not_fit_are_named(published, tmp_path):
    state = dict(published.state_dict())
    torch.save({**state, "teacher.backbone.conv1.weight": torch.zeros(1)}, tmp_path / "more.pth")
    out = CliRunner().invoke(
        app, ["convert", str(tmp_path / "more.pth"), "--from", "distilpose-s", "--out", str(tmp_path / "more")]
    )
    assert "not used: teacher.backbone.conv1.weight" in out.output
    assert "5,364,101 parameters, every key fits, 1 not used" in out.output
    assert PoseModel.load(tmp_path / "more").lineage["published_as"] == "distilpose-s of DistilPose, CVPR 2023"

    torch.save({key: value for key, value in state.items() if "to_qkv" not in key}, tmp_path / "less.pth")
    with pytest.raises(UserError, match=r"12 keys do not fit\n  missing head.layers.0.qkv.weight"):
        convert_checkpoint(tmp_path / "less.pth", "distilpose-s")
    state["keypoint_head.tokenhead.mlp_head.1.weight"] = torch.zeros(2, 192)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"mlp_head.1.weight is \(2, 192\), wanted \(5, 192\)"):
        convert_checkpoint(tmp_path / "other.pth", "distilpose-s")


def test_what_is_no_checkpoint_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no such layout; did you mean 'distilpose-s'"):
        convert_checkpoint(tmp_path / "s.pth", "distilpose-m")
    with pytest.raises(UserError, match="no checkpoint"):
        convert_checkpoint(tmp_path / "s.pth", "distilpose-s")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="cannot be read as weights"):
        convert_checkpoint(tmp_path / "text.pth", "distilpose-s")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(UserError, match="holds no state_dict"):
        convert_checkpoint(tmp_path / "epoch.pth", "distilpose-s")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_run"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="cannot be read as weights"):
        convert_checkpoint(tmp_path / "evil.pth", "distilpose-s")
    assert not (tmp_path / "was_run").exists()


def as_mmengine_averages(state):
    """mmengine's file of a run with averaging: the averaged weights stand in `state_dict`, the others beside it."""
    others = {f"module.{key}": torch.zeros_like(value) for key, value in state.items()}
    return {"state_dict": state, "ema_state_dict": {**others, "steps": torch.tensor(9)}, "meta": {"epoch": 9}}


def as_mmcv_averages(state):
    """mmcv's: the averaged weights have the names, the others have these with underscores behind `ema_`."""
    return {"state_dict": {**state, **{f"ema_{key.replace('.', '_')}": value * 0 for key, value in state.items()}}}


WRAPPED = {
    "bare": lambda state: state,
    "nested": lambda state: {"state_dict": state},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "averages alone": lambda state: {
        "ema_state_dict": {**{f"module.{key}": value for key, value in state.items()}, "steps": torch.tensor(9)}
    },
    "mmengine's averages": as_mmengine_averages,
    "mmcv's averages": as_mmcv_averages,
    "with its preprocessor": lambda state: {"state_dict": {**state, "data_preprocessor.mean": torch.zeros(3, 1, 1)}},
    "before mmpose 1.0": lambda state: {
        key.replace("head.", "keypoint_head.") if key.startswith("head.") else key: value
        for key, value in state.items()
    },
}


@pytest.fixture(scope="module")
def rtmpose():
    return filled(shapes_of("rtmpose-t"))


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_whatever_wraps_the_weights_is_taken_off(rtmpose, wrapped, tmp_path):
    torch.save(WRAPPED[wrapped](rtmpose), tmp_path / "t.pth")
    converted = convert_checkpoint(tmp_path / "t.pth", "rtmpose-t")
    assert converted.unused == ()
    found = converted.model.state_dict()
    assert torch.equal(found["backbone.stem.0.conv.weight"], rtmpose["backbone.stem.0.conv.weight"])
    assert torch.equal(found["head.unit.expand.weight"], rtmpose["head.gau.uv.weight"])


def test_a_flow_that_only_trained_is_passed_over_and_what_is_unknown_is_told(tmp_path):
    state = filled(shapes_of("rle-r50"))
    flow = {
        "head.loss_module.flow_model.mask": torch.zeros(6, 2),
        "head.loss_module.flow_model.s.0.0.weight": torch.zeros(64, 2),
    }
    torch.save({**state, **flow, "auxiliary.weight": torch.zeros(1)}, tmp_path / "r.pth")
    converted = convert_checkpoint(tmp_path / "r.pth", "rle-r50")
    assert converted.unused == ("auxiliary.weight",)
    with torch.no_grad():
        answer = converted.model.head((torch.rand(1, 2048, 8, 6),))
    # The published head gives x, y and the logits of two spreads, keypoint after keypoint.
    assert torch.equal(converted.model.head.coordinates.bias, state["head.fc.bias"])
    assert answer.scale.min() > 0
    assert answer.scale.max() < 1


def test_a_checkpoint_of_another_network_and_tensors_that_do_not_fit_are_named(rtmpose, tmp_path):
    path = tmp_path / "t.pth"
    torch.save(rtmpose, path)
    with pytest.raises(UserError, match=r"is no rtmpose-s: \d+ keys do not fit"):
        convert_checkpoint(path, "rtmpose-s")
    with pytest.raises(UserError, match=r"is no deeppose-r50: what tells the number of its keypoints .* is not there"):
        convert_checkpoint(path, "deeppose-r50")
    torch.save({**rtmpose, "backbone.stem.0.conv.weight": torch.zeros(16, 3, 3, 3)}, path)
    with pytest.raises(UserError, match=r"stem\.0\.conv\.weight is \(16, 3, 3, 3\), wanted \(12, 3, 3, 3\)$"):
        convert_checkpoint(path, "rtmpose-t")
    torch.save({key: value for key, value in rtmpose.items() if key != "head.gau.ln.g"}, path)
    with pytest.raises(UserError, match=r"1 keys do not fit\n  missing head\.unit\.norm\.scale$"):
        convert_checkpoint(path, "rtmpose-t")
