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

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from posestill.codecs.base import MapForm
from posestill.methods.base import Distiller, MethodConfig, TaughtDistiller
from posestill.models.heatmap_helper import HeatmapHelper, heatmap_weight
from posestill.models.pose_model import PoseModel
from posestill.models.resize import resized
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import Bridge, HeatmapBridge, need_one_aspect, of_one_aspect, to_teacher
from posestill.types import Heatmaps, PoseBatch, PoseOutput

Form = Literal["head", "helper", "keypoints"]


class TcdConfig(MethodConfig):
    """These settings choose the form of TCD and weigh its losses."""

    form: Form | Literal["auto"] = "auto"
    """What teaches beside the teacher's keypoints. `head`: its frozen head, which draws heatmaps from the student's
    features; `helper`: its heatmaps, through a heatmap head that is dropped after training; `keypoints`: nothing.
    `auto`: `keypoints` for a heatmap student or a teacher without heatmaps, such as one of which only keypoints are
    cached; else `head` where the teacher lends it, its crops have the student's aspect and its features are at most
    twice as fine; else `helper`."""
    teacher_share: float | None = Field(default=None, ge=0, le=1)
    """The share of the teacher's heatmap in the target of a labelled keypoint of which the teacher is sure; the label
    has the rest. At 0 only the label counts, at 1 only the teacher. None means 0 for the form `head` and 0.5 for
    `helper`."""
    heatmap_weight: NonNegativeFloat | Literal["auto"] | None = None
    """The weight of the heatmap loss; the larger, the more the student's features are made for heatmaps. None: 1 beside
    Smooth-L1 with beta 1 or more, 10 beside other task losses. `auto`: as much as makes its gradient on the student's
    features as large as that of the student's own losses, measured while training."""
    head_weight: NonNegativeFloat = 1.0
    """The weight of the head loss, which pulls the student's prediction to the teacher's keypoints. The larger it is,
    the more the student follows the teacher beside the labels; 0 switches it off."""
    threshold: float = 0.2
    """The confidence that a keypoint of the teacher must exceed to teach; it then counts by its confidence. A lower
    threshold lets in more keypoints, and more wrong ones; a higher one lets in fewer and better ones."""
    stride: PositiveInt = 4
    """Input px per map px of the helper's heatmaps; only the form `helper` has them. A smaller stride makes finer maps
    and costs more training time."""
    width: PositiveInt = 256
    """The channels of each of the helper's deconvolutions; only the form `helper` has them. More channels cost more
    training time; the model that ships stays the same."""
    sigma: PositiveFloat = 2.0
    """The spread of the Gaussians in the helper's labels, in map px; only the form `helper` has them. A larger spread
    is easier to learn and places keypoints less exactly."""

    def distiller_for(self, student: PoseModel, teacher: Teacher | None) -> type[Distiller]:
        """The form asked for or, with auto, the one that suits student and teacher."""
        assert teacher is not None  # `build` has made sure
        form, _ = choose_form(self, student, teacher)
        return {"head": TcdByHead, "helper": TcdByHelper, "keypoints": Tcd}[form]


class Tcd(TaughtDistiller):
    """The task loss, and the teacher's places for the student by their confidence: the form `keypoints`."""

    origin = "TCD, ECCV Workshops 2024; reconstructed from the abstract"
    config: TcdConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: TcdConfig) -> None:
        super().__init__(student, teacher, config)
        form, reason = choose_form(config, student, teacher)
        _refuse_what_is_not_used(config)
        self.chosen = f"TCD in its form '{form}': {reason}"
        self.bridge = Bridge(teacher, student)

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, the head loss and, where the form has one, the heatmap loss."""
        xy, confidence = self.places(answer, batch)
        codec = self.student.codec
        distance = codec.distance(output.prediction, *codec.encode(xy, confidence))
        return {
            "task": self.task_loss(output, batch),
            "head": self.config.head_weight * distance,
            **self.heatmap_losses(output, answer, batch, confidence),
        }

    def heatmap_losses(
        self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, confidence: Tensor
    ) -> dict[str, Tensor]:
        """What heatmaps add to the losses: nothing in this form; confidence (B, K) is the teacher's."""
        return {}

    def places(self, answer: PoseOutput, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """Where the teacher sees the keypoints (B, K, 2) input px, and how much each counts (B, K)."""
        found = self.bridge.keypoints(answer, batch)
        return found.xy, found.score.clamp(0, 1) * (found.score > self.config.threshold)


class _TcdByHeatmaps(Tcd):
    """The same, and a heatmap loss that reaches the student's features."""

    usual_share: ClassVar[float]
    """of the teacher's heatmap in the target of a labelled keypoint, where the settings are silent"""

    def __init__(self, student: PoseModel, teacher: Teacher, config: TcdConfig) -> None:
        super().__init__(student, teacher, config)
        if isinstance(student.codec.form, MapForm):
            raise UserError(
                f"method.form: {config.form} teaches other representations by heatmaps, and this student has heatmaps "
                "already: set method.form=keypoints"
            )
        self.bridge: HeatmapBridge = HeatmapBridge(teacher, student)
        self.heatmap_weight = heatmap_weight(student, config.heatmap_weight)

    def for_head(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features, with the gradient that the head sends back measured."""
        return self.heatmap_weight.measure_student(features)

    def heatmap_losses(
        self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, confidence: Tensor
    ) -> dict[str, Tensor]:
        """The heatmap loss by its weight."""
        features = self.heatmap_weight.measure_other(output.features)
        heatmap = self.heatmap_loss(features, answer, batch, confidence)
        return {"heatmap": self.heatmap_weight.weight * heatmap}

    def heatmap_loss(
        self, features: tuple[Tensor, ...], answer: PoseOutput, batch: PoseBatch, confidence: Tensor
    ) -> Tensor:
        """The loss of heatmaps drawn from the student's features, a scalar; confidence (B, K) is the teacher's."""
        raise NotImplementedError

    def mixed(self, target: Tensor, weight: Tensor, soft: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        """Labels' maps mixed with the teacher's soft ones (B, K, h, w) where it is sure, and what they count (B, K).

        Without a label on the map the teacher's is all there is, and counts by its confidence.
        """
        share = self.usual_share if self.config.teacher_share is None else self.config.teacher_share
        told = torch.where(weight > 0, share * (confidence > 0), 1.0)[..., None, None]
        return (1 - told) * target + told * soft, torch.where(weight > 0, weight, confidence)

    def after_step(self) -> None:
        """Measure the balance of the gradients."""
        self.heatmap_weight.after_step()

    def watch(self) -> dict[str, float]:
        """The weight of the heatmap loss, which may be measured."""
        return {"heatmap_weight": self.heatmap_weight.weight.item()}


class TcdByHead(_TcdByHeatmaps):
    """The student's adapted features through the teacher's frozen head."""

    needs = frozenset({"prediction", "features", "head"})
    usual_share = 0.0

    def __init__(self, student: PoseModel, teacher: Teacher, config: TcdConfig) -> None:
        super().__init__(student, teacher, config)
        need_one_aspect(teacher, student)
        self.adapter = _Adapter(student, teacher)

    def heatmap_loss(
        self, features: tuple[Tensor, ...], answer: PoseOutput, batch: PoseBatch, confidence: Tensor
    ) -> Tensor:
        """The loss of what the teacher's head draws from the student's adapted features."""
        codec, bridge = self.teacher.codec, self.bridge
        drawn, known = bridge.maps(self.teacher.head(self.adapter(features)))  # (B, K, h, w), (K,)
        xy = to_teacher(batch.keypoints, **bridge.framings, mirrored=batch.mirrored())
        target, weight = codec.encode(xy, batch.weight)
        soft, _ = bridge.maps(answer.prediction)
        return codec.loss(Heatmaps(maps=drawn), *self.mixed(target, weight * known, soft, confidence))


class TcdByHelper(_TcdByHeatmaps):
    """A heatmap head of its own on the student's features, trained on labels mixed with the teacher's heatmaps."""

    usual_share = 0.5

    def __init__(self, student: PoseModel, teacher: Teacher, config: TcdConfig) -> None:
        super().__init__(student, teacher, config)
        self.helper = HeatmapHelper(student, stride=config.stride, width=config.width, sigma=config.sigma)

    def heatmap_loss(
        self, features: tuple[Tensor, ...], answer: PoseOutput, batch: PoseBatch, confidence: Tensor
    ) -> Tensor:
        """The loss of what the helper draws from the student's features."""
        codec, bridge = self.helper.codec, self.bridge
        target, weight = codec.encode(batch.keypoints, batch.weight)
        maps, known = bridge.maps(answer.prediction)  # (B, K, h, w), (K,)
        soft = bridge.resampled(maps, codec.form, batch)
        return codec.loss(self.helper(features), *self.mixed(target, weight, soft, confidence * known))


TcdConfig.distiller = Tcd


class _Adapter(nn.Module):
    """The student's last feature map in the shape of the teacher's: a 1x1 convolution with a norm, resized."""

    def __init__(self, student: PoseModel, teacher: Teacher) -> None:
        super().__init__()
        channels, *_ = student.feature_shapes[-1]
        wanted, height, width = teacher.feature_shapes[-1]
        self.grid = (height, width)
        self.layers = nn.Sequential(nn.Conv2d(channels, wanted, 1, bias=False), nn.BatchNorm2d(wanted), nn.ReLU(True))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (resized(self.layers(features[-1]), self.grid),)


def choose_form(config: TcdConfig, student: PoseModel, teacher: Teacher) -> tuple[Form, str]:
    """The form that is asked for or that student and teacher allow, and why it is that one."""
    if config.form == "head" and not {"features", "head"} <= teacher.provides:
        raise UserError("method.form: this teacher does not lend its head: set method.form=helper")
    if config.form != "auto":
        return config.form, "as asked for"
    if isinstance(student.codec.form, MapForm):
        return "keypoints", "the student has heatmaps itself"
    if not isinstance(teacher.codec.form, MapForm):
        return "keypoints", "the teacher gives no heatmaps (a cached one gives what its cache keeps)"
    if not {"features", "head"} <= teacher.provides:
        return "helper", "the teacher gives heatmaps and does not lend its head"
    if not of_one_aspect(teacher, student):
        return "helper", "the teacher's crops are of another aspect or padding than the student's"
    height, finer = student.feature_shapes[-1][1], teacher.feature_shapes[-1][1]
    if finer > 2 * height:
        return "helper", f"the teacher's head reads a map of {finer} rows, far finer than the student's {height}"
    return "head", "the teacher lends its head"


def _refuse_what_is_not_used(config: TcdConfig) -> None:
    """Refuse settings that the form asked for has no use for; `auto` may choose any form, so there they wait."""
    of_helper = ("stride", "width", "sigma")
    unused = {"head": of_helper, "keypoints": (*of_helper, "teacher_share", "heatmap_weight")}
    for name in unused.get(config.form, ()):
        if getattr(config, name) != TcdConfig.model_fields[name].default:
            raise UserError(
                f"method.{name}: the form '{config.form}' has no use for it: remove it, or set method.form=helper"
            )
