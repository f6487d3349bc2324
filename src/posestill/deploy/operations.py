"""How large a network in a file is and how much it calculates, read off its graph by OpenVINO."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any


def counted(path: Path) -> tuple[int | None, int | None]:
    """Parameters, and multiply-accumulates at batch 1; None where OpenVINO is missing or sizes are not known.

    Convolutions and matrix products count, as they do for a model folder.
    """
    if importlib.util.find_spec("openvino") is None or path.suffix not in (".onnx", ".tflite", ".xml"):
        return None, None
    import openvino

    try:
        network = openvino.Core().read_model(str(path))
        shape = network.inputs[0].partial_shape
        if shape[0].is_dynamic:
            network.reshape([1, *list(shape)[1:]])
        operations = network.get_ordered_ops()
        return _parameters(operations), sum(_macs(each) for each in operations)
    except Exception:  # of a graph that OpenVINO does not read, nothing is said
        return None, None


def _parameters(operations: list[Any]) -> int:
    """Constants of floating-point or eight-bit numbers; whole numbers of more bits are shapes and places."""
    return sum(
        math.prod(each.output(0).shape)
        for each in operations
        if each.get_type_name() == "Constant"
        and each.get_element_type().get_type_name() in ("f32", "f16", "bf16", "i8", "u8")
    )


def _macs(operation: Any) -> int:
    kind = operation.get_type_name()
    if kind == "MatMul":
        given = list(operation.input(0).get_shape())
        inner = given[-2] if operation.get_attributes().get("transpose_a") else given[-1]
        return int(math.prod(operation.output(0).shape) * inner)
    if kind in ("Convolution", "GroupConvolution"):
        weights = list(operation.input(1).get_shape())
        per_place = weights[1:] if kind == "Convolution" else weights[2:]
        return int(math.prod(operation.output(0).shape) * math.prod(per_place))
    if kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        weights = list(operation.input(1).get_shape())
        per_place = weights[1:] if kind == "ConvolutionBackpropData" else weights[2:]
        return int(math.prod(operation.input(0).get_shape()) * math.prod(per_place))
    return 0
