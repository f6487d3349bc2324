"""Eight-bit networks: static, by channel, with the first layer and the head in float.

Heads decide places to a fraction of a px, and the first layer reads px: these lose most and cost least. What lies
between runs in eight bits, whose ranges are those that crops of people give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posestill.deploy.graph import INPUT
from posestill.schema import UserError

LEAST = 300
"""crops that ranges are taken from"""
LOT = 8
"""crops in memory at a time"""
QUANTISED = ("Conv", "MatMul", "Gemm", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Resize")
"""kinds of operation that run in eight bits"""


def check_enough(count: int) -> None:
    """Refuse to fit ranges to a few crops."""
    if count < LEAST:
        raise UserError(f"--int8 is fitted to at least {LEAST} persons, and the data have {count}: give more of them")


def quantise(given: Path, path: Path, calibration: Sequence[np.ndarray]) -> None:
    """Write the eight-bit network of a float one; `calibration` are (B, 3, H, W) float32 px from 0 to 255."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    check_enough(sum(map(len, calibration)))
    prepared = path.with_suffix(".prepared.onnx")
    # Its optimiser would drop from which part of the model a node was made.
    quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True, skip_optimization=True)
    model = onnx.load(str(prepared))
    kept = kept_in_float(model)
    if not any(node.op_type in ("Conv", "MatMul", "Gemm") and node.name not in kept for node in model.graph.node):
        raise UserError("--int8: nothing of this model would run in eight bits, as all but its first layer is its head")
    quantize_static(
        str(prepared),
        str(path),
        _reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
        calibrate_method=CalibrationMethod.MinMax,
    )
    prepared.unlink()


def kept_in_float(model: Any) -> list[str]:
    """The names of the nodes of the first convolution, of all before it, of the head and of the decoding."""
    nodes = list(model.graph.node)
    first = next((at for at, node in enumerate(nodes) if node.op_type == "Conv"), 0)
    kept = [node.name for node in nodes[: first + 1]]
    body = _feeding_only_the_body(nodes)
    return kept + [node.name for node in nodes[first + 1 :] if node.name not in body]


def _feeding_only_the_body(nodes: Sequence[Any]) -> set[str]:
    """The nodes that backbone and neck consist of, by the scope that the exporter keeps of every node."""
    return {node.name for node in nodes if _part_of(node) in ("backbone", "neck")}


def _part_of(node: Any) -> str:
    """Which part of the model a node was made from: backbone, neck, head, or nothing known."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            for part in ("backbone", "neck", "head"):
                if f"'model.{part}'" in entry.value or f"'model.{part}." in entry.value:
                    return part
    return ""


def _reader(calibration: Sequence[np.ndarray]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the crops out lot by lot."""

        def __init__(self) -> None:
            self.lots = _lots(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            lot = next(self.lots, None)
            return None if lot is None else {INPUT: lot}

    return Reader()


def _lots(calibration: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for each in calibration:
        for at in range(0, len(each), LOT):
            yield np.ascontiguousarray(each[at : at + LOT], dtype=np.float32)
