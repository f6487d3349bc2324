"""What every representation of keypoints can do. Targets are encoded on the device, inside the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from posestill.schema import Config, UserError
from posestill.types import Keypoints, PoseOutput, Prediction, Size

Normalise = Literal["batch", "labelled"]
"""What a loss is divided by: every keypoint of the batch (as published), or the labelled ones."""


Rescoring = Literal["mean", "sum", "box"]
"""A person's score: box score times the mean of the keypoint scores that count; or box score plus mean plus maximum of
the keypoint scores (RLE); or the box score alone (no trained confidences)."""


@dataclass(frozen=True)
class MapForm:
    """The form of heatmaps: which map a head must draw, and how it lies on the input."""

    input_size: Size
    """(height, width) of the input, px"""
    size: Size
    """(h, w) of a map, map px"""
    px_per_cell: tuple[float, float]
    """input px per map px, (x, y)"""
    sigma: float
    """spread of a keypoint's Gaussian, map px"""
    first_cell: float = 0.0
    """input px at which the map's first cell has its centre, on both axes"""

    def to_map(self, xy: Tensor) -> Tensor:
        """Places (..., 2) in input px as places in map px."""
        return (xy - self.first_cell if self.first_cell else xy) / xy.new_tensor(self.px_per_cell)

    def to_input(self, xy: Tensor) -> Tensor:
        """Places (..., 2) in map px as places in input px."""
        placed = xy * xy.new_tensor(self.px_per_cell)
        return placed + self.first_cell if self.first_cell else placed

    def spread_on_map(self, spread: Tensor) -> Tensor:
        """Spreads (..., 2) in input px as spreads in map px."""
        return spread / spread.new_tensor(self.px_per_cell)

    def has_the_cells_of(self, other: MapForm) -> bool:
        """True where both maps have the same cells at the same places of the same input."""
        own, theirs = ((each.input_size, each.size, each.px_per_cell, each.first_cell) for each in (self, other))
        return own == theirs


@dataclass(frozen=True)
class NumberForm:
    """The form of coordinates: some numbers a keypoint, which the codec assembles."""

    count: int
    """numbers a keypoint that a head must give"""
    draws_spread: bool = False
    """True: it predicts a spread that a simulated heatmap is drawn with. RLE's spread is none: it is that of a
    likelihood, and a loss that pulled it elsewhere would spoil it"""


@dataclass(frozen=True)
class BinForm:
    """The form of SimCC: a classification over the bins of each axis."""

    x: int
    """bins of the x axis"""
    y: int
    """bins of the y axis"""
    beta: float
    """what logits are multiplied by before their softmax"""


Form = MapForm | NumberForm | BinForm
"""What a head must give for a codec. Whoever needs more than a codec's methods asks its form, never its class."""


class Codec:
    """A representation bound to an input size: encode labels, decode predictions, mirror them, score them."""

    prediction_type: type[Prediction]
    """which prediction a head must return for this codec"""
    form: Form
    """what that prediction consists of"""
    has_score: bool
    """False: the model has no trained confidence; every score is 1 and persons rank by their box score"""
    score_is_taught: bool = False
    """True: the confidence is trained by methods that say so, and by nothing else"""
    rescoring: Rescoring
    """as published for this representation"""
    heatmap_weight: float = 10.0
    """what a heatmap loss on the student's features usually counts beside this task loss: the larger the gradients that
    the task loss sends there, the more"""
    size: Size

    def encode(self, xy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The target of labels xy (B, K, 2) input px, and weight (B, K) narrowed to those that can be represented."""
        raise NotImplementedError

    def assemble(self, values: Tensor) -> Any:
        """A head's raw numbers (B, K, count) as a prediction, for a codec whose form is numbers."""
        raise NotImplementedError

    def decode(self, prediction: Any) -> Keypoints:
        """Keypoints in input px."""
        raise NotImplementedError

    def flip(self, prediction: Any, swap: Tensor) -> Any:
        """The prediction for a mirrored crop, mirrored back; swap (K,) is the mirror partner of each keypoint."""
        raise NotImplementedError

    def loss(self, prediction: Any, target: Tensor, weight: Tensor, helper: nn.Module | None = None) -> Tensor:
        """The task loss, a scalar; weight (B, K); helper is what `helper()` made."""
        raise NotImplementedError

    def distance(self, prediction: Any, target: Tensor, weight: Tensor) -> Tensor:
        """What pulls a prediction to another model's answer, a scalar: the task loss, unless that is a likelihood."""
        return self.loss(prediction, target, weight)

    def as_target(self, prediction: Any) -> Tensor:
        """Another model's prediction in the form that `encode` gives labels."""
        raise NotImplementedError

    def helper(self) -> nn.Module | None:
        """A network that the loss trains beside the student and that is never deployed (RLE's flow), or None."""
        return None

    def for_prediction(self, prediction: Any) -> Codec:
        """The codec that reads what another head gives for the same labels: this one, unless that head is finer."""
        return self

    def thinned(self, prediction: Any, codec: Codec) -> Any:
        """A prediction that `codec`, which `for_prediction` found, reads, as this one reads it."""
        return prediction

    def check(self, output: PoseOutput) -> None:
        """Fail, naming both sizes, when a head's output does not fit this codec."""
        if not isinstance(output.prediction, self.prediction_type):
            raise UserError(
                f"model: the head returns {type(output.prediction).__name__} and the codec reads "
                f"{self.prediction_type.__name__}: choose a head and a codec of one kind"
            )


class CodecConfig(Config):
    """These are the settings of a codec; `build` binds them to the input size."""

    normalise: Normalise = "batch"
    """What the summed loss of the keypoints is divided by. `batch`: by all keypoints of the batch, including those
    without a label, as published. `labelled`: by the labelled ones, so that batches with few labels count as much as
    others."""

    def build(self, size: Size) -> Codec:
        """The codec for inputs of `size`. Fails when the size does not fit, naming both."""
        raise NotImplementedError

    def trained_by_labels(self) -> CodecConfig:
        """The same codec without what labels cannot train, such as a confidence that only a teacher's terms reach."""
        return self


def masked_mean(values: Tensor, weight: Tensor, normalise: Normalise) -> Tensor:
    """The scalar mean of per-keypoint losses (B, K) under weight (B, K); see `Normalise`."""
    total = (values * weight).sum()
    if normalise == "batch":
        return total / weight.numel()
    labelled = weight.sum()
    world = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # Every rank divides by the mean count, so that the averaged gradient is that of the joint batch.
        labelled, world = labelled.detach().clone(), torch.distributed.get_world_size()
        torch.distributed.all_reduce(labelled)
    return total / (labelled.clamp(min=1) / world)


def inside(xy: Tensor, size: Size) -> Tensor:
    """(B, K) 1.0 where a keypoint (B, K, 2) lies on a pixel of an input of `size`."""
    limit = xy.new_tensor([size[1] - 1, size[0] - 1])
    return ((xy >= 0) & (xy <= limit)).all(dim=-1).to(xy.dtype)
