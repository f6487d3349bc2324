import numpy as np
import pytest
import torch

from posestill.deploy import decoder, runtimes
from posestill.deploy.runtimes import ExportedNetwork, choose_targets, open_any
from posestill.schema import UserError


def test_a_misspelt_runtime_is_answered_with_the_right_one():
    with pytest.raises(UserError, match="--to: no runtime 'onx'; did you mean 'onnx'"):
        choose_targets(["onx"])
    with pytest.raises(UserError, match="--to names no runtime"):
        choose_targets([])


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnx", "onnxscript", "export"), ("openvino", "openvino", "export"), ("litert", "litert_torch", "litert")],
)
def test_a_missing_runtime_is_named_with_its_extra(monkeypatch, name, package, extra):
    real = runtimes.importlib.util.find_spec
    others = {each for target in runtimes.TARGETS.values() for each in target.packages} - {package}
    monkeypatch.setattr(
        runtimes.importlib.util, "find_spec", lambda wanted: "there" if wanted in others else
        None if wanted == package else real(wanted),
    )  # fmt: skip
    with pytest.raises(UserError) as error:
        choose_targets([name])
    told = f'--to {name} needs the package {package}, which is not installed: pip install "posestill[{extra}]"'
    assert str(error.value) == told


def test_eight_bits_need_a_runtime_that_has_them():
    with pytest.raises(UserError, match="--int8 makes files for onnx and openvino, which --to does not name"):
        choose_targets(["pt2"], int8=True)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_torch_export_file_runs_at_any_batch(exported, batch):
    path, model = exported
    network = ExportedNetwork(path)
    crops = np.random.default_rng(0).integers(0, 256, (batch, 32, 24, 3), dtype=np.uint8)
    found = network(decoder.tensor(crops, network.told))
    with torch.no_grad():
        wanted = model(torch.from_numpy(crops).permute(0, 3, 1, 2)).prediction.maps
    np.testing.assert_allclose(found["maps"], wanted, atol=1e-5)


def test_a_broken_file_is_one_line(exported, tmp_path):
    (tmp_path / "cut.pt2").write_bytes(exported[0].read_bytes()[:500])
    with pytest.raises(UserError, match="cut.pt2 cannot be read by torch.export") as error:
        open_any(tmp_path / "cut.pt2")
    assert "\n" not in str(error.value)
    pytest.importorskip("onnxruntime")
    (tmp_path / "cut.onnx").write_bytes(b"no network at all")
    with pytest.raises(UserError, match=r"^\S+cut.onnx is no whole ONNX file") as error:
        open_any(tmp_path / "cut.onnx")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no file"):
        open_any(tmp_path / "nowhere.pt2")


def test_an_exported_file_needs_its_sidecar(exported, tmp_path):
    (tmp_path / "alone.pt2").write_bytes(exported[0].read_bytes())
    with pytest.raises(UserError, match="has no alone.pt2.json beside it"):
        ExportedNetwork(tmp_path / "alone.pt2")


def test_a_file_of_one_crop_a_call_is_called_for_each(exported, monkeypatch):
    network = ExportedNetwork(exported[0])
    network.told["input"]["batch"] = 1
    seen = []
    real = network.network._run
    monkeypatch.setattr(network.network, "_run", lambda given: (seen.append(len(given["image"])), real(given))[1])
    assert network(np.zeros((3, 3, 32, 24), dtype=np.float32))["maps"].shape == (3, 4, 16, 12)
    assert seen == [1, 1, 1]
