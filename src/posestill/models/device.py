"""Where a model runs."""

from __future__ import annotations

import torch

from posestill.schema import UserError

KINDS = ("cpu", "cuda", "mps")


def is_device_name(name: str) -> bool:
    """True for what `choose_device` takes: auto, cpu, cuda, cuda:1, mps."""
    kind, colon, number = name.partition(":")
    return name == "auto" or (kind in KINDS and (not colon or (kind == "cuda" and number.isdigit())))


def choose_device(name: str, *, option: str = "--device") -> torch.device:
    """The device of a name such as cpu or cuda:1; `auto` is the GPU where there is one. `option` opens messages."""
    if not is_device_name(name):
        raise UserError(f"{option} {name}: no such device; auto, cpu, cuda, cuda:1 and mps are known")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{option} {name}: {str(error).splitlines()[0]}") from None
    return device


def trains_on_cpu(name: str) -> bool:
    """True where a run on this device is computed by the CPU; a GPU that is named by its number becomes the current."""
    device = choose_device(name, option="train.device")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device.type == "cpu" and (name != "auto" or not torch.accelerator.is_available())
