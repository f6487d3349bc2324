"""What a loss needs so that several processes, each with a part of a batch, train as one with the whole batch.

Row i of a batch of B persons belongs to process i modulo the number of processes. The gradient of a run is the mean of
the processes' gradients: a mean over the batch needs nothing of this; what is not a mean, and what is drawn, does.
"""

from __future__ import annotations

import torch
from torch import Tensor

_APART = 0x9E3779B1


def count() -> int:
    """How many processes share a batch."""
    return torch.distributed.get_world_size() if _several() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes; gradients reach every process's part."""
    if not _several():
        return value
    from torch.distributed.nn.functional import all_reduce  # differentiable; absent from builds without it

    total: Tensor = all_reduce(value.contiguous())
    return total / count()


def seed_of_process(shared: int) -> int:
    """The seed of this process's own draws, such as dropout; the first process has the shared one itself."""
    return _apart(shared)


def shared_seed() -> int:
    """The seed from which that of this process was made: the same in all."""
    return _apart(torch.initial_seed())


def uniform_by_person(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform draws for this process's rows (B, ...): those that one process with the whole batch would give them."""
    joint = torch.rand((shape[0] * count(), *shape[1:]), generator=generator, device=generator.device)
    return _own_rows(joint)


def normal_by_person(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The same from the standard normal distribution."""
    joint = torch.randn((shape[0] * count(), *shape[1:]), generator=generator, device=generator.device)
    return _own_rows(joint)


def _own_rows(joint: Tensor) -> Tensor:
    return joint[torch.distributed.get_rank() :: count()] if _several() else joint


def _apart(seed: int) -> int:
    """Turn one seed into the other: what is done twice is undone."""
    rank = torch.distributed.get_rank() if _several() else 0
    return (seed ^ (rank * _APART)) & 0x7FFF_FFFF


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
