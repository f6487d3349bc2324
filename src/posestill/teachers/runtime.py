"""A network in a file, executed by a runtime: `.onnx` by ONNX Runtime, `.tflite` and OpenVINO's `.xml` by OpenVINO."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
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
SHOWN = 12
"""of the inner tensors of a file, how many a message names"""


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
    """of the file itself"""
    inner: tuple[str, ...] = ()
    """inner tensors that it gives, too"""
    threads: int = 1
    """that run it; 1 where a GPU does"""

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output and inner tensor by name, for one array an input.

        A `UserError` where the runtime refuses the arrays.
        """
        try:
            return self._run(tensors)
        except Exception as error:  # each runtime has classes of its own
            given = ", ".join(f"{name} {each.shape} {each.dtype}" for name, each in tensors.items())
            raise UserError(f"teacher: {self.path.name} cannot be run on {given}: {_first_line(error)}") from None

    def describe(self) -> str:
        """Inputs and outputs with their shapes, for a message."""
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"

    def with_threads(self, threads: int) -> RuntimeNetwork:
        """The same network run by so many threads: itself where it has them already, else its file opened anew."""
        return self if threads == self.threads else open_network(self.path, also=self.inner, threads=threads)

    def _run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotImplementedError


def open_network(
    path: Path, *, also: Sequence[str] = (), threads: int | None = None, calculates: str | None = None
) -> RuntimeNetwork:
    """The network in a file.

    `also` names inner tensors of an ONNX file that it shall give, too. `threads` defaults to torch's. `calculates` says
    in which numbers OpenVINO calculates (f32, f16, bf16); None leaves it the choice, which is bf16 where the processor
    has units for that. A `UserError` says what is wrong with the file, which package is not installed, or which inner
    tensors there are.
    """
    if path.is_dir():
        raise UserError(f"teacher: {path} is a folder; name the network's file in it ({', '.join(SUFFIXES)})")
    if not path.is_file():
        raise UserError(f"teacher: no file {path}")
    package = SUFFIXES.get(path.suffix.lower())
    if package is None:
        raise UserError(f"teacher: {path} is none of {', '.join(SUFFIXES)}, the files that a runtime executes")
    if path.stat().st_size == 0:
        raise UserError(f"teacher: {path} is empty: fetch it again")
    threads = threads or torch.get_num_threads()
    if package == "onnxruntime":
        return _OnnxNetwork(path, tuple(also), threads)
    if also:
        raise UserError(f"teacher.features: inner tensors can be had of an .onnx file, not of {path.name}")
    return _OpenVinoNetwork(path, threads, calculates)


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def package_for(path: Path, name: str) -> Any:
    """An optional package, imported; a `UserError` that names what to install where it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(f"{path.name} needs the package {name}, which is not installed: {INSTALL}") from None
    except ImportError as error:
        raise UserError(f"{path.name} needs the package {name}, which cannot be loaded: {_first_line(error)}") from None


class _OnnxNetwork(RuntimeNetwork):
    def __init__(self, path: Path, also: tuple[str, ...], threads: int) -> None:
        runtime = package_for(path, "onnxruntime")
        self.path, self.inner, self.threads = path, also, threads
        _check_onnx(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what it would print is in its errors, too
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [each for each in wanted if each in runtime.get_available_providers()]
        given: str | bytes = str(path)
        more = 0
        if also:
            given, more = _with_outputs(path, also)
        try:
            self.session = runtime.InferenceSession(given, options, providers=providers)
        except Exception as error:  # its own classes, one for each way in which a file can be broken
            raise UserError(f"teacher: {path} cannot be read by ONNX Runtime: {_first_line(error)}") from None
        if self.session.get_providers()[:1] != ["CPUExecutionProvider"]:
            self.threads = 1
        self.inputs = tuple(_onnx_port(each, path) for each in self.session.get_inputs())
        found = tuple(_onnx_port(each, path) for each in self.session.get_outputs())
        self.names = [each.name for each in found]
        self.outputs = found[: len(found) - more]  # inner tensors stand behind the file's own

    def _run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.session.run(self.names, dict(tensors)), strict=True))


class _OpenVinoNetwork(RuntimeNetwork):
    def __init__(self, path: Path, threads: int, calculates: str | None) -> None:
        openvino = package_for(path, "openvino")
        self.path, self.threads = path, threads
        _check_openvino(path)
        core = openvino.Core()
        try:
            model = core.read_model(str(path))
            wanted: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
            if calculates is not None:
                wanted["INFERENCE_PRECISION_HINT"] = calculates
            self.compiled = core.compile_model(model, "CPU", wanted)
            self.inputs = tuple(_openvino_port(each, f"input {at}") for at, each in enumerate(self.compiled.inputs))
            self.outputs = tuple(_openvino_port(each, f"output {at}") for at, each in enumerate(self.compiled.outputs))
        except Exception as error:
            told = f"{_first_line(error)}){_lacks(path)}"
            raise UserError(f"teacher: {path} cannot be read by OpenVINO ({told}") from None

    def _run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.compiled([tensors[each.name] for each in self.inputs])
        return {each.name: np.array(found[number]) for number, each in enumerate(self.outputs)}


def _check_onnx(path: Path) -> None:
    """Say in one line what a broken file lacks; ONNX Runtime's own words for it are long."""
    if importlib.util.find_spec("onnx") is None:
        return
    model = _read_onnx(path)
    for tensor in model.graph.initializer:
        told = {entry.key: entry.value for entry in tensor.external_data}
        weights = path.parent / told.get("location", path.name)
        if not weights.is_file():
            raise UserError(
                f"teacher: the weights of {path.name} lie in {told['location']}, which is not beside it: fetch that "
                "file, too"
            )
        if weights.stat().st_size < int(told.get("offset", 0)) + int(told.get("length", 0)):
            raise UserError(f"teacher: {weights}, with the weights of {path.name}, has been cut off: fetch it again")


def _read_onnx(path: Path, *, weights: bool = False) -> Any:
    """The graph of a file; `weights` brings those that lie in files of their own."""
    onnx = package_for(path, "onnx")
    try:
        model = onnx.load(str(path), load_external_data=weights)
    except Exception as error:  # protobuf's, or the operating system's
        raise UserError(
            f"teacher: {path} is no whole ONNX file ({_first_line(error)}): it may have been cut off; fetch it again"
        ) from None
    if not model.graph.node:
        raise UserError(f"teacher: {path} is no ONNX network: there is no graph in it; fetch it again")
    return model


def _with_outputs(path: Path, also: Sequence[str]) -> tuple[bytes, int]:
    """The same network with some inner tensors as outputs, serialised, and how many outputs that has added."""
    onnx = package_for(path, "onnx")
    model = _read_onnx(path, weights=True)
    there = [name for node in model.graph.node for name in node.output if name]
    own = len(model.graph.output)
    for name in also:
        if name not in there:
            shown = ", ".join(_feature_maps(model) or there[-SHOWN:])
            raise UserError(
                f"teacher.features: {path.name} has no tensor '{name}'{did_you_mean(name, there)}; of its "
                f"{len(there)} the last that may be feature maps are: {shown}"
            )
        if name not in {each.name for each in model.graph.output}:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    try:
        content: bytes = model.SerializeToString()
    except Exception as error:  # a message holds two gigabytes at most
        raise UserError(f"teacher.features: {path.name} is too large for inner tensors: {_first_line(error)}") from None
    return content, len(model.graph.output) - own


def _feature_maps(model: Any) -> list[str]:
    """The last inner tensors of four axes with their (channels, rows, columns), where these can be inferred."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    except Exception:  # it is only for a message
        return []
    found = []
    for each in inferred:
        sizes = [size.dim_value for size in each.type.tensor_type.shape.dim]
        is_float = each.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        if is_float and len(sizes) == 4 and min(sizes[1:]) > 1:
            found.append(f"{each.name} ({', '.join(map(str, sizes[1:]))})")
    return found[-SHOWN:]


def _check_openvino(path: Path) -> None:
    """Refuse what is plainly another kind of file: OpenVINO would try every format and print what it finds."""
    with path.open("rb") as handle:
        start = handle.read(1000)
    if path.suffix.lower() == ".tflite" and start[4:8] != b"TFL3":
        raise UserError(f"teacher: {path} is no TensorFlow Lite file: fetch it again")
    if path.suffix.lower() == ".xml" and b"<net" not in start:
        raise UserError(f"teacher: {path} is no network of OpenVINO's (its .xml begins with <net)")


def _onnx_port(value: Any, path: Path) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    kinds = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
    name = kinds.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
    try:
        return Port(value.name, shape, np.dtype(name))
    except TypeError:
        raise UserError(f"teacher: {value.name} of {path.name} is {value.type}, which no layout can read") from None


def _openvino_port(value: Any, otherwise: str) -> Port:
    shape = tuple(size.get_length() if size.is_static else None for size in value.partial_shape)
    name = value.get_any_name() if value.get_names() else otherwise
    return Port(name, shape, np.dtype(value.element_type.to_dtype()))


def _lacks(path: Path) -> str:
    weights = path.with_suffix(".bin")
    if path.suffix.lower() == ".xml" and not weights.is_file():
        return f"; its weights would lie in {weights.name}, which is not beside it"
    return ": it may have been cut off; fetch it again"


def _first_line(error: Exception) -> str:
    """The first line that says something: OpenVINO's errors begin with the place in its own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))] or lines
    return told[0].rstrip(":.")[:200] if told else type(error).__name__
