"""Distillers of features that others are compared with: FitNet, PKD, MGD and CWD.

All align the student's last feature map with the teacher's by one 1x1 convolution and a bilinear resize, and differ in
what they call near. `weight: auto` makes each pull half as hard at the student's features as the task loss does, so
that they can be compared at one strength; a number is the published weight on the published scale.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from posestill.methods.base import MethodConfig, TaughtDistiller
from posestill.models.balance import BalancedWeight
from posestill.models.pose_model import PoseModel
from posestill.models.ranks import count, mean_over_ranks, shared_seed, uniform_by_person
from posestill.models.resize import resized
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import need_one_aspect
from posestill.types import PoseBatch, PoseOutput, Size

Weight = NonNegativeFloat | Literal["auto"]


class FeatureConfig(MethodConfig):
    """These settings say how much the distance between the student's features and the teacher's counts."""

    weight: Weight = 1.0
    """The weight of the distance between the student's features and the teacher's; a larger number pulls harder. `auto`
    begins with the published number and goes on with whatever makes the distance pull half as hard at the student's
    features as the task loss does."""
    fades_out: bool = False
    """True: the weight falls linearly to nothing by the end of the training, as DWPose (ICCV Workshops 2023) has it, so
    that the last word is the labels'. False: it keeps its value to the end."""


class FeatureDistiller(TaughtDistiller):
    """The task loss, and how far the student's aligned features are from the teacher's."""

    needs = frozenset({"features"})
    config: FeatureConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: FeatureConfig) -> None:
        super().__init__(student, teacher, config)
        need_one_aspect(teacher, student)
        self.channels, *grid = teacher.feature_shapes[-1]
        self.grid: Size = (grid[0], grid[1])
        self.align = nn.Conv2d(student.feature_shapes[-1][0], self.channels, 1)
        published: float = type(config).model_fields["weight"].default
        first = published if config.weight == "auto" else config.weight
        self.balance = BalancedWeight(first, measures=config.weight == "auto", share=0.5)
        self.follows_progress = config.fades_out

    def for_head(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features, with the gradient that the head sends back measured."""
        return self.balance.measure_student(features)

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss and the distance of the features."""
        taught = answer.features[-1].float()  # (B, C, h, w)
        own = self.balance.measure_other(output.features)[-1]
        aligned = resized(self.align(own).float(), self.grid)
        weight = self.balance.follow_schedule(1 - progress if self.config.fades_out else 1.0)
        return {"task": self.task_loss(output, batch), "features": weight * self.distance(aligned, taught)}

    def distance(self, aligned: Tensor, taught: Tensor) -> Tensor:
        """A scalar for features (B, C, h, w) of both."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Measure the balance of the gradients."""
        self.balance.after_step()

    def watch(self) -> dict[str, float]:
        """The weight of the distance, which may be measured."""
        return {"weight": self.balance.weight.item()}


class FitNetConfig(FeatureConfig):
    """FitNet's hint (ICLR 2015) is the mean squared error between the features."""

    weight: Weight = 10.0
    """The weight of the mean squared error. 10 is mmrazor's number, which counts there beside another error: of
    features brought to length 1, and summed. A larger number pulls the student's features harder;
    `auto` begins with 10 and goes on with what makes the error pull half as hard at them as the task loss does."""


class FitNet(FeatureDistiller):
    """The mean squared error."""

    origin = "FitNet, ICLR 2015, for comparison"

    def distance(self, aligned: Tensor, taught: Tensor) -> Tensor:
        """Averaged over everything."""
        return F.mse_loss(aligned, taught)


FitNetConfig.distiller = FitNet


class PearsonConfig(FeatureConfig):
    """PKD (NeurIPS 2022) compares features by their correlation, whatever their scale."""

    weight: Weight = 10.0
    """The weight of the distance; 10 is published between families of networks, 6 within one. A larger number pulls the
    student's features harder; `auto` begins with 10 and goes on with what makes the distance pull half as hard at them
    as the task loss does."""


class Pearson(FeatureDistiller):
    """Half the squared error of features at mean 0 and variance 1 a channel: one less their correlation."""

    origin = "PKD, NeurIPS 2022, for comparison"

    def distance(self, aligned: Tensor, taught: Tensor) -> Tensor:
        """Averaged over everything; each channel over the batch and the map."""
        return F.mse_loss(_standard(aligned), _standard(taught)) / 2


PearsonConfig.distiller = Pearson


def _standard(feature: Tensor) -> Tensor:
    mean = mean_over_ranks(feature.mean(dim=(0, 2, 3), keepdim=True))
    if count() == 1:
        spread = feature.std(dim=(0, 2, 3), keepdim=True, correction=0)
    else:
        spread = mean_over_ranks((feature - mean).square().mean(dim=(0, 2, 3), keepdim=True)).sqrt()
    return (feature - mean) / (spread + 1e-6)


class MaskedGenerationConfig(FeatureConfig):
    """MGD (ECCV 2022) rebuilds the teacher's features from the student's with most places hidden."""

    weight: Weight = 2e-5
    """The weight of the squared error, summed over everything and divided by the batch; 2e-5 is published for dense
    prediction. A larger number pulls the student's features harder; `auto` begins with 2e-5 and goes on with what makes
    the error pull half as hard at them as the task loss does."""
    masked: float = Field(default=0.65, ge=0, lt=1)
    """The share of the places of the student's feature map that are hidden before the teacher's features are rebuilt
    from it. The more are hidden, the more each of the others must tell about its surroundings; 0 hides none."""


class MaskedGeneration(FeatureDistiller):
    """The teacher's features rebuilt from the student's with most places hidden."""

    origin = "MGD, ECCV 2022, for comparison"
    config: MaskedGenerationConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: MaskedGenerationConfig) -> None:
        super().__init__(student, teacher, config)
        channels = self.channels
        self.generate = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(True), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def distance(self, aligned: Tensor, taught: Tensor) -> Tensor:
        """Summed over everything, divided by the batch; hidden places are drawn anew."""
        batch, _, height, width = aligned.shape
        generator = torch.Generator(aligned.device).manual_seed((shared_seed() ^ 0x36D) & 0x7FFF_FFFF)
        shown = uniform_by_person((batch, 1, height, width), generator) > self.config.masked
        return F.mse_loss(self.generate(aligned * shown).float(), taught, reduction="sum") / batch


MaskedGenerationConfig.distiller = MaskedGeneration


class ChannelWiseConfig(FeatureConfig):
    """CWD (ICCV 2021) compares where on the map each channel looks, whatever its height."""

    weight: Weight = 50.0
    """The weight of the divergence; 50 for features is recalled from the paper, not checked. A larger number pulls the
    student's features harder; `auto` begins with 50 and goes on with what makes the divergence pull half as hard at
    them as the task loss does."""
    temperature: PositiveFloat = 4.0
    """What the features are divided by before the softmax that makes each channel a distribution over the map; 4 is
    recalled from the paper, not checked. A higher temperature compares the whole map, a lower one its peaks."""


class ChannelWise(FeatureDistiller):
    """Each channel as a distribution over the map: where it looks, whatever its height."""

    origin = "CWD, ICCV 2021, for comparison; weight and temperature are recalled, not checked"
    config: ChannelWiseConfig

    def distance(self, aligned: Tensor, taught: Tensor) -> Tensor:
        """The divergence, summed over the map, averaged over channels and batch, times the temperature squared."""
        temperature = self.config.temperature
        one, other = (each.flatten(2) / temperature for each in (aligned, taught))  # (B, C, h w)
        wanted = other.softmax(dim=-1)
        divergence = (wanted * (other.log_softmax(dim=-1) - one.log_softmax(dim=-1))).sum(dim=-1)  # (B, C)
        return temperature**2 * divergence.mean()


ChannelWiseConfig.distiller = ChannelWise
