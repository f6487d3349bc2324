import os

import numpy as np
import pytest
import torch

from posestill.deploy import decoder, write
from posestill.deploy.runtimes import TARGETS, ExportedNetwork, installed
from posestill.deploy.sidecar import read_sidecar
from posestill.deploy.write import Writer, macs_of
from posestill.schema import UserError
from tests.deploy.conftest import KINDS, a_model

PRECISION_PX = {"fp32": 0.01, "fp16": 0.5}
"""px of the crop by which the median keypoint may be off"""
kinds = pytest.mark.parametrize("kind", sorted(KINDS))
targets = pytest.mark.parametrize("target", sorted(TARGETS))


def needs(target):
    if not installed(TARGETS[target]):
        pytest.skip(f"posestill[{TARGETS[target].extra}] is not installed")


def off(model, path, batch=5):
    """(B, K) px between the keypoints of a file and of its model."""
    crops = np.random.default_rng(0).integers(0, 256, (batch, *model.config.size, 3), dtype=np.uint8)
    network = ExportedNetwork(path)
    found = decoder.decode(network(decoder.tensor(crops, network.told)), network.told)
    wanted = model.predict(torch.from_numpy(crops).permute(0, 3, 1, 2))
    return np.linalg.norm(found[..., :2] - wanted.xy.numpy(), axis=-1)


@pytest.mark.slow
@kinds
@targets
def test_every_kind_of_model_says_the_same_in_every_runtime_at_any_batch(kind, target, tmp_path):
    needs(target)
    model = a_model(kind)
    for precision, most in PRECISION_PX.items():
        path = Writer(model, tmp_path).write(TARGETS[target], precision)
        for batch in (1, 5):
            assert np.median(off(model, path, batch)) < most, precision
    if kind in ("coords", "agent"):  # which decode as others here do
        return
    inside = Writer(model, tmp_path, "inside").write(TARGETS[target], "fp32")
    assert list(read_sidecar(inside)["outputs"]) == ["keypoints"]
    assert np.median(off(model, inside)) < PRECISION_PX["fp32"]


@pytest.mark.slow
def test_a_file_in_half_precision_is_half_as_large(tmp_path):
    needs("onnx")
    model = a_model("coords")
    sizes = [Writer(model, tmp_path).write(TARGETS["onnx"], each).stat().st_size for each in ("fp32", "fp16")]
    weights = 4 * sum(each.numel() for each in model.parameters())
    kept = 4 * sum(each.numel() for each in model.head.coordinates.parameters())
    assert sizes[0] - sizes[1] == pytest.approx((weights - kept) / 2, rel=0.2)


def test_what_a_converter_says_is_one_line(tmp_path, monkeypatch):
    def refuses(*_):
        raise RuntimeError("\n  operator gather is not known\n  at line 3")

    monkeypatch.setattr(write, "_write_onnx", refuses)
    with pytest.raises(UserError) as error:
        Writer(a_model("coords"), tmp_path, "inside").write(TARGETS["onnx"], "fp32")
    assert str(error.value) == (
        "--to onnx: ONNX Runtime cannot take this model: operator gather is not known; try --decode outside"
    )
    assert not list(tmp_path.iterdir())


def test_nothing_of_the_converters_noise_reaches_the_screen(capfd):
    with write.quiet():
        print("noise")
        os.write(1, b"noise")
        os.write(2, b"noise")
    print("said")
    assert capfd.readouterr() == ("said\n", "")


def test_macs_count_every_convolution_and_linear_layer():
    model, counted = a_model("coords"), []

    def count(layer, given, found):
        places = found.shape[-2:].numel() if found.ndim == 4 else 1
        counted.append(places * layer.weight.numel())

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    found = macs_of(model)
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 24))
    assert found == sum(counted[-len(counted) // 2 :])
