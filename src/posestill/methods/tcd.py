"""Teacher-aided cross-representation distillation (TCD, ECCV Workshops 2024; reconstructed from the abstract).

Known: it is built on OCD, and a pretrained heatmap teacher distils a student of another representation. How we build
it, in the form that the teacher allows:

    head       image -> backbone -+-> student head -> coordinates --- task loss --- labels
                                  |                        '--------- head loss --- the teacher's places, by confidence
                                  +-> adapter -> the teacher's frozen head -> heatmaps --- heatmap loss --- labels
    helper     the same with a heatmap head of its own, trained on labels mixed with the teacher's heatmaps
    keypoints  task loss and head loss alone

Where a keypoint has no label, the teacher's heatmap stands in for it. Adapter and helper are dropped after training.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from posestill.codecs.heatmap import HeatmapCodec
from posestill.methods.base import Distiller, MethodConfig
from posestill.models.heatmap_helper import HeatmapHelper, heatmap_weight, last_feature_shape
from posestill.models.pose_model import PoseModel
from posestill.models.resize import resized
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import Bridge, HeatmapBridge, between_inputs, blank_batch, need_one_aspect, of_one_aspect
from posestill.types import Heatmaps, PoseBatch, PoseOutput

Form = Literal["head", "helper", "keypoints"]


class TcdConfig(MethodConfig):
    """The form, and the weights of its losses."""

    form: Form | Literal["auto"] = "auto"
    """auto: head for a live heatmap teacher whose features are at most twice as fine as the student's (a head behind
    finer ones is hardly more than the adapter), helper for other live heatmap teachers, keypoints for all the rest,
    cached ones too"""
    teacher_share: float | None = Field(default=None, ge=0, le=1)
    """of the teacher's heatmap in the target of a labelled keypoint; None: 0 for head, 0.5 for helper"""
    heatmap_weight: NonNegativeFloat | Literal["auto"] | None = None
    """of the heatmap loss; None: 1 beside Smooth-L1 with beta 1, 10 beside other task losses; auto: as much as makes
    its gradient on the student's features as large as that of the student's own losses, measured while training"""
    head_weight: NonNegativeFloat = 1.0
    """of the head loss"""
    threshold: float = 0.2
    """the teacher's confidence below which its keypoint counts nothing; above, it counts by its confidence"""
    stride: PositiveInt = 4
    """input px per px of the helper's heatmaps"""
    width: PositiveInt = 256
    """channels of the helper's deconvolutions"""
    sigma: PositiveFloat = 2.0
    """map px, of the helper's labels"""

    def build(self, student: PoseModel, teacher: Teacher | None) -> Tcd:
        """The method around a student; needs a teacher."""
        return Tcd(student, teacher, self)


class Tcd(Distiller):
    """The task loss, the teacher's places for the student, and a heatmap loss that reaches the student's features."""

    needs = frozenset({"prediction"})
    origin = "TCD, ECCV Workshops 2024; reconstructed from the abstract"

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: TcdConfig) -> None:
        super().__init__(student, teacher)
        assert self.teacher is not None
        self.config = config
        self.form, reason = _choose(student, self.teacher) if config.form == "auto" else (config.form, "as asked for")
        _refuse_what_is_not_used(config)
        self.chosen = f"TCD in its form '{self.form}': {reason}"
        self.bridge = Bridge(self.teacher, student)
        if self.form != "keypoints":
            self.heatmap_bridge = self._meet_heatmaps(self.teacher)
            self.heatmap_weight = heatmap_weight(student, config.heatmap_weight)
        if self.form == "head":
            need_one_aspect(self.teacher, student)
            self.adapter = _Adapter(student, self.teacher)
        if self.form == "helper":
            self.helper = HeatmapHelper(student, stride=config.stride, width=config.width, sigma=config.sigma)

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, the head loss and, but for the form `keypoints`, the heatmap loss."""
        assert self.teacher is not None
        taught = self.teacher(batch)
        features = of_heatmaps = self.student.features(batch.image)
        if self.form != "keypoints":
            features, of_heatmaps = self.heatmap_weight.branch(features)
        output = self.student.read(features)
        places = self.bridge.keypoints(taught, batch)
        confidence = places.score.clamp(0, 1) * (places.score > self.config.threshold)  # (B, K)
        codec = self.student.codec
        losses = {
            "task": self.task_loss(output, batch),
            "head": self.config.head_weight * codec.distance(output.prediction, *codec.encode(places.xy, confidence)),
        }
        if self.form == "head":
            losses["heatmap"] = self.heatmap_weight.weight * self._by_its_head(of_heatmaps, taught, batch, confidence)
        if self.form == "helper":
            losses["heatmap"] = self.heatmap_weight.weight * self._by_helper(of_heatmaps, taught, batch, confidence)
        return losses

    def _by_its_head(
        self, features: tuple[Tensor, ...], taught: PoseOutput, batch: PoseBatch, confidence: Tensor
    ) -> Tensor:
        """The heatmap loss of what the teacher's head draws from the student's adapted features."""
        assert self.teacher is not None
        codec, bridge = self.heatmap_bridge.teacher_codec, self.heatmap_bridge
        drawn, known = bridge.maps(self.teacher.head(self.adapter(features)))  # (B, K, h, w), (K,)
        xy = between_inputs(batch.keypoints, self.student.config.size, codec.size, batch.mirrored())
        target, weight = codec.encode(xy, batch.weight)
        soft, _ = bridge.maps(taught.prediction)
        return codec.loss(Heatmaps(maps=drawn), *self._mixed(target, weight * known, soft, confidence))

    def _by_helper(
        self, features: tuple[Tensor, ...], taught: PoseOutput, batch: PoseBatch, confidence: Tensor
    ) -> Tensor:
        """The heatmap loss of what the helper draws from the student's features."""
        codec, bridge = self.helper.codec, self.heatmap_bridge
        target, weight = codec.encode(batch.keypoints, batch.weight)
        soft = bridge.resampled(bridge.maps(taught.prediction)[0], codec, batch)
        return codec.loss(self.helper(features), *self._mixed(target, weight, soft, confidence))

    def _mixed(self, target: Tensor, weight: Tensor, soft: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        """Labels' maps mixed with the teacher's soft ones (B, K, h, w) where it is sure, and what they count (B, K).

        Without a label on the map the teacher's is all there is, and counts by its confidence.
        """
        usual = 0.0 if self.form == "head" else 0.5
        share = usual if self.config.teacher_share is None else self.config.teacher_share
        told = torch.where(weight > 0, share * (confidence > 0), 1.0)[..., None, None]
        return (1 - told) * target + told * soft, torch.where(weight > 0, weight, confidence)

    def _meet_heatmaps(self, teacher: Teacher) -> HeatmapBridge:
        """Fail where the form asked for does not suit the student or the teacher."""
        if isinstance(self.student.codec, HeatmapCodec):
            raise UserError(
                f"method.form: {self.form} teaches other representations by heatmaps, and this student has heatmaps "
                "already: set method.form=keypoints"
            )
        if self.form == "head" and not {"features", "head"} <= teacher.provides:
            raise UserError("method.form: this teacher does not lend its head: set method.form=helper")
        return HeatmapBridge(teacher, self.student)

    def after_step(self) -> None:
        """Measure the balance of the gradients."""
        if self.form != "keypoints":
            self.heatmap_weight.after_step()

    def watch(self) -> dict[str, float]:
        """The weight of the heatmap loss, which may be measured."""
        return {} if self.form == "keypoints" else {"heatmap_weight": self.heatmap_weight.weight.item()}


class _Adapter(nn.Module):
    """The student's last feature map in the shape of the teacher's: a 1x1 convolution with a norm, resized."""

    def __init__(self, student: PoseModel, teacher: Teacher) -> None:
        super().__init__()
        channels, *_ = last_feature_shape(student)
        wanted, height, width = _teacher_features(student, teacher)
        self.grid = (height, width)
        self.layers = nn.Sequential(nn.Conv2d(channels, wanted, 1, bias=False), nn.BatchNorm2d(wanted), nn.ReLU(True))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (resized(self.layers(features[-1]), self.grid),)


def _refuse_what_is_not_used(config: TcdConfig) -> None:
    """Refuse settings that the form asked for has no use for; `auto` may choose any form, so there they wait."""
    of_helper = ("stride", "width", "sigma")
    unused = {"head": of_helper, "keypoints": (*of_helper, "teacher_share", "heatmap_weight")}
    for name in unused.get(config.form, ()):
        if getattr(config, name) != TcdConfig.model_fields[name].default:
            raise UserError(
                f"method.{name}: the form '{config.form}' has no use for it: remove it, or set method.form=helper"
            )


def _choose(student: PoseModel, teacher: Teacher) -> tuple[Form, str]:
    """The form that a teacher allows, and why."""
    if isinstance(student.codec, HeatmapCodec):
        return "keypoints", "the student has heatmaps itself"
    if not isinstance(teacher.codec, HeatmapCodec):
        return "keypoints", "the teacher gives no heatmaps (a cached one gives its keypoints only)"
    if not {"features", "head"} <= teacher.provides:
        return "helper", "the teacher gives heatmaps and does not lend its head"
    if not of_one_aspect(teacher, student):
        return "helper", "the teacher's crops are of another aspect than the student's"
    _, height, _ = last_feature_shape(student)
    _, finer, _ = _teacher_features(student, teacher)
    if finer > 2 * height:
        return "helper", f"the teacher's head reads a map of {finer} rows, far finer than the student's {height}"
    return "head", "the teacher lends its head"


def _teacher_features(student: PoseModel, teacher: Teacher) -> tuple[int, int, int]:
    """(C, h, w) of the features that the teacher's head reads."""
    channels, height, width = teacher.features(blank_batch(student, teacher))[-1].shape[1:]
    return channels, height, width
