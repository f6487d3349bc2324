"""A light head taught by a full one on the same backbone (head down-sizing, OCD, ECCV Workshops 2024; reconstructed).

Known: a modification of OCD shrinks the head, and distillation lets the small head match the original's accuracy. How
we build it, for any representation that both heads share:

    image -> backbone -+-> small head -> prediction ---- task loss ---- labels      (deployed)
                       |                     '---------- distance ----- the full head's prediction
                       +-> full head --> prediction ---- full loss ---- labels      (dropped after training)

The full head's prediction is a target: no gradient of the distance reaches it. As it is a poor one at first, the
distance counts more and more: its weight grows with the training, from nothing.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from posestill.methods.base import Distiller, MethodConfig
from posestill.models.heads import DeconvConfig, HeadConfig
from posestill.models.pose_model import PoseModel, evaluating
from posestill.schema import Choice, UserError
from posestill.teachers.base import Teacher
from posestill.types import PoseBatch, PoseOutput, Prediction


class HeadSlimmingConfig(MethodConfig):
    """These settings choose the full head and weigh the losses."""

    full: Annotated[HeadConfig, Choice("heads")] = DeconvConfig()
    """The large head that the student's small one is to match; it is trained beside it and dropped after training. It
    must suit the student's codec: a SimCC student takes, for instance, {name: gau, kernel: 7}."""
    full_weight: NonNegativeFloat = 1.0
    """The weight of the full head's task loss. The larger it is, the more the features that both heads read are made
    for the full head."""
    distance_weight: NonNegativeFloat = 1.0
    """The weight of the distance between the predictions of the two heads at the end of the training; it rises to that
    linearly from 0. The larger it is, the more the small head follows the full one instead of the labels."""


class HeadSlimming(Distiller):
    """The task loss of both heads, and the distance of the small one's prediction from the full one's."""

    follows_progress = True
    origin = "the head down-sizing of OCD, ECCV Workshops 2024; reconstructed from the abstract"
    config: HeadSlimmingConfig

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: HeadSlimmingConfig) -> None:
        super().__init__(student, teacher, config)
        shape = student.feature_shapes[-1]
        self.full_helper = student.codec.helper()  # RLE's flow learns each head's own errors
        try:
            self.full_head = config.full.build(shape, len(student.skeleton), student.codec)
            with torch.no_grad(), evaluating(self.full_head):
                drawn = self.full_head((torch.zeros(1, *shape),))
            self.full_codec = student.codec.for_prediction(drawn)
            self.full_codec.check(PoseOutput(prediction=drawn, features=()))
        except UserError as error:
            raise UserError(
                f"method.full: the full head must suit the student's codec, {type(student.codec).__name__}, as the "
                f"small one does; said of it alone: {error}"
            ) from None

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The small head's task loss, the full head's, and the distance between the two."""
        full: Prediction = self.full_head(output.features)
        target, weight = self.full_codec.encode(batch.keypoints, batch.weight)
        codec = self.student.codec
        wanted = codec.as_target(codec.thinned(full, self.full_codec)).detach()
        distance = codec.distance(output.prediction, wanted, torch.ones_like(batch.weight))
        return {
            "task": self.task_loss(output, batch),
            "full": self.config.full_weight * self.full_codec.loss(full, target, weight, self.full_helper),
            "distance": progress * self.config.distance_weight * distance,
        }


HeadSlimmingConfig.distiller = HeadSlimming
