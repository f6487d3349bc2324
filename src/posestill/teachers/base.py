"""What a teacher is: a guest of the distiller. It is no sub-module, never trains and is never copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeInt, field_validator, model_validator
from torch import Tensor

from posestill.codecs.base import Codec
from posestill.geometry import PADDING, Framing
from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.models.threads import ThreadTrial
from posestill.schema import Config, UserError
from posestill.skeletons import Skeleton
from posestill.types import FeatureShape, Need, PoseBatch, PoseOutput, Prediction, Size


class Teacher:
    """Answers a batch without gradients. A plain class: not in parameters(), not in state_dict()."""

    codec: Codec
    skeleton: Skeleton
    input_size: Size
    padding: float = PADDING
    """how much larger than the bbox the crops are that it is given"""
    provides: frozenset[Need]
    lineage: dict[str, Any]
    remarks: tuple[str, ...] = ()
    """what one should know of it when a run starts, a line each"""
    names: Mapping[str, str | tuple[str, str]] = MappingProxyType({})
    """its own name, or two whose middle is meant, by the student's name of a keypoint, where they differ"""
    feature_shapes: tuple[FeatureShape, ...] = ()
    """(C, h, w) of each feature map, where it provides features; its head reads the last one"""
    token_shape: tuple[int, ...] | None = None
    """(P, D) of its visual tokens, where it provides tokens"""
    has_own_threads: bool = False
    """True: it runs with threads of its own, as what a runtime executes does; False: with torch's"""

    @property
    def framing(self) -> Framing:
        """How the crops that it is given frame a person."""
        return Framing(self.input_size, self.padding)

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """What the teacher sees in `teacher_image`, or in `image` where the sizes are equal."""
        raise NotImplementedError

    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        """(B, C_i, h_i, w_i) of each stage, without the work of its head where that can be saved."""
        return self(batch).features

    def head(self, features: tuple[Tensor, ...]) -> Prediction:
        """The teacher's head on somebody's features, differentiable in them."""
        raise UserError(f"{type(self).__name__} has no head to lend")

    def to(self, device: torch.device) -> Teacher:
        """The teacher itself, moved."""
        return self

    def choose_threads(self, threads: int | None = None) -> ThreadTrial | None:
        """Take so many threads of its own or, None, those that it answers fastest with; what was tried, if anything."""
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self  # an EMA of the distiller must not double the teacher


class CacheConfig(Config):
    """These settings say what is kept of a teacher's answers, about which crops it is asked, and where they are kept.

    `cache: true` stands for the defaults.
    """

    folder: Path | None = None
    """A folder in which the answers are kept: later runs ask nobody, and a run that was killed goes on where it was. It
    belongs to one teacher, one list of persons and one choice of the settings below; whatever else is asked of it is
    refused. None: the answers are kept in memory, and each run asks anew."""
    keep: Literal["keypoints", "maps", "bins", "features", "all"] = "keypoints"
    """What is kept of each answer; the method says what it needs. `keypoints`: places and scores, which take the least
    room. `maps`: heatmaps, of each the highest cells above a hundredth. `bins`: the logits of SimCC's bins; they need
    `views`. `features`: the last feature map, which takes much room, and the keypoints. `all`: prediction, last feature
    map and tokens, and the teacher's head is lent, so that one folder serves every method; it needs `views` and takes
    the most room. All but the keypoints are kept in half precision."""
    views: NonNegativeInt = 0
    """How many crops of each person the teacher is asked about. 0: the upright one, with the flip test; what it says
    there is carried over to every augmented crop, which suits keypoints best, as maps are sampled and widened with the
    crop and features only moved. 1 or more: so many augmented crops, drawn once; the training then shows these crops by
    turns, one an epoch, and no others, and the answers are those that the teacher would give live. More crops vary more
    and take more time and room."""
    seed: NonNegativeInt = 0
    """The seed by which the crops of `views` are drawn, whatever the run's own, so that runs of all seeds share one
    cache. Another seed draws other crops."""

    leave_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the persons without labels who are not trained on: those on whom the teacher's answers upright and
    mirrored agree least, as these are often wrong. Whoever shows no keypoint that the teacher is sure of (a confidence
    above 0.3) is left out, too. A larger share leaves fewer and surer persons. It needs `views: 0`; one share may be
    changed to another later for the same folder, but for 0. 0: everybody is trained on."""

    @model_validator(mode="after")
    def _two_answers_to_compare(self) -> CacheConfig:
        if self.leave_out and self.views:
            raise ValueError(
                "leave_out: asked about augmented crops (views), the teacher sees none of them mirrored, so that how "
                "well it agrees with itself is not known: set leave_out=0 or views=0"
            )
        return self

    @model_validator(mode="after")
    def _some_need_views(self) -> CacheConfig:
        if self.keep == "all" and not self.views:
            raise ValueError(
                "keep: all that a teacher says holds for the very crop that it saw: ask about fixed crops by views, "
                "such as 8"
            )
        if self.keep == "bins" and not self.views:
            raise ValueError(
                "keep: bins of the upright crop cannot be turned, as each axis has its own: ask about fixed crops by "
                "views, such as 8"
            )
        return self


class TeacherConfig(Config):
    """These are the settings of a teacher."""

    cache: bool | CacheConfig = False
    """Whether the teacher is asked beforehand, once. False: it is asked about every crop at every step. True: it is
    asked once about every person, upright and flip-tested, and its keypoints are replayed under the augmentation, so
    that a step costs what it costs without a teacher. A mapping such as `{folder: runs/cache, keep: maps, views: 8}`
    keeps its answers on disk, keeps more than keypoints, or asks about augmented crops."""

    names: dict[str, str | tuple[str, str]] = Field(default_factory=dict)
    """The teacher's name of a keypoint, or two of its keypoints that yours lies in the middle of, by your own name:
    `{RAnkle: right_ankle, neck: [left_shoulder, right_shoulder]}`. The usual styles of names meet by themselves."""

    @field_validator("cache", mode="before")
    @classmethod
    def _read_cache(cls, given: Any) -> Any:
        # Read here, a wrong key in the mapping is named by its own path and not once for each type that it may have.
        if isinstance(given, Mapping):
            return CacheConfig.model_validate(given)
        if not isinstance(given, bool | CacheConfig):
            raise ValueError(f"true, false, or a mapping of {', '.join(CacheConfig.model_fields)}")
        return given

    @property
    def kept(self) -> CacheConfig | None:
        """What is kept of its answers, and where; None where it is asked live."""
        return (CacheConfig() if self.cache else None) if isinstance(self.cache, bool) else self.cache

    def build(self) -> Teacher:
        """The teacher, in eval mode. Fails with a message that names the file."""
        teacher = self.open()
        teacher.names = dict(self.names)
        return teacher

    def open(self) -> Teacher:
        """The teacher itself; `build` tells it the names."""
        raise NotImplementedError


class ModelTeacher(Teacher):
    """A pose model of ours as a teacher, its batch norms folded: it never trains."""

    def __init__(self, model: PoseModel) -> None:
        self.model = folded(model)
        own: set[Need] = {"prediction", "features", "head"}
        self.provides = frozenset(own | {"tokens"} if model.head.gives_tokens else own)
        self.codec = model.codec
        self.skeleton = model.skeleton
        self.input_size = model.config.size
        self.lineage = model.lineage
        self.feature_shapes = model.feature_shapes
        self.token_shape = model.token_shape

    @torch.no_grad()
    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """Prediction, features and, from a token head, tokens."""
        output: PoseOutput = self.model(crops_of(batch))
        return output

    @torch.no_grad()
    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        """Of the backbone and the neck alone: a deconvolution head is a quarter of a ResNet-50's work."""
        return self.model.features(crops_of(batch))

    def head(self, features: tuple[Tensor, ...]) -> Prediction:
        """The model's head on somebody's features."""
        prediction: Prediction = self.model.head(features)
        return prediction

    def to(self, device: torch.device) -> Teacher:
        """The same teacher on `device`."""
        self.model.to(device)
        return self


def crops_of(batch: PoseBatch) -> Tensor:
    """The crops (B, 3, H, W) that a teacher looks at."""
    return batch.image if batch.teacher_image is None else batch.teacher_image
