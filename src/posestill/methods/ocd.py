"""Online cross-representation distillation (OCD, ECCV Workshops 2024; reconstructed from the abstract).

Known: one short training without a teacher, a task loss that plays the part of the distillation loss, a distillation
loss between heads of two representations, and a deployed model as light as before. How we build it:

    image -> backbone -+-> student head -> coordinates ----- task loss ------ labels
                       +-> heatmap head -> heatmaps -------- heatmap loss --- labels  (distils through the backbone)
                                           their places ---- head loss ------ coordinates, by confidence

The heatmap head is a helper: it is dropped after training, and no gradient of the head loss reaches it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from posestill.codecs.base import MapForm
from posestill.methods.base import Distiller, MethodConfig
from posestill.models.heatmap_helper import HeatmapHelper, heatmap_weight
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.types import PoseBatch, PoseOutput


class OcdConfig(MethodConfig):
    """These settings describe the heatmap head and weigh its two losses."""

    stride: PositiveInt = 4
    """Input px per map px of the heatmaps that the helper draws, a heatmap head which is dropped after training. A
    smaller stride makes finer maps and costs more training time."""
    width: PositiveInt = 256
    """The channels of each of the helper's deconvolutions, as many of which as lead from the features to that stride;
    256 is Simple Baselines' head. Fewer channels cost less training time; the model that ships stays the same."""
    sigma: PositiveFloat = 2.0
    """The spread of the Gaussians in the heatmap labels, in map px. A larger spread is easier to learn and places
    keypoints less exactly. Their centres are not rounded, as that error would be copied into the student."""
    heatmap_weight: NonNegativeFloat | Literal["auto"] | None = None
    """The weight of the heatmap loss; the larger, the more the features are made for heatmaps. None: 1 beside Smooth-L1
    with beta 1 or more, 10 beside other task losses, whose gradients on the shared features are larger. `auto`: as much
    as makes both gradients there equally large, measured while training."""
    head_weight: NonNegativeFloat = 1.0
    """The weight of the head loss, which pulls the student's prediction to where the helper's heatmaps peak. The larger
    it is, the more the student follows the helper beside the labels; 0 switches it off."""
    task_reaches_backbone: bool = True
    """True: the student's own losses train the backbone, too. False: the heatmap loss alone makes the features, and the
    student's head learns to read them. That was better for a small student in our comparison (docs/studies/ocd.md), but
    a head that pools may find nothing to read there."""
    threshold: float = 0.2
    """The height that a peak of the helper's heatmaps must exceed to teach; it then counts by its height. So the head
    loss sets in by itself once the helper has learnt something: earlier, with more wrong places, at a lower
    threshold."""


class Ocd(Distiller):
    """The student's task loss, a heatmap helper's on the same features, and the helper's places for the student."""

    origin = "OCD, ECCV Workshops 2024; reconstructed from the abstract"
    config: OcdConfig

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: OcdConfig) -> None:
        super().__init__(student, teacher, config)
        if isinstance(student.codec.form, MapForm):
            raise UserError(
                "method: ocd teaches other representations by heatmaps, and this student has heatmaps already: choose "
                "head_slimming for a lighter heatmap head"
            )
        if config.heatmap_weight == "auto" and not config.task_reaches_backbone:
            raise UserError("method.heatmap_weight: auto balances two gradients on the backbone, and "
                            "task_reaches_backbone=false leaves one: give a number")  # fmt: skip
        self.owns_head = not config.task_reaches_backbone
        self.helper = HeatmapHelper(student, stride=config.stride, width=config.width, sigma=config.sigma)
        self.heatmap_weight = heatmap_weight(student, config.heatmap_weight)

    def for_head(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Where the task loss shall not reach the backbone, its gradient ends here."""
        watched = self.heatmap_weight.measure_student(features)
        return watched if self.config.task_reaches_backbone else tuple(each.detach() for each in watched)

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, the heatmap loss and the head loss."""
        drawn = self.helper(self.heatmap_weight.measure_other(output.features))
        target, weight = self.helper.codec.encode(batch.keypoints, batch.weight)
        places = self.helper.places(drawn)
        confidence = places.score.clamp(0, 1) * (places.score > self.config.threshold)  # (B, K)
        return {
            "task": self.task_loss(output, batch),
            "heatmap": self.heatmap_weight.weight * self.helper.codec.loss(drawn, target, weight),
            "head": self.config.head_weight * self.head_loss(output, places.xy, confidence),
        }

    def head_loss(self, output: PoseOutput, xy: Tensor, confidence: Tensor) -> Tensor:
        """The student's own loss at places xy (B, K, 2) input px; for RLE the distance alone, not its likelihood."""
        return self.student.codec.distance(output.prediction, *self.student.codec.encode(xy, confidence))

    def after_step(self) -> None:
        """Measure the balance of the gradients."""
        self.heatmap_weight.after_step()

    def watch(self) -> dict[str, float]:
        """The weight of the heatmap loss, which may be measured."""
        return {"heatmap_weight": self.heatmap_weight.weight.item()}


OcdConfig.distiller = Ocd
