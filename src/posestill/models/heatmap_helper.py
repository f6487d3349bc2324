"""A heatmap head on a student's features, for training only, and the balance of its pull with the student's own."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from posestill.codecs.coords import CoordsCodec
from posestill.codecs.heatmap import HeatmapConfig
from posestill.models.heads import DeconvConfig
from posestill.models.pose_model import PoseModel, evaluating
from posestill.schema import UserError
from posestill.types import Heatmaps, Keypoints


class HeatmapHelper(nn.Module):
    """Simple Baselines' head on a student's last feature map: as many deconvolutions as lead to the stride asked for.

    Build it after the student, so that the student's initial weights are those that it has alone.
    """

    def __init__(self, student: PoseModel, *, stride: int, width: int, sigma: float) -> None:
        """`stride` in input px per map px, `width` channels of the deconvolutions, `sigma` of the labels in map px.

        Fails, naming the sizes, where doublings do not lead from the features to maps of that stride.
        """
        super().__init__()
        size = student.config.size
        shape = last_feature_shape(student)
        doublings = round(math.log2(size[0] / stride / shape[1]))
        reached = tuple(cells * 2**doublings * stride for cells in shape[1:])
        if doublings < 0 or reached != tuple(size):
            raise UserError(
                f"method: no deconvolutions lead from features of {shape[1:]} to heatmaps of stride {stride} on inputs "
                f"of {size}: change method.stride, or take a model.size that is a multiple of the backbone's"
            )
        # Unbiased labels: rounded centres would be copied into the student.
        self.codec = HeatmapConfig(stride=stride, sigma=sigma, decoder="local").build(size)
        self.head = DeconvConfig(channels=(width,) * doublings).build(shape, len(student.skeleton), self.codec)

    def forward(self, features: tuple[Tensor, ...]) -> Heatmaps:
        """Maps (B, K, h, w)."""
        drawn: Heatmaps = self.head(features)
        return drawn

    def places(self, drawn: Heatmaps) -> Keypoints:
        """Where its maps peak, in the student's input px, without gradients."""
        return self.codec.decode(Heatmaps(maps=drawn.maps.detach()))


class HeatmapWeight(nn.Module):
    """How much a helper's heatmap loss counts: a fixed weight, or what balances the gradients on the shared features.

    `branch` hands out the features twice; the backward pass measures the gradient that comes back through each, and the
    weight that is found is the ratio of their running norms. That costs no pass of its own.
    """

    weight: Tensor
    norms: Tensor

    def __init__(self, student: PoseModel, weight: float | Literal["auto"] | None, *, decay: float = 0.98) -> None:
        """None: 1 beside Smooth-L1 with beta 1, 10 beside other task losses, whose gradients are larger; "auto" begins
        with that, and forgets what it measured over about 1 / (1 - decay) steps.
        """
        super().__init__()
        self.measures = weight == "auto"
        self.decay = decay
        first = weight if isinstance(weight, float | int) else _usual_weight(student)
        self.register_buffer("weight", torch.tensor(float(first)))
        self.register_buffer("norms", torch.zeros(2))  # of the student's losses and of the helper's, unweighted
        self.measured: dict[int, Tensor] = {}

    def branch(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The same features for the student's head and for the helper, told apart by their gradients."""
        if not (self.measures and features[-1].requires_grad):
            return features, features
        self.measured = {}
        return self._watched(features, 0), self._watched(features, 1)

    def after_step(self) -> None:
        """Take in what the last backward pass measured; shared over processes, so that all use one weight."""
        if len(self.measured) < 2:
            return
        found = torch.stack([self.measured[0], self.measured[1] / self.weight]).to(self.norms)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(found)
        if not torch.isfinite(found).all() or (found <= 0).any():
            return  # such as a batch without any label
        kept = self.decay if (self.norms > 0).all() else 0.0
        self.norms.mul_(kept).add_(found, alpha=1 - kept)
        self.weight.copy_((self.norms[0] / self.norms[1]).clamp(1e-3, 1e4))

    def _watched(self, features: tuple[Tensor, ...], which: int) -> tuple[Tensor, ...]:
        last = features[-1].view_as(features[-1])
        last.register_hook(lambda gradient: self._measure(which, gradient))
        return (*features[:-1], last)

    def _measure(self, which: int, gradient: Tensor) -> None:
        self.measured[which] = torch.linalg.vector_norm(gradient.detach().float())


def last_feature_shape(student: PoseModel) -> tuple[int, int, int]:
    """(C, h, w) of the features that the student's head reads."""
    image = torch.zeros(1, 3, *student.config.size, device=student.mean.device)
    with torch.no_grad(), evaluating(student):
        channels, height, width = student.features(image)[-1].shape[1:]
    return channels, height, width


def _usual_weight(student: PoseModel) -> float:
    codec = student.codec
    gentle = isinstance(codec, CoordsCodec) and codec.config.loss == "smooth_l1" and codec.config.beta >= 1
    return 1.0 if gentle else 10.0
