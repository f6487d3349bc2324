"""A network in a file, executed by a runtime: `.onnx` by ONNX Runtime, `.tflite` and OpenVINO's `.xml` by OpenVINO."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posestill.schema import UserError, did_you_mean

INSTALL = 'pip install "posestill[runtime]"'
SUFFIXES = {".onnx": "onnxruntime", ".tflite": "openvino", ".xml": "openvino"}
"""which package executes which file"""


@dataclass(frozen=True)
class Port:
    """One input or output of a network."""

    name: str
    shape: tuple[int | None, ...]
    """None where any size goes"""
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name} ({sizes}) {self.dtype}"


class RuntimeNetwork:
    """A network that was read from a file and can be run on numpy arrays."""

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output by name, for one array an input."""
        raise NotImplementedError

    def describe(self) -> str:
        """Inputs and outputs with their shapes, for a message."""
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"


def open_network(path: Path, *, also: Sequence[str] = (), threads: int | None = None) -> RuntimeNetwork:
    """The network in a file.

    `also` names inner tensors of an ONNX file that shall be outputs, too. `threads` defaults to torch's. A `UserError`
    says what is wrong with the file, which package is not installed, or which inner tensors there are.
    """
    if not path.is_file():
        raise UserError(f"teacher: no file {path}")
    package = SUFFIXES.get(path.suffix.lower())
    if package is None:
        raise UserError(f"teacher: {path} is none of {', '.join(SUFFIXES)}: a runtime executes such files")
    threads = threads or torch.get_num_threads()
    if package == "onnxruntime":
        return _OnnxNetwork(path, tuple(also), threads)
    if also:
        raise UserError(f"teacher.features: inner tensors can be had of an .onnx file, not of {path.name}")
    return _OpenVinoNetwork(path, threads)


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as handle:
        return (
            hashlib.file_digest(handle, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(handle.read()).hexdigest()
        )


def package_for(path: Path, name: str) -> Any:
    """An optional package, imported; a `UserError` that names what to install where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"{path.name} needs the package {name.partition('.')[0]}, which is not installed: {INSTALL}"
        ) from None


class _OnnxNetwork(RuntimeNetwork):
    def __init__(self, path: Path, also: Sequence[str], threads: int) -> None:
        runtime = package_for(path, "onnxruntime")
        self.path = path
        given: str | bytes = str(path)
        _check_onnx(path)
        if also:
            given = _with_outputs(path, also)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [each for each in wanted if each in runtime.get_available_providers()]
        try:
            self.session = runtime.InferenceSession(given, options, providers=providers)
        except Exception as error:  # its own classes, one for each way in which a file can be broken
            raise UserError(f"teacher: {path} cannot be run by ONNX Runtime: {_first_line(error)}") from None
        self.inputs = tuple(_onnx_port(each) for each in self.session.get_inputs())
        self.outputs = tuple(_onnx_port(each) for each in self.session.get_outputs())

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [each.name for each in self.outputs]
        return dict(zip(names, self.session.run(names, dict(tensors)), strict=True))


class _OpenVinoNetwork(RuntimeNetwork):
    def __init__(self, path: Path, threads: int) -> None:
        openvino = package_for(path, "openvino")
        self.path = path
        core = openvino.Core()
        try:
            model = core.read_model(str(path))
            self.compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads})
        except Exception as error:
            raise UserError(f"teacher: {path} cannot be read by OpenVINO: {_first_line(error)}") from None
        self.inputs = tuple(_openvino_port(each) for each in self.compiled.inputs)
        self.outputs = tuple(_openvino_port(each) for each in self.compiled.outputs)

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.compiled([tensors[each.name] for each in self.inputs])
        return {each.name: np.array(found[number]) for number, each in enumerate(self.outputs)}


def _check_onnx(path: Path) -> None:
    """Say in one line what a broken file lacks; ONNX Runtime's own words for it are long."""
    if importlib.util.find_spec("onnx") is None:
        return
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise UserError(
            f"teacher: {path} is no whole ONNX file ({_first_line(error)}): it may have been cut off; fetch it again"
        ) from None
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and not (path.parent / entry.value).is_file():
                raise UserError(
                    f"teacher: the weights of {path.name} lie in {entry.value}, which is not beside it: fetch that "
                    "file, too"
                )


def _with_outputs(path: Path, also: Sequence[str]) -> bytes | str:
    """The same network with some inner tensors as outputs, serialised."""
    onnx = package_for(path, "onnx")
    model = onnx.load(str(path))
    there = [name for node in model.graph.node for name in node.output if name]
    known = {each.name for each in model.graph.output}
    for name in also:
        if name not in there:
            sorts = {"Conv", "Relu", "Clip", "Add", "Mul", "Sigmoid", "HardSwish", "MaxPool", "Concat", "Gelu"}
            maps = [node.output[0] for node in model.graph.node if node.op_type in sorts]
            shown = ", ".join((maps or there)[-12:])
            hint = did_you_mean(name, there)
            raise UserError(
                f"teacher.features: {path.name} has no tensor '{name}'{hint}; of its {len(there)} the last "
                f"convolutions and the like are: {shown}"
            )
        if name not in known:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    content: bytes = model.SerializeToString()
    return content


def _onnx_port(value: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    kinds = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
    name = kinds.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
    return Port(value.name, shape, np.dtype(name))


def _openvino_port(value: Any) -> Port:
    shape = tuple(size.get_length() if size.is_static else None for size in value.partial_shape)
    return Port(value.get_any_name(), shape, np.dtype(value.element_type.to_dtype()))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
