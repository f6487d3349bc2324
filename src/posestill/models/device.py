"""Where a model runs."""

from __future__ import annotations

import torch

from posestill.schema import UserError


def choose_device(name: str) -> torch.device:
    """The device of a name such as cpu or cuda:1; `auto` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device
