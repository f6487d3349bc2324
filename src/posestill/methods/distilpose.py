"""DistilPose (CVPR 2023): a heatmap teacher made of tokens teaches a regression student made of the same tokens.

    teacher: backbone -> tokens -------------------> keypoint tokens -> heatmaps -----------.
                           |  visual_tokens, keypoint_tokens  |                             | simulated_heatmap
    student: backbone -> tokens -------------------> keypoint tokens -> x y score spread ---'  confidence
                                                                        x y ----- regression ----- labels

Token-distilling Encoder: the student's transformer is pulled to the teacher's tokens, with no adapter in between.
Simulated heatmap: a Gaussian is drawn from the student's place and spread and compared with the teacher's heatmap, and
the student's score with what the teacher's heatmap says at the student's place. What ships is the student alone.

The second half of that asks only for heatmaps on one side and coordinates on the other: `simulated_heatmap` teaches any
coordinate student by any heatmap teacher.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor

from posestill.codecs.heatmap import simulated_heatmaps
from posestill.methods.base import MethodConfig, TaughtDistiller
from posestill.models.pose_model import PoseModel
from posestill.models.ranks import mean_over_ranks
from posestill.schema import Config, UserError
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import DrawingBridge
from posestill.types import Coords, Heatmaps, PoseBatch, PoseOutput, Tokens

Weighting = Literal["per_sample", "published"]
"""How labels mask the simulated heatmap. per_sample: a keypoint without a label teaches nothing, as the paper means;
published: every keypoint teaches, and each joint's term is scaled by its labelled share of the batch, which is what the
released code computes (its weights broadcast over the batch)."""


class Weights(Config):
    """These are the weights of the five losses, by default the published ones (DistilPose, section 4.1.2)."""

    regression: NonNegativeFloat = 1.0
    """The weight of the student's own loss between its coordinates and the labels. A larger weight makes the labels
    count more beside the teacher."""
    visual_tokens: NonNegativeFloat = 5e-4
    """The weight of the mean squared distance between the student's and the teacher's visual tokens, which stand for
    patches of the image. A larger weight pulls the student's transformer closer to the teacher's."""
    keypoint_tokens: NonNegativeFloat = 5e-4
    """The weight of the mean squared distance between the student's and the teacher's keypoint tokens, from which
    keypoints are predicted. A larger weight pulls the student's transformer closer to the teacher's."""
    simulated_heatmap: NonNegativeFloat = 1.0
    """The weight of the squared error between the Gaussians that the student's coordinates draw and the teacher's
    heatmaps. A larger weight makes the teacher's heatmaps count more beside the labels."""
    confidence: NonNegativeFloat = 1e-2
    """The weight of the distance between the student's scores and what the teacher's heatmaps say at the student's
    places. Nothing else trains the scores, so that it must be above 0 where the student has them."""


def losses(
    student: PoseOutput,
    teacher: PoseOutput,
    xy: Tensor,
    weight: Tensor,
    *,
    weighting: Weighting = "per_sample",
    weights: Weights = Weights(),
) -> dict[str, Tensor]:
    """The five losses of DistilPose, already weighted, for a teacher that reads the student's own crops.

    The student's prediction is Coords with `scale` and `score`, the teacher's Heatmaps, and both have tokens. xy
    (B, K, 2) holds the labels as fractions of the input's (W, H), weight (B, K) is 1 where labelled. Pure, and exact in
    float64. Source: sections 3.2 to 3.4 of DistilPose, CVPR 2023, and its released code.
    """
    assert isinstance(student.prediction, Coords)
    assert isinstance(teacher.prediction, Heatmaps)
    return {
        "regression": weights.regression * regression_loss(student.prediction.xy, xy, weight),
        **token_losses(student.tokens, teacher.tokens, weights),
        **heatmap_losses(
            student.prediction, teacher.prediction.maps, weight, weighting=weighting,
            simulated_heatmap=weights.simulated_heatmap, confidence=weights.confidence,
        ),
    }  # fmt: skip


def regression_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Smooth-L1 between fractions (B, K, 2) under weight (B, K), over all entries, masked ones included.

    Fractions never differ by more than 1, where Smooth-L1 is half the squared error.
    """
    mask = weight[..., None]
    return F.smooth_l1_loss(mask * prediction, mask * target)


def token_losses(student: Tokens | None, teacher: Tokens | None, weights: Weights) -> dict[str, Tensor]:
    """The mean squared distance of visual tokens (B, P, D) and of keypoint tokens (B, K, D); nothing is masked."""
    assert student is not None
    assert teacher is not None
    return {
        "visual_tokens": weights.visual_tokens * F.mse_loss(student.visual, teacher.visual),
        "keypoint_tokens": weights.keypoint_tokens * F.mse_loss(student.keypoint, teacher.keypoint),
    }


def heatmap_losses(
    coords: Coords, maps: Tensor, weight: Tensor, *, weighting: Weighting, simulated_heatmap: float, confidence: float
) -> dict[str, Tensor]:
    """What the teacher's maps (B, K, h, w) say about coordinates given as fractions of those maps' (w, h)."""
    return {
        "simulated_heatmap": simulated_heatmap * simulated_heatmap_loss(coords, maps, weight, weighting),
        "confidence": confidence * confidence_loss(coords, maps, weight),
    }


def simulated_heatmap_loss(coords: Coords, maps: Tensor, weight: Tensor, weighting: Weighting) -> Tensor:
    """The squared error between the Gaussians that coords draw and maps (B, K, h, w), averaged over B, K, h and w."""
    assert coords.scale is not None
    height, width = maps.shape[-2:]
    extent = coords.xy.new_tensor([width, height])
    drawn = simulated_heatmaps(coords.xy * extent, coords.scale * extent, (height, width))  # (B, K, h, w)
    error = (drawn - maps.to(drawn.dtype)).square().mean(dim=(-2, -1))  # (B, K)
    if weighting == "published":
        # (N, 1, 1) weights against (N, hw) errors broadcast to (N, N, hw); its mean factors, in linear memory.
        return (mean_over_ranks(weight.square().mean(dim=0)) * error.mean(dim=0)).mean()
    return (weight.square() * error).mean()


def confidence_loss(coords: Coords, maps: Tensor, weight: Tensor) -> Tensor:
    """The distance of the scores (B, K) from the maps' values where the student places its keypoints.

    Cells are found by (w - 1, h - 1), unlike the Gaussians' (w, h): up to a cell beside them at the far edges, as
    published. Without scores it is zero.
    """
    if coords.score is None:
        return weight.new_zeros(())
    height, width = maps.shape[-2:]
    cell = (coords.xy.detach().clamp(0, 1) * coords.xy.new_tensor([width - 1, height - 1])).round().long()  # (B, K, 2)
    value = maps.flatten(2).gather(-1, (cell[..., 1] * width + cell[..., 0])[..., None]).squeeze(-1)  # (B, K)
    return (weight * (coords.score - value.to(coords.score.dtype))).abs().mean()


def taught_weight(weight: Tensor, maps: Tensor, threshold: float) -> Tensor:
    """(B, K) where the teacher's maps count: as its labels say and, for a person without any, where its peak is high.

    The published training knows labelled persons only, for whom this is the labels' weight.
    """
    without = (weight.sum(dim=-1, keepdim=True) == 0).to(weight.dtype)  # (B, 1)
    return weight + without * (maps.amax(dim=(-2, -1)) > threshold).to(weight.dtype)


class SimulatedHeatmapConfig(MethodConfig):
    """These settings say how much the teacher's heatmaps count, and for whom."""

    weight: NonNegativeFloat = 1.0
    """The weight of the simulated heatmap beside the labels' loss, which has weight 1. The value 1 is published beside
    Smooth-L1 with beta 1, whose gradients are small: take 10 or more beside L1."""
    confidence_weight: NonNegativeFloat = 1e-2
    """The weight of the loss by which the student's score learns what the teacher's heatmap says at the student's
    place; it counts where the student's codec has a score. Nothing else trains the score, so that it must then be above
    0."""
    weighting: Weighting = "per_sample"
    """How the labels mask the loss of the simulated heatmap. `per_sample`: where a person has labels, a keypoint
    without one teaches nothing, as the paper means. `published`: every keypoint teaches, and each one's loss is scaled
    by its labelled share of the batch, which is what the released code computes."""
    threshold: float = 0.3
    """The height that a peak of the teacher's heatmap must exceed to teach a person without labels. A lower threshold
    teaches such persons more keypoints, and more wrong ones."""


class SimulatedHeatmap(TaughtDistiller):
    """The task loss, and the teacher's heatmaps against a Gaussian at the student's place.

    A coords student with `scale` draws with the spread that it predicts, any other with the teacher's sigma.
    """

    trains_score = True
    origin = "the simulated heatmap of DistilPose, CVPR 2023, on its own"
    config: SimulatedHeatmapConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: SimulatedHeatmapConfig) -> None:
        super().__init__(student, teacher, config)
        self.bridge = DrawingBridge(teacher, student)
        _check_score(student, config.confidence_weight, "method.confidence_weight")

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, the simulated heatmap and the confidence."""
        maps, known = self.bridge.maps(answer.prediction)
        _, weight = self.student.codec.encode(batch.keypoints, batch.weight)
        return {
            "task": self.task_loss(output, batch),
            **heatmap_losses(
                self.bridge.on_teacher_map(output.prediction, batch),
                maps,
                taught_weight(weight, maps, self.config.threshold) * known,
                weighting=self.config.weighting,
                simulated_heatmap=self.config.weight,
                confidence=self.config.confidence_weight,
            ),
        }


SimulatedHeatmapConfig.distiller = SimulatedHeatmap


class DistilPoseConfig(MethodConfig):
    """These settings weigh the five losses and say how the labels mask the simulated heatmap."""

    weights: Weights = Weights()
    """The weights of the five losses, by default the published ones."""
    weighting: Weighting = "per_sample"
    """How the labels mask the loss of the simulated heatmap. `per_sample`: where a person has labels, a keypoint
    without one teaches nothing, as the paper means. `published`: every keypoint teaches, and each one's loss is scaled
    by its labelled share of the batch, which is what the released code computes."""
    threshold: float = 0.3
    """The height that a peak of the teacher's heatmap must exceed to teach a person without labels. A lower threshold
    teaches such persons more keypoints, and more wrong ones."""


class DistilPose(TaughtDistiller):
    """The five losses of the paper; the regression is the student's own task loss."""

    needs = frozenset({"prediction", "tokens"})
    trains_score = True
    owns_head = True  # it weighs the labels' loss
    task_name = "regression"
    origin = "DistilPose, CVPR 2023; the losses and models equal those of its released code"
    config: DistilPoseConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: DistilPoseConfig) -> None:
        super().__init__(student, teacher, config)
        self.bridge = DrawingBridge(teacher, student)
        _check_score(student, config.weights.confidence, "method.weights.confidence")
        _check_tokens(student, teacher)

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """Regression, visual and keypoint tokens, simulated heatmap and confidence."""
        maps, known = self.bridge.maps(answer.prediction)
        _, weight = self.student.codec.encode(batch.keypoints, batch.weight)
        weights = self.config.weights
        return {
            "regression": weights.regression * self.task_loss(output, batch),
            **token_losses(output.tokens, answer.tokens, weights),
            **heatmap_losses(
                self.bridge.on_teacher_map(output.prediction, batch),
                maps,
                taught_weight(weight, maps, self.config.threshold) * known,
                weighting=self.config.weighting,
                simulated_heatmap=weights.simulated_heatmap,
                confidence=weights.confidence,
            ),
        }


def _check_score(student: PoseModel, weight: float, key: str) -> None:
    """A score that nothing trains would rank persons by noise: the AP of 0.02 in the release's issue 2."""
    if student.codec.score_is_taught and weight == 0:
        raise UserError(f"model.codec.score is true and {key} is 0, so nothing trains the score: change one of them")


def _check_tokens(student: PoseModel, teacher: Teacher) -> None:
    """Fail, naming both, when the token layouts differ."""
    if student.token_shape is None:
        raise UserError(
            "method: distilpose teaches tokens, and this student has none: choose model.head token, or the method "
            "simulated_heatmap, which asks for no tokens"
        )
    if student.skeleton.names != teacher.skeleton.names:
        raise UserError(
            "method: distilpose compares keypoint tokens one by one, so that student and teacher must have the same "
            "keypoints: train a teacher on this skeleton, or choose simulated_heatmap"
        )
    own, taught = student.token_shape, teacher.token_shape
    if own != taught:
        assert taught is not None  # it provides tokens
        raise UserError(
            f"method: the student has {own[0]} visual tokens of {own[1]} channels and the teacher {taught[0]} of "
            f"{taught[1]}: choose model.head.patch and model.head.dim so that they agree"
        )


DistilPoseConfig.distiller = DistilPose
