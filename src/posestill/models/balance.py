"""How much a loss counts beside the student's own, measured on the features that both reach."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posestill.models.ranks import count, mean_over_ranks


class BalancedWeight(nn.Module):
    """The weight of a loss: fixed, or so that it pulls at the shared features `share` times as hard as the student's.

    `measure_student` and `measure_other` hand the features on; the backward pass measures the gradient that comes back
    through each, and the weight that is found is the ratio of their running norms. That costs no pass of its own.
    """

    weight: Tensor
    norms: Tensor

    def __init__(self, first: float, *, measures: bool, share: float = 1.0, decay: float = 0.98) -> None:
        """It stays at `first` unless it `measures`; `decay` forgets over about 1 / (1 - decay) steps."""
        super().__init__()
        self.measures, self.share, self.decay = measures, share, decay
        self.register_buffer("weight", torch.tensor(float(first)))
        self.register_buffer("norms", torch.zeros(2))  # of the student's losses and of the other, unweighted
        self.measured: dict[int, Tensor] = {}
        self.factor = 1.0

    def follow_schedule(self, factor: float) -> Tensor:
        """Take a schedule's factor for this step, and return the weight under it.

        The measuring leaves the factor out, or it would undo the schedule.
        """
        self.factor = factor
        return self.weight * factor

    def measure_student(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The same features for the student's head, whose gradient is measured from now on."""
        return self._measured_later(features, 0)

    def measure_other(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The same features for the other loss, whose gradient is measured; those of a neck's other side will do."""
        return self._measured_later(features, 1)

    def after_step(self) -> None:
        """Take in what the last backward pass measured; shared over processes, so that all use one weight."""
        if len(self.measured) < 2 or self.factor == 0:
            return
        found = torch.stack([self.measured[0], self.measured[1] / (self.weight * self.factor)]).to(self.norms)
        if count() > 1:  # as of the joint batch: each process's gradient is that of its own persons' mean
            found = (mean_over_ranks(found.square()) / count()).sqrt()
        if not torch.isfinite(found).all() or (found <= 0).any():
            return  # such as a batch without any label
        kept = self.decay if (self.norms > 0).all() else 0.0
        self.norms.mul_(kept).add_(found, alpha=1 - kept)
        self.weight.copy_((self.share * self.norms[0] / self.norms[1]).clamp(1e-8, 1e8))  # losses differ by as much

    @torch.compiler.disable  # a compiled student runs its features and its head; this stands between them
    def _measured_later(self, features: tuple[Tensor, ...], which: int) -> tuple[Tensor, ...]:
        self.measured.pop(which, None)
        if not (self.measures and features[-1].requires_grad):
            return features
        last = features[-1].view_as(features[-1])
        last.register_hook(lambda gradient: self._take_in(which, gradient))
        return (*features[:-1], last)

    def _take_in(self, which: int, gradient: Tensor) -> None:
        self.measured[which] = torch.linalg.vector_norm(gradient.detach().float())
