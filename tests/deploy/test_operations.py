import numpy as np
import pytest

from posestill.deploy.operations import counted


def test_what_a_file_calculates_is_counted_by_hand(tmp_path):
    pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    from tests.teachers.networks import helper, save

    constants = {
        "w": np.ones((5, 3, 3, 3), dtype=np.float32),
        "m": np.ones((8, 7), dtype=np.float32),
        "axes": np.array([0, -1, 8], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["seen"], pads=[1, 1, 1, 1]),  # 5 maps of 4 x 6, from 3 x 3 x 3 each
        helper.make_node("Reshape", ["seen", "axes"], ["flat"]),  # 5 x 24 numbers as 15 x 8
        helper.make_node("MatMul", ["flat", "m"], ["y"]),  # 15 x 7 numbers, from 8 each
    ]
    path = save(tmp_path / "a.onnx", nodes, ["N", 3, 4, 6], {"y": None}, constants=constants)
    assert counted(path) == (135 + 56, 5 * 24 * 27 + 15 * 7 * 8)
    assert onnx is not None


def test_of_a_file_that_cannot_be_read_nothing_is_said(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no network")
    assert counted(tmp_path / "a.onnx") == (None, None)
    assert counted(tmp_path / "a.pt2") == (None, None)
