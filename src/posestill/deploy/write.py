"""From a model to files that runtimes execute, each with its sidecar."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from posestill.deploy.graph import INPUT, Decode, Graph, Order, Precision
from posestill.deploy.runtimes import Target
from posestill.deploy.sidecar import FileFacts, describe, write_sidecar
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError

STEM = "model"
"""how the names of the files begin"""


@dataclass(frozen=True)
class Writer:
    """Writes one model's files into a folder."""

    model: PoseModel
    folder: Path
    decode: Decode = "outside"

    def write(self, target: Target, precision: Precision, calibration: Sequence[Any] = ()) -> Path:
        """One file and its sidecar; `calibration` are tensors (B, 3, H, W), px from 0 to 255, that int8 is fitted to.

        A `UserError` where the runtime's converter cannot take the model.
        """
        path = self.folder / f"{STEM}-{precision}{target.suffix}"
        half = precision == "fp16" and target.name in ("onnx", "pt2")  # the others' own tools halve the weights
        order: Order = "nhwc" if target.name == "litert" else "nchw"
        graph = Graph(self.model, decode=self.decode, order=order, half=half).eval()
        with torch.no_grad():
            outputs = graph(example(self.model, order))
        name = INPUT
        try:
            with quiet():
                if target.name == "pt2":
                    torch.export.save(_program(graph, self.model, order), path)
                elif target.name == "litert":
                    name = self._write_litert(graph, path, precision)
                elif precision == "int8":
                    self._write_int8(graph, target, path, calibration)
                elif half:
                    _write_onnx(graph, self.model, path)
                elif target.name == "onnx":
                    shutil.copyfile(self._in_float(graph), path)
                else:
                    _convert(self._in_float(graph), path, compress=precision == "fp16")
        except UserError:
            raise
        except Exception as error:  # every converter has classes of its own
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            hint = "; try --decode outside" if self.decode == "inside" else ""
            raise UserError(f"--to {target.name}: {target.title} cannot take this model: {first[:200]}{hint}") from None
        facts = FileFacts(
            runtime=target.name,
            precision=precision,
            decode=self.decode,
            order=order,
            input_name=name,
            batch=1 if target.name == "litert" else None,
            outputs={key: list(value.shape[1:]) for key, value in outputs.items()},
        )
        write_sidecar(path, describe(self.model, facts, parameters=_parameters(self.model), macs=macs_of(self.model)))
        return path

    def tidy(self) -> None:
        """Remove what stood between the model and its files."""
        for path in self.folder.glob(".float-*"):
            path.unlink()

    def _in_float(self, graph: Graph) -> Path:
        """The model as an ONNX file in full precision, from which others are made; written once."""
        path = self.folder / f".float-{self.decode}.onnx"
        if not path.is_file():
            _write_onnx(graph, self.model, path)
        return path

    def _write_int8(self, graph: Graph, target: Target, path: Path, calibration: Sequence[Any]) -> None:
        from posestill.deploy.quantise import quantise

        quantised = self.folder / f".float-{self.decode}-quantised.onnx"
        if not quantised.is_file():
            quantise(self._in_float(graph), quantised, calibration)
        if target.name == "openvino":
            _convert(quantised, path, compress=False)
        else:
            shutil.copyfile(quantised, path)

    def _write_litert(self, graph: Graph, path: Path, precision: Precision) -> str:
        """Write a .tflite file; the name of its input."""
        import litert_torch
        from ai_edge_litert.interpreter import Interpreter

        whole = self.folder / f".float-{self.decode}.tflite"
        if not whole.is_file():
            litert_torch.convert(graph, (example(self.model, "nhwc")[:1],)).export(str(whole))
        shutil.copyfile(whole, path)
        if precision == "fp16":
            _halve_weights(path)
        return str(Interpreter(model_path=str(path)).get_input_details()[0]["name"])


def example(model: PoseModel, order: Order) -> torch.Tensor:
    """Two crops of mid-grey px, as a file is given them."""
    height, width = model.config.size
    return torch.full((2, 3, height, width) if order == "nchw" else (2, height, width, 3), 127.0)


def macs_of(model: PoseModel) -> int:
    """Multiply-accumulates of one crop: convolutions, linear layers and attention products."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).eval()(torch.zeros(1, 3, *model.config.size))
    return int(counter.get_total_flops() // 2)


def _parameters(model: PoseModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _program(graph: Graph, model: PoseModel, order: Order) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(
            graph, (example(model, order),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
        )


def _write_onnx(graph: Graph, model: PoseModel, path: Path) -> None:
    program = _program(graph, model, "nchw")
    with torch.no_grad():
        names = list(graph(example(model, "nchw")))
        torch.onnx.export(
            program, (), str(path), dynamo=True, input_names=[INPUT], output_names=names, external_data=False,
            verbose=False,
        )  # fmt: skip


def _convert(between: Path, path: Path, *, compress: bool) -> None:
    """OpenVINO's own file of an ONNX file."""
    import openvino

    openvino.save_model(openvino.Core().read_model(str(between)), str(path), compress_to_fp16=compress)


def _halve_weights(path: Path) -> None:
    """Keep the weights of a .tflite file in float16; phones calculate in it where they can."""
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    tool = quantizer.Quantizer(str(path))
    tool.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=AlgorithmName.FLOAT_CASTING,
    )
    tool.quantize(enable_progress_report=False).export_model(str(path), overwrite=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep converters from filling the screen: their warnings, their logs and what their C++ prints.

    What has to be said of a failure is in the error that they raise.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    kept = [(stream, os.dup(number)) for stream, number in ((sys.stdout, 1), (sys.stderr, 2))]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, (stream, _) in enumerate(kept, start=1):
            stream.flush()
            os.dup2(nowhere, number)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for number, (_, copied) in enumerate(kept, start=1):
            os.dup2(copied, number)
            os.close(copied)
        os.close(nowhere)
        logging.disable(before)
