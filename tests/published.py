"""The plain implementation of DistilPose that benchmarks/ keeps, as the tests' independent reference."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

COORDS = {"name": "coords", "loss": "smooth_l1", "bounded": True, "score": True, "scale": True, "mirror_shift": False}
"""the codec of DistilPose's students"""


def plain_distilpose() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "plain_distilpose.py"
    spec = importlib.util.spec_from_file_location("plain_distilpose", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Give every tensor of a network values that tell layers apart; returns the state dict, positions as they are."""
    draw = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith(("num_batches_tracked", "pos_embedding")):
            continue
        noise = torch.randn(value.shape, generator=draw, dtype=value.dtype)
        if name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif value.ndim == 1:
            value.copy_(("weight" in name) + 0.1 * noise)
        else:
            value.copy_(noise / value[0].numel() ** 0.5)
    return state
