"""A heatmap head on a student's features, for training only."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from posestill.codecs.heatmap import HeatmapConfig
from posestill.models.balance import BalancedWeight
from posestill.models.heads import DeconvConfig
from posestill.models.pose_model import PoseModel
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
        shape = student.feature_shapes[-1]
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


def heatmap_weight(student: PoseModel, weight: float | Literal["auto"] | None) -> BalancedWeight:
    """Of a heatmap loss beside the student's task loss. None: what its codec says is usual; auto: begins with that and
    measures.
    """
    usual = student.codec.heatmap_weight
    return BalancedWeight(weight if isinstance(weight, float | int) else usual, measures=weight == "auto")
