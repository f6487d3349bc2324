"""A model as it ships: its batch norms folded into the convolutions before them, which then run alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from posestill.models.pose_model import PoseModel

Convolution = nn.Conv2d | nn.ConvTranspose2d


def folded(model: PoseModel) -> PoseModel:
    """A copy in eval mode that gives the same predictions with fewer passes over its maps. It cannot be trained on."""
    shipped = copy.deepcopy(model).eval()
    for convolution, norm in _pairs(shipped):
        fused = fuse_conv_bn_eval(
            shipped.get_submodule(convolution),  # type: ignore[type-var]
            shipped.get_submodule(norm),  # type: ignore[arg-type]
            transpose=isinstance(shipped.get_submodule(convolution), nn.ConvTranspose2d),
        )
        activation = getattr(shipped.get_submodule(norm), "act", nn.Identity())  # timm's norms bring their own
        _replace(shipped, convolution, fused)
        _replace(shipped, norm, activation)
    return shipped.requires_grad_(False)


def _pairs(model: PoseModel) -> list[tuple[str, str]]:
    """(convolution, norm) by name, wherever a batch norm reads exactly what a convolution gave, each called once."""
    calls: Counter[str] = Counter()
    given: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept, so that no id is given out twice
    pairs = []

    def after_convolution(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            calls[name] += 1
            given[id(output)] = (name, output)

        return hook

    def before_norm(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            if id(args[0]) in given:
                pairs.append((given[id(args[0])][0], name))

        return hook

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, Convolution):
            hooks.append(module.register_forward_hook(after_convolution(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before_norm(name)))
    with torch.no_grad():
        model(torch.zeros(1, 3, *model.config.size, device=model.mean.device))
    for hook in hooks:
        hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
