"""Small networks as .onnx files, made on the spot: a teacher that points at what is bright, and a detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from posestill.deploy.sidecar import FileFacts, describe, write_sidecar
from posestill.draw import write_image
from posestill.models.pose_model import PoseModel

SIDE = 32
"""px of the teacher's crops"""
AROUND = np.stack([np.linspace(-0.12, 0.12, 17), np.linspace(-0.2, 0.2, 17)], axis=1)
"""(17, 2) x y: where each keypoint lies about the middle of what is bright, as shares of the crop"""


def write_teacher(path: Path, *, confidence: float = 0.9, sure: int = 17) -> Path:
    """A network like MoveNet's: 17 keypoints around the middle of what is bright.

    The first `sure` keypoints have the confidence, the others a tenth of it.
    """
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    along = np.arange(SIDE, dtype=np.float32) / SIDE + 0.5 / SIDE
    scores = np.where(np.arange(17) < sure, confidence, confidence / 10).astype(np.float32).reshape(1, 1, 17, 1)
    constants = {
        "x": along.reshape(1, 1, SIDE, 1),
        "y": along.reshape(1, SIDE, 1, 1),
        "tiny": np.full((1, 1, 1, 1), 1e-3, dtype=np.float32),
        "dx": AROUND[:, 0].astype(np.float32).reshape(1, 1, 17, 1),
        "dy": AROUND[:, 1].astype(np.float32).reshape(1, 1, 17, 1),
        "scores": scores,
        "axes": np.array([1, 2, 3], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["bright"], to=kind.FLOAT),
        helper.make_node("Mul", ["bright", "bright"], ["squared"]),
        helper.make_node("Mul", ["squared", "squared"], ["spots"]),  # grey counts for next to nothing
        helper.make_node("ReduceSum", ["spots", "axes"], ["dark_total"], keepdims=1),
        helper.make_node("Add", ["dark_total", "tiny"], ["total"]),
    ]
    for axis in "xy":
        nodes += [
            helper.make_node("Mul", ["spots", axis], [f"weighted_{axis}"]),
            helper.make_node("ReduceSum", [f"weighted_{axis}", "axes"], [f"sum_{axis}"], keepdims=1),
            helper.make_node("Div", [f"sum_{axis}", "total"], [f"middle_{axis}"]),
            helper.make_node("Add", [f"middle_{axis}", f"d{axis}"], [f"place_{axis}"]),
        ]
    nodes.append(helper.make_node("Concat", ["place_y", "place_x", "scores"], ["keypoints"], axis=3))
    given = helper.make_tensor_value_info("image", kind.INT32, [1, SIDE, SIDE, 3])
    found = helper.make_tensor_value_info("keypoints", kind.FLOAT, [1, 1, 17, 3])
    return _write(path, nodes, given, found, constants)


def write_exported(path: Path, model: PoseModel) -> Path:
    """A network with a sidecar as `posestill export` writes it for a heatmap model: its maps show what is bright.

    It says that it is `model`, whose weights it has not, and takes milliseconds where an export takes seconds.
    """
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    count, (height, width) = len(model.skeleton), model.config.size
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = [count, height // 2, width // 2]
    weight = np.random.default_rng(0).uniform(0, 1, (count, 3, 2, 2)) / (12 * 255)
    nodes = [helper.make_node("Conv", ["image", "weight"], ["maps"], kernel_shape=[2, 2], strides=[2, 2])]
    given = helper.make_tensor_value_info("image", kind.FLOAT, ["batch", 3, height, width])
    found = helper.make_tensor_value_info("maps", kind.FLOAT, ["batch", *shape])
    _write(path, nodes, given, found, {"weight": weight.astype(np.float32)})
    facts = FileFacts("onnx", "fp32", "outside", "nchw", input_name="image", batch=None, outputs={"maps": shape})
    write_sidecar(path, describe(model, facts, parameters=1, macs=1))
    return path


def write_detector(
    path: Path, *, box: tuple[float, float, float, float] = (0.25, 0.1, 0.75, 0.9), scored: float = 0.9
) -> Path:
    """A network like MoveNet MultiPose: one person in `box` (x1 y1 x2 y2, shares) of every picture that is not dark."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    people = np.zeros((1, 6, 56), dtype=np.float32)
    people[0, 0, 51:] = [box[1], box[0], box[3], box[2], 0.0]
    score = np.zeros((1, 6, 56), dtype=np.float32)
    score[0, 0, 55] = scored
    constants = {
        "people_without": people, "score": score, "threshold": np.array(20.0, dtype=np.float32),
        "axes": np.array([0, 1, 2, 3], dtype=np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["bright"], to=kind.FLOAT),
        helper.make_node("ReduceMean", ["bright", "axes"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "threshold"], ["is_light"]),
        helper.make_node("Cast", ["is_light"], ["light"], to=kind.FLOAT),
        helper.make_node("Mul", ["score", "light"], ["seen"]),
        helper.make_node("Add", ["people_without", "seen"], ["people"]),
    ]
    given = helper.make_tensor_value_info("image", kind.INT32, [1, "height", "width", 3])
    found = helper.make_tensor_value_info("people", kind.FLOAT, [1, 6, 56])
    return _write(path, nodes, given, found, constants)


def write_photos(folder: Path, count: int, *, dark: int = 0, size: tuple[int, int] = (60, 40)) -> Path:
    """Pictures with a bright spot, 1.png and so on, the last `dark` of them black; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        write_image(folder / f"{number}.png", photo(number, size) * (number <= count - dark))
    return folder


def photo(number: int, size: tuple[int, int] = (60, 40)) -> np.ndarray:
    """(H, W, 3) uint8 RGB: grey, with a bright spot whose place follows from the number."""
    image = np.full((*size, 3), 30, dtype=np.uint8)
    x, y = spot(number, size)
    cv2.circle(image, (x, y), 5, (255, 255, 255), -1)
    return image


def spot(number: int, size: tuple[int, int] = (60, 40)) -> tuple[int, int]:
    """Where the spot of such a picture is, x y."""
    rng = np.random.default_rng(number)
    return int(rng.integers(12, size[1] - 12)), int(rng.integers(12, size[0] - 12))


def write_video(path: Path, frames: int, *, size: tuple[int, int] = (60, 40)) -> Path:
    """A video of such pictures, 10 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size[::-1])
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for number in range(frames):
        writer.write(photo(number, size)[:, :, ::-1])
    writer.release()
    return path


def _write(path: Path, nodes: list, given: object, found: object, constants: dict[str, np.ndarray]) -> Path:
    import onnx

    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "network", [given], [found], initializer=weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
