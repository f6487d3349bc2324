"""What a process that is timed holds: a model folder or a file, ready to be called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posestill.deploy import decoder
from posestill.deploy.bench import Candidate
from posestill.deploy.gate import bytes_of
from posestill.deploy.operations import counted
from posestill.deploy.runtimes import TARGETS, ExportedNetwork, open_any
from posestill.deploy.sidecar import read_sidecar
from posestill.deploy.write import macs_of
from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.file import open_layout
from posestill.teachers.plain import PlainLayout

RUNTIMES = {target.suffix: target.title for target in TARGETS.values()}


@dataclass(frozen=True)
class Subject:
    """Something ready to be timed."""

    network: Callable[[], object]
    """the network alone, once"""
    answer: Callable[[], object]
    """from uint8 crops to keypoints in px, once"""
    about: dict[str, Any]
    """runtime, parameters, macs and size"""


def open_subject(candidate: Candidate, batch: int, threads: int) -> Subject:
    """A candidate with crops of noise; a `UserError` where it cannot be run."""
    path = candidate.path
    if path.is_dir():
        return _of_folder(candidate, batch)
    if not path.is_file():
        raise UserError(f"no model folder and no file {path}")
    if path.suffix not in RUNTIMES:
        raise UserError(f"{path} is no model folder and none of {', '.join(RUNTIMES)}, the files that a runtime runs")
    if read_sidecar(path) is not None:
        return _of_export(path, batch, threads)
    if path.suffix == ".pt2":
        raise UserError(f"{path} has no {path.name}.json beside it: copy that, too")
    return _of_others(candidate, batch, threads)


def _of_folder(candidate: Candidate, batch: int) -> Subject:
    model = PoseModel.load(candidate.path)
    shipped = model if candidate.plain else folded(model)
    crops = torch.from_numpy(_noise(batch, model.config.size)).permute(0, 3, 1, 2).contiguous()

    def network() -> object:
        with torch.no_grad():
            return shipped(crops)

    about = {
        "runtime": "PyTorch" if not candidate.plain else "PyTorch, norms not folded",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": macs_of(model),
        "size": sum(each.stat().st_size for each in candidate.path.glob("*.safetensors")),
    }
    return Subject(network, lambda: shipped.predict(crops), about)


def _of_export(path: Path, batch: int, threads: int) -> Subject:
    network = ExportedNetwork(path, threads=threads)
    told = network.told
    crops = _noise(batch, tuple(told["size"]))
    given = decoder.tensor(crops, told)
    about = {
        "runtime": f"{TARGETS[told['runtime']].title} {told['precision']}",
        "parameters": told["parameters"],
        "macs": told["macs"],
        "size": bytes_of(path),
    }
    return Subject(lambda: network(given), lambda: decoder.decode(network(decoder.tensor(crops, told)), told), about)


def _of_others(candidate: Candidate, batch: int, threads: int) -> Subject:
    path = candidate.path
    network = open_any(path, threads=threads)
    layout = open_layout(network, candidate.layout)
    crops = _noise(batch, layout.size)

    def answer() -> object:
        return layout.codec.decode(layout.prediction(layout.look(network, crops)))

    alone: Callable[[], object] = answer
    if isinstance(layout, PlainLayout):
        port, given = layout.port, layout.tensor(crops)
        lots = (
            [given] if layout.batch is None else [given[at : at + layout.batch] for at in range(0, batch, layout.batch)]
        )

        def once() -> object:
            return [network({port.name: lot}) for lot in lots]

        alone = once
    parameters, macs = counted(path)
    about = {"runtime": RUNTIMES[path.suffix], "parameters": parameters, "macs": macs, "size": bytes_of(path)}
    return Subject(alone, answer, about)


def _noise(batch: int, size: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
