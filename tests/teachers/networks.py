"""Networks of a few nodes, made on the spot: they say what a test wants, and show what they were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from posestill.types import Coords

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
TYPES = {"float32": FLOAT, "int32": onnx.TensorProto.INT32, "uint8": onnx.TensorProto.UINT8,
         "int8": onnx.TensorProto.INT8, "float16": onnx.TensorProto.FLOAT16}  # fmt: skip


def save(
    path: Path,
    nodes: Sequence,
    shape: Sequence,
    outputs: Mapping[str, Sequence | None],
    *,
    dtype: str = "float32",
    constants: Mapping[str, np.ndarray] | None = None,
    **saving: object,
) -> Path:
    """A file with one input `x`; a text in a shape stands for any size."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TYPES[dtype], shape)],
        [helper.make_tensor_value_info(name, FLOAT, each) for name, each in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path), **saving)
    return path


def says(
    path: Path,
    shape: Sequence,
    answers: Mapping[str, np.ndarray],
    *,
    dtype: str = "float32",
    follows: float = 0.0,
    known: bool = True,
) -> Path:
    """A file that gives each answer (without the batch) for every picture, more by `follows` x the picture's mean.

    Its inner tensor `seen` is what it was given. Without `known` the file does not tell the shapes of its outputs.
    """
    nodes = [
        helper.make_node("Cast", ["x"], ["seen"], to=FLOAT),
        helper.make_node("ReduceMean", ["seen"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "follows"], ["more"]),
    ]
    constants = {"follows": np.array(follows, dtype=np.float32)}
    outputs: dict[str, Sequence | None] = {}
    for name, answer in answers.items():
        constants[f"{name}_is"] = answer[None].astype(np.float32)
        constants[f"{name}_axes"] = np.array([-1, *[1] * answer.ndim], dtype=np.int64)
        nodes += [
            helper.make_node("Reshape", ["more", f"{name}_axes"], [f"{name}_more"]),
            helper.make_node("Add", [f"{name}_is", f"{name}_more"], [name]),
        ]
        sizes = answer.shape if known else [f"{name} {axis}" for axis in range(answer.ndim)]
        outputs[name] = [shape[0], *sizes]
    return save(path, nodes, shape, outputs, dtype=dtype, constants=constants)


def crops(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(B, H, W, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def gaussian(size: tuple[int, int], at: tuple[float, float], sigma: float = 2.0) -> np.ndarray:
    """(h, w) a Gaussian of height 1 at (x, y)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.exp(-((columns - at[0]) ** 2 + (rows - at[1]) ** 2) / (2 * sigma**2))


def torch_coords(xy, score) -> Coords:
    """Coordinates of one crop."""
    return Coords(xy=torch.tensor([xy], dtype=torch.float64), score=torch.tensor([score], dtype=torch.float64))
