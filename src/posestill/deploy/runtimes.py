"""The runtimes that a model is exported to: what each needs, how its files end, and how they are run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posestill.deploy.sidecar import read_sidecar
from posestill.schema import UserError, did_you_mean
from posestill.teachers.runtime import Port, RuntimeNetwork, open_network


@dataclass(frozen=True)
class Target:
    """A kind of file and what it needs."""

    name: str
    title: str
    suffix: str
    packages: tuple[str, ...]
    """that make and run such files, as they are imported"""
    extra: str
    """of posestill, which brings them"""
    int8: bool = False
    """whether `--int8` makes such a file, too"""


TARGETS = {
    each.name: each
    for each in (
        Target("onnx", "ONNX Runtime", ".onnx", ("onnx", "onnxscript", "onnxruntime"), "export", int8=True),
        Target("openvino", "OpenVINO", ".xml", ("onnx", "onnxscript", "openvino"), "export", int8=True),
        Target("litert", "LiteRT", ".tflite", ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"), "litert"),
        Target("pt2", "torch.export", ".pt2", (), "export"),
    )
}


def choose_targets(names: Iterable[str], *, int8: bool = False) -> list[Target]:
    """The targets of some names; a `UserError` for one that is unknown, or that lacks what it needs."""
    chosen = []
    for name in dict.fromkeys(names):
        if name not in TARGETS:
            raise UserError(f"--to: no runtime '{name}'{did_you_mean(name, TARGETS)} (known: {', '.join(TARGETS)})")
        check_installed(TARGETS[name])
        chosen.append(TARGETS[name])
    if not chosen:
        raise UserError(f"--to names no runtime (known: {', '.join(TARGETS)})")
    if int8 and not any(target.int8 for target in chosen):
        able = " and ".join(target.name for target in TARGETS.values() if target.int8)
        raise UserError(f"--int8 makes files for {able}, which --to does not name: add one of them")
    if int8:
        check_installed(TARGETS["onnx"])  # whose quantiser makes the others', too
    return chosen


def installed(target: Target) -> bool:
    """Whether all that it needs is there."""
    return not _missing(target)


def check_installed(target: Target) -> None:
    """A `UserError` that names the extra where something is missing."""
    if missing := _missing(target):
        raise UserError(
            f"--to {target.name} needs the package {missing[0]}, which is not installed: "
            f'pip install "posestill[{target.extra}]"'
        )


def _missing(target: Target) -> list[str]:
    return [package for package in target.packages if importlib.util.find_spec(package) is None]


class ExportedNetwork:
    """A file that posestill exported, with its runtime: crops in, outputs by the decoder's names out."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Fails where there is no sidecar, or where the file is broken."""
        told = read_sidecar(path)
        if told is None:
            raise UserError(f"{path} has no {path.name}.json beside it: export the model again, or copy that, too")
        self.path, self.told = path, told
        self.network = open_any(path, threads=threads, calculates=told.get("calculates"))

    def __call__(self, given: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for what the decoder's `tensor` made of B crops: (B, ...) each."""
        name, batch = self.told["input"]["name"], self.told["input"]["batch"]
        if batch is None:
            return self._named(self.network({name: given}))
        each = [self._named(self.network({name: given[at : at + batch]})) for at in range(0, len(given), batch)]
        return {name: np.concatenate([one[name] for one in each]) for name in each[0]}

    def _named(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: found[name] for name in self.told["outputs"]}


def open_any(path: Path, *, threads: int | None = None, calculates: str | None = None) -> RuntimeNetwork:
    """The network in a file of any kind that posestill can run; LiteRT runs .tflite where it is installed."""
    if path.suffix == ".pt2":
        return _TorchNetwork(path)
    if path.suffix == ".tflite" and importlib.util.find_spec("ai_edge_litert") is not None and path.is_file():
        return _LiteRtNetwork(path, threads or torch.get_num_threads())
    try:
        return open_network(path, threads=threads, calculates=calculates)
    except UserError as error:  # which was made for teachers
        raise UserError(str(error).removeprefix("teacher: ")) from None


class _TorchNetwork(RuntimeNetwork):
    """What torch.export saved, run by PyTorch."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"no file {path}")
        try:
            program = torch.export.load(path)
        except Exception as error:  # a zip file's, pickle's or torch's own
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path} cannot be read by torch.export ({first}): export the model again") from None
        self.path = path
        self.module = program.module()
        metas = [node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
        self.inputs = tuple(Port("image", _shape(meta.shape), np.dtype("float32")) for meta in metas)
        sidecar = read_sidecar(path)
        names = {} if sidecar is None else sidecar["outputs"]
        self.outputs = tuple(Port(name, (None, *shape), np.dtype("float32")) for name, shape in names.items())

    def _run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = self.module(torch.from_numpy(next(iter(tensors.values()))))
        return {name: value.numpy() for name, value in found.items()}


class _LiteRtNetwork(RuntimeNetwork):
    """A .tflite file, run by LiteRT as a phone does."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.path = path
        try:
            self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self.interpreter.allocate_tensors()
        except Exception as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path} cannot be read by LiteRT ({first}): it may have been cut off") from None
        self.inputs = tuple(_litert_port(each) for each in self.interpreter.get_input_details())
        signature = next(iter(self.interpreter.get_signature_list().values()), None)
        self.signature = None if signature is None else self.interpreter.get_signature_runner()
        details = self.interpreter.get_output_details()
        named = {each["name"]: each for each in details}
        if self.signature is not None:
            named = dict(self.signature.get_output_details().items())
        self.outputs = tuple(_litert_port({**each, "name": name}) for name, each in named.items())

    def _run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.signature is not None:
            given = dict(zip(self.signature.get_input_details(), tensors.values(), strict=True))
            found: dict[str, np.ndarray] = self.signature(**given)
            return found
        for each in self.interpreter.get_input_details():
            self.interpreter.set_tensor(each["index"], tensors[each["name"]])
        self.interpreter.invoke()
        return {
            each["name"]: self.interpreter.get_tensor(each["index"]) for each in self.interpreter.get_output_details()
        }


def _shape(sizes: Iterable[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in sizes)


def _litert_port(told: Mapping[str, Any]) -> Port:
    return Port(str(told["name"]), tuple(int(size) for size in told["shape"]), np.dtype(told["dtype"]))
