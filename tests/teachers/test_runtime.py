import importlib
from pathlib import Path

import numpy as np
import pytest

from posestill.schema import UserError
from posestill.teachers import runtime
from posestill.teachers.runtime import open_network
from tests.conftest import shared_folder
from tests.teachers.networks import helper, onnx, save, says


@pytest.fixture
def doubling(tmp_path):
    """y = relu(2 x), with `twice` inside."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["twice"]), helper.make_node("Relu", ["twice"], ["y"])]
    two = np.full((1, 3, 4, 5), 2, dtype=np.float32)
    return save(tmp_path / "doubling.onnx", nodes, ["N", 3, 4, 5], {"y": ["N", 3, 4, 5]}, constants={"two": two})


def message(path, **settings) -> str:
    with pytest.raises(UserError) as error:
        open_network(Path(path), **settings)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_onnx_file_tells_its_ports_and_is_run(doubling):
    network = open_network(doubling)
    assert network.describe() == "x (any, 3, 4, 5) float32 -> y (any, 3, 4, 5) float32"
    given = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(network({"x": given})["y"], np.maximum(2 * given, 0))


def test_an_inner_tensor_is_given_beside_the_files_own_outputs(doubling):
    network = open_network(doubling, also=("twice",))
    assert [port.name for port in network.outputs] == ["y"]
    assert network.inner == ("twice",)
    given = np.full((1, 3, 4, 5), -1, dtype=np.float32)
    found = network({"x": given})
    assert (found["twice"] == -2).all()
    assert (found["y"] == 0).all()


def test_the_same_network_is_had_with_another_number_of_threads(doubling):
    network = open_network(doubling, also=("twice",), threads=2)
    assert network.threads == 2
    assert network.with_threads(2) is network
    other = network.with_threads(1)
    assert other.threads == 1
    given = {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)}
    for name, each in network(given).items():
        np.testing.assert_array_equal(other(given)[name], each)
    assert other.inner == ("twice",)


def test_an_output_may_be_named_as_an_inner_tensor(doubling):
    network = open_network(doubling, also=("y",))
    assert [port.name for port in network.outputs] == ["y"]
    assert (network({"x": np.ones((1, 3, 4, 5), dtype=np.float32)})["y"] == 2).all()


def test_a_tensor_that_is_not_there_is_answered_with_some_that_are(doubling):
    told = message(doubling, also=("twise",))
    assert "doubling.onnx has no tensor 'twise'; did you mean 'twice'?" in told
    assert "twice (3, 4, 5)" in told


def test_arrays_that_the_network_does_not_take_are_a_short_message(doubling):
    with pytest.raises(UserError, match=r"doubling.onnx cannot be run on x \(1, 3, 4, 6\) float32") as error:
        open_network(doubling)({"x": np.zeros((1, 3, 4, 6), dtype=np.float32)})
    assert "\n" not in str(error.value)


def test_a_file_that_has_been_cut_off_says_so(doubling):
    content = doubling.read_bytes()
    for share in (0.1, 0.5, 0.95):
        doubling.write_bytes(content[: int(share * len(content))])
        assert "is no whole ONNX file" in message(doubling)


def test_files_that_are_no_networks_are_told_apart(tmp_path):
    wrong = {
        "empty.onnx": (b"", "is empty"),
        "text.onnx": (b"this is a text, not a network\n" * 9, "is no whole ONNX file"),
        "text.tflite": (b"this is a text, not a network\n" * 9, "is no TensorFlow Lite file"),
        "other.xml": (b"<page></page>", "is no network of OpenVINO's"),
        "model.pt": (b"PK", "none of .onnx, .tflite, .xml"),
    }
    for name, (content, words) in wrong.items():
        (tmp_path / name).write_bytes(content)
        assert words in message(tmp_path / name)
    assert "no file" in message(tmp_path / "nowhere.onnx")
    assert "is a folder" in message(tmp_path)


def test_a_graph_without_nodes_is_no_network(tmp_path):
    onnx.save(onnx.ModelProto(), str(tmp_path / "none.onnx"))
    (tmp_path / "none.onnx").write_bytes(b"\x08\x08")  # only a version
    assert "there is no graph in it" in message(tmp_path / "none.onnx")


def test_weights_in_a_file_of_their_own_must_lie_beside_it_and_be_whole(tmp_path):
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    outside = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    path = save(tmp_path / "outside.onnx", nodes, [1, 3, 4, 5], {"y": [1, 3, 4, 5]},
                constants={"w": np.full((1, 3, 4, 5), 3, dtype=np.float32)}, **outside)  # fmt: skip
    assert (open_network(path)({"x": np.ones((1, 3, 4, 5), dtype=np.float32)})["y"] == 3).all()
    assert open_network(path, also=("y",)).inner == ("y",)
    weights = tmp_path / "weights.data"
    weights.write_bytes(weights.read_bytes()[:17])
    assert "weights.data, with the weights of outside.onnx, has been cut off" in message(path)
    weights.unlink()
    assert "lie in weights.data, which is not beside it" in message(path)


@pytest.mark.parametrize(("name", "package"), [("a.onnx", "onnxruntime"), ("a.tflite", "openvino")])
def test_a_runtime_that_is_not_installed_is_named_with_the_extra(tmp_path, monkeypatch, name, package):
    (tmp_path / name).write_bytes(b"\x1c\0\0\0TFL3" * 4)
    real = importlib.import_module

    def lacking(wanted):
        if wanted == package:
            raise ModuleNotFoundError(f"No module named '{wanted}'")
        return real(wanted)

    monkeypatch.setattr(runtime.importlib, "import_module", lacking)
    told = message(tmp_path / name)
    assert told == f'{name} needs the package {package}, which is not installed: pip install "posestill[runtime]"'


def test_inner_tensors_need_the_package_onnx(doubling, monkeypatch):
    real = importlib.import_module
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)

    def lacking(wanted):
        if wanted == "onnx":
            raise ModuleNotFoundError(wanted)
        return real(wanted)

    monkeypatch.setattr(runtime.importlib, "import_module", lacking)
    assert open_network(doubling).outputs[0].name == "y"
    assert 'needs the package onnx, which is not installed: pip install "posestill[runtime]"' in message(
        doubling, also=("twice",)
    )


def test_openvino_runs_its_own_format_and_misses_the_weights(doubling, tmp_path):
    openvino = pytest.importorskip("openvino")
    openvino.save_model(openvino.Core().read_model(str(doubling)), str(tmp_path / "own.xml"), compress_to_fp16=False)
    network = open_network(tmp_path / "own.xml")
    assert [port.name for port in network.inputs] == ["x"]
    found = network({"x": np.full((2, 3, 4, 5), 1.5, dtype=np.float32)})
    assert (found["y"] == 3).all()
    assert network.with_threads(network.threads + 1).threads == network.threads + 1
    assert "inner tensors can be had of an .onnx file" in message(tmp_path / "own.xml", also=("twice",))
    (tmp_path / "own.bin").unlink()
    assert "its weights would lie in own.bin, which is not beside it" in message(tmp_path / "own.xml")


def test_a_tflite_file_that_has_been_cut_off_says_so(tmp_path):
    pytest.importorskip("openvino")
    whole = shared_folder() / "models" / "blazepose-lite.tflite"
    content = whole.read_bytes() if whole.is_file() else b"\x1c\0\0\0TFL3" + bytes(range(256)) * 40
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    assert "it may have been cut off; fetch it again" in message(tmp_path / "cut.tflite")


def test_a_network_that_says_one_thing_of_every_picture(tmp_path):
    """What the other tests stand on."""
    path = says(tmp_path / "n.onnx", ["N", 3, 2, 2], {"y": np.array([[1.0, 2.0]])}, follows=0.5)
    found = open_network(path, also=("seen",))({"x": np.stack([np.zeros((3, 2, 2)), np.ones((3, 2, 2))]).astype("f4")})
    np.testing.assert_array_equal(found["y"], [[[1, 2]], [[1.5, 2.5]]])
    assert found["seen"].shape == (2, 3, 2, 2)
