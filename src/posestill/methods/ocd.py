"""Online cross-representation distillation (OCD, ECCV Workshops 2024; reconstructed from the abstract).

Known: one short training without a teacher, a task loss that plays the part of the distillation loss, a distillation
loss between heads of two representations, and a deployed model as light as before. How we build it:

    image -> backbone -+-> student head -> coordinates ----- task loss ------ labels
                       +-> heatmap head -> heatmaps -------- heatmap loss --- labels  (distils through the backbone)
                                           their places ---- head loss ------ coordinates, by confidence

The heatmap head is a helper: it is dropped after training, and no gradient of the head loss reaches it.
"""

from __future__ import annotations

import math

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from posestill.codecs.coords import CoordsCodec, coords_loss
from posestill.codecs.heatmap import HeatmapCodec, HeatmapConfig
from posestill.codecs.rle import RleCodec
from posestill.methods.base import Distiller, MethodConfig
from posestill.models.heads import DeconvConfig
from posestill.models.pose_model import PoseModel, evaluating
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.types import Coords, Heatmaps, PoseBatch, Prediction


class OcdConfig(MethodConfig):
    """The heatmap head and the weights of its two losses."""

    stride: PositiveInt = 4
    """input px per px of the helper's heatmaps"""
    width: PositiveInt = 256
    """channels of its deconvolutions, as many as lead from the features to that stride: Simple Baselines' head"""
    sigma: PositiveFloat = 2.0
    """map px, of the heatmap labels, which are unbiased: rounded centres would be copied into the student"""
    heatmap_weight: NonNegativeFloat | None = None
    """of the heatmap loss; None: 1 beside Smooth-L1 with beta 1, 10 beside other task losses, whose gradients on the
    shared features are larger"""
    head_weight: NonNegativeFloat = 1.0
    """of the head loss"""
    threshold: float = 0.2
    """peaks below teach nothing, so that the head loss sets in by itself once the helper has learnt something"""

    def build(self, student: PoseModel, teacher: Teacher | None) -> Ocd:
        """The method around a student; refuses a teacher and a heatmap student."""
        return Ocd(student, teacher, self)


class Ocd(Distiller):
    """The student's task loss, a heatmap helper's on the same features, and the helper's places for the student."""

    origin = "OCD, ECCV Workshops 2024; reconstructed from the abstract"

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: OcdConfig) -> None:
        super().__init__(student, teacher)
        if isinstance(student.codec, HeatmapCodec):
            raise UserError("method: ocd teaches other representations by heatmaps; this student has heatmaps already")
        self.config = config
        image = torch.zeros(1, 3, *student.config.size, device=student.mean.device)
        with torch.no_grad(), evaluating(student):
            shape = student.features(image)[-1].shape[1:]
        size = student.config.size
        doublings = round(math.log2(size[0] / config.stride / shape[1]))
        reached = tuple(cells * 2**doublings * config.stride for cells in shape[1:])
        if doublings < 0 or reached != tuple(size):
            raise UserError(
                f"method: no deconvolutions lead from features of {tuple(shape[1:])} to heatmaps of stride "
                f"{config.stride} on inputs of {size}: change method.stride, or take a model.size that is a multiple "
                "of the backbone's"
            )
        self.heatmaps = HeatmapConfig(stride=config.stride, sigma=config.sigma, decoder="local").build(size)
        head = DeconvConfig(channels=(config.width,) * doublings)
        self.heatmap_head = head.build((shape[0], shape[1], shape[2]), len(student.skeleton), self.heatmaps)
        self.heatmap_weight = _balanced(student) if config.heatmap_weight is None else config.heatmap_weight

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, the heatmap loss and the head loss."""
        output = self.student(batch.image)
        drawn: Heatmaps = self.heatmap_head(output.features)
        target, weight = self.heatmaps.encode(batch.keypoints, batch.weight)
        places = self.heatmaps.decode(Heatmaps(maps=drawn.maps.detach()))
        confidence = places.score.clamp(0, 1) * (places.score > self.config.threshold)  # (B, K)
        return {
            "task": self.task_loss(output, batch),
            "heatmap": self.heatmap_weight * self.heatmaps.loss(drawn, target, weight),
            "head": self.config.head_weight * self._head_loss(output.prediction, places.xy, confidence),
        }

    def _head_loss(self, prediction: Prediction, xy: Tensor, confidence: Tensor) -> Tensor:
        """The student's own loss at places xy (B, K, 2) input px; for RLE the distance alone, not its likelihood."""
        codec = self.student.codec
        target, weight = codec.encode(xy, confidence)
        if isinstance(codec, RleCodec):
            assert isinstance(prediction, Coords)
            return coords_loss(prediction.xy, target, weight, loss="l1", normalise=codec.config.normalise)
        return codec.loss(prediction, target, weight, self.task_helper)


def _balanced(student: PoseModel) -> float:
    codec = student.codec
    gentle = isinstance(codec, CoordsCodec) and codec.config.loss == "smooth_l1" and codec.config.beta >= 1
    return 1.0 if gentle else 10.0
