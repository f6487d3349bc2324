"""What is kept of a teacher's answers: keypoints, heatmaps, bins or features, each with the way back to an answer.

| kept | bytes a crop | carried over from the upright crop |
|---|---|---|
| keypoints | 12 a keypoint: x, y (image px) and score, fp32 | exactly |
| maps | 4 a cell: its number and its height in fp16, of the highest cells of each map | by one bilinear sample |
| bins | 2 a bin: logits less their maximum, fp16 | not at all |
| features | 2 a number of the last feature map, fp16, and the keypoints | by one bilinear sample |
| all | maps, bins or keypoints, the last feature map, and 2 a number of the tokens, fp16 | not at all |

A map has room for half as many cells again as a Gaussian of the teacher's sigma has above a hundredth (44 sigma^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from posestill.codecs.base import BinForm, Codec, MapForm
from posestill.codecs.coords import CoordsConfig
from posestill.geometry import Framing, invert_batch, transform_batch
from posestill.schema import UserError
from posestill.teachers.base import CacheConfig, Teacher
from posestill.teachers.bridge import to_student, to_teacher
from posestill.teachers.upright import UprightCrops, first_cell_of, grid_of_features, mirrored_crops
from posestill.types import Coords, FeatureShape, Heatmaps, Need, PoseBatch, PoseOutput, SimCC, Tokens

FormType = TypeVar("FormType", MapForm, BinForm)
LEAST_HEIGHT = 0.01
"""what a cell of a heatmap must exceed to be kept, where a sure peak has 1"""
SPARE = 1.5
"""room for cells, in those that a Gaussian of the teacher's sigma has above the least height"""


@dataclass(frozen=True)
class Field:
    """One array of what is kept: its shape for one crop, and the type of its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes for one crop."""
        return math.prod(self.shape) * self.dtype.itemsize


class Kept:
    """One kind of thing that is kept. Rows are one array a field, with a leading axis for the crops (B)."""

    provides: frozenset[Need] = frozenset({"prediction"})
    framing: Framing
    """of the crops in whose px its answers are"""
    codec: Codec
    """what reads its predictions"""
    feature_shapes: tuple[FeatureShape, ...] = ()
    lends_head: bool = False
    """whether the teacher's head goes with the answers"""
    fields: dict[str, Field]

    def take(self, answer: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
        """Of an answer about a batch the rows to keep, on the answer's device."""
        raise NotImplementedError

    def give(self, rows: Mapping[str, Tensor], batch: PoseBatch, upright: UprightCrops | None) -> PoseOutput:
        """The answer about a batch from the rows of its persons. `upright` is None where they are about these crops."""
        raise NotImplementedError

    def score(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(..., K) how sure the teacher was, from rows (..., K, ...)."""
        return rows["score"]

    def learn(self, teacher: Teacher, crops: Callable[[], PoseBatch]) -> dict[str, Any]:
        """What must be known of the teacher beside its answers, seen on some upright crops."""
        return {}

    def know(self, learnt: Mapping[str, Any]) -> None:
        """Take over what `learn` found, now or in an earlier run."""


class KeptKeypoints(Kept):
    """Places in image px, which hold for every crop, and scores."""

    def __init__(self, teacher: Teacher, student: Framing, *, framing: Framing | None = None) -> None:
        """Answers are in the px of crops of `framing`, None: of the student's."""
        self.teacher_codec, self.teacher_framing, self.student = teacher.codec, teacher.framing, student
        self.framing = framing or student
        self.codec = CoordsConfig().build(self.framing.size)
        self.swap = torch.tensor(teacher.skeleton.swap)
        count = len(teacher.skeleton)
        self.fields = {"xy": Field((count, 2), np.dtype(np.float32)), "score": Field((count,), np.dtype(np.float32))}

    def take(self, answer: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
        """Xy (B, K, 2) image px and score (B, K), by the person's own left and right."""
        taught, mirrored = self.teacher_codec.decode(answer.prediction), batch.mirrored()
        own = to_student(taught.xy, teacher=self.teacher_framing, student=self.student, mirrored=mirrored)
        xy = transform_batch(own, batch.to_image)
        return {name: exchanged(each, mirrored, self.swap) for name, each in (("xy", xy), ("score", taught.score))}

    def give(self, rows: Mapping[str, Tensor], batch: PoseBatch, upright: UprightCrops | None) -> PoseOutput:
        """The keypoints at their place in each crop, as coordinates."""
        mirrored = batch.mirrored()
        xy, score = (exchanged(rows[name], mirrored, self.swap) for name in ("xy", "score"))
        place = transform_batch(xy, invert_batch(batch.to_image))  # (B, K, 2) the student's px
        if self.framing != self.student:
            place = to_teacher(place, teacher=self.framing, student=self.student, mirrored=mirrored)
        fraction = place / place.new_tensor([self.framing.size[1], self.framing.size[0]])
        return PoseOutput(prediction=Coords(xy=fraction, score=score))


class KeptMaps(Kept):
    """The highest cells of each heatmap; the others are 0."""

    def __init__(self, teacher: Teacher, student: Framing) -> None:
        self.form, self.codec, self.framing = _form_of(teacher, MapForm), teacher.codec, teacher.framing
        self.swap = torch.tensor(teacher.skeleton.swap)
        height, width = self.form.size
        self.count = room_for_cells(self.form)
        self.known = len(teacher.skeleton)
        number = np.uint16 if height * width <= 2**16 else np.uint32
        shape = (self.known, self.count)
        self.fields = {"cell": Field(shape, np.dtype(number)), "height": Field(shape, np.dtype(np.float16))}

    def take(self, answer: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
        """Cell (B, K, count), its number counted along the rows of the map, and its height."""
        assert isinstance(answer.prediction, Heatmaps)
        found = answer.prediction.maps.float().flatten(2).topk(self.count, dim=-1)
        return {"cell": found.indices, "height": torch.where(found.values > LEAST_HEIGHT, found.values, 0.0)}

    def give(self, rows: Mapping[str, Tensor], batch: PoseBatch, upright: UprightCrops | None) -> PoseOutput:
        """The maps (B, K, h, w)."""
        cell, heights = rows["cell"].long(), rows["height"].float()
        if upright is not None:
            mirrored = batch.mirrored()
            cell, heights = (exchanged(each, mirrored, self.swap) for each in (cell, heights))
        height, width = self.form.size
        maps = heights.new_zeros(len(batch), self.known, height * width).scatter_(-1, cell, heights)
        maps = maps.unflatten(-1, (height, width))
        if upright is not None:
            maps = upright.resampled(maps, batch, self.form, outside="zeros")
        return PoseOutput(prediction=Heatmaps(maps=maps))

    def score(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(..., K) the height of the peaks."""
        return rows["height"].float().amax(dim=-1)


class KeptBins(Kept):
    """The logits of SimCC's bins, less their maximum: what is read off them does not change with it."""

    def __init__(self, teacher: Teacher, student: Framing) -> None:
        form = _form_of(teacher, BinForm)
        self.codec, self.framing = teacher.codec, teacher.framing
        count, half = len(teacher.skeleton), np.dtype(np.float16)
        self.fields = {"x": Field((count, form.x), half), "y": Field((count, form.y), half)}

    def take(self, answer: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
        """X and y (B, K, bins)."""
        assert isinstance(answer.prediction, SimCC)
        logits = {"x": answer.prediction.x.float(), "y": answer.prediction.y.float()}
        return {name: each - each.amax(dim=-1, keepdim=True) for name, each in logits.items()}

    def give(self, rows: Mapping[str, Tensor], batch: PoseBatch, upright: UprightCrops | None) -> PoseOutput:
        """The same logits."""
        assert upright is None  # the settings refuse it
        return PoseOutput(prediction=SimCC(x=rows["x"].float(), y=rows["y"].float()))

    def score(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(..., K) as the codec reads it off the bins."""
        crops = {name: rows[name].float().flatten(0, -3) for name in ("x", "y")}
        score = self.codec.decode(SimCC(**crops)).score
        return score.unflatten(0, rows["x"].shape[:-2])


class KeptFeatures(Kept):
    """The last feature map, and the keypoints in the teacher's own px where it gives a prediction."""

    def __init__(self, teacher: Teacher, student: Framing) -> None:
        if "features" not in teacher.provides:
            raise UserError(
                f"teacher.cache.keep: this teacher provides {', '.join(sorted(teacher.provides))} and no features: set "
                "keep=keypoints, or name an inner tensor of its file by teacher.features"
            )
        self.framing = teacher.framing
        self.feature_shapes = teacher.feature_shapes[-1:]
        self.form = grid_of_features(self.feature_shapes[-1], self.framing, first_cell=0.0)
        self.keypoints = KeptKeypoints(teacher, student, framing=teacher.framing)
        self.codec = self.keypoints.codec
        own: set[Need] = {"features", "prediction"}
        self.provides = frozenset(own & teacher.provides)
        self.fields = {"feature": Field(self.feature_shapes[-1], np.dtype(np.float16))}
        if "prediction" in self.provides:
            self.fields |= self.keypoints.fields

    def take(self, answer: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
        """Feature (B, C, h, w), and xy and score of the keypoints."""
        feature = _fits_half(answer.features[-1], "features")
        places = self.keypoints.take(answer, batch) if "prediction" in self.provides else {}
        return {"feature": feature, **places}

    def give(self, rows: Mapping[str, Tensor], batch: PoseBatch, upright: UprightCrops | None) -> PoseOutput:
        """The feature map, moved with the crop, and the keypoints."""
        feature = rows["feature"].float()
        if upright is not None:
            feature = upright.resampled(feature, batch, self.form, outside="border")
        prediction = self.keypoints.give(rows, batch, upright).prediction if "xy" in rows else None
        return PoseOutput(prediction=prediction, features=(feature,))

    def learn(self, teacher: Teacher, crops: Callable[[], PoseBatch]) -> dict[str, Any]:
        """Where the first cell of its feature map lies."""
        batch = crops()
        upright, mirrored = (teacher.features(each)[-1] for each in (batch, mirrored_crops(batch)))
        return {"first_cell": first_cell_of(upright, mirrored, self.framing)}

    def know(self, learnt: Mapping[str, Any]) -> None:
        """Lay the cells where the teacher's were found to lie."""
        self.form = grid_of_features(self.feature_shapes[-1], self.framing, first_cell=learnt["first_cell"])


class KeptAll(Kept):
    """All that a teacher says of the very crops that a training shows: prediction, last feature map and tokens.

    Its head is lent, too, so that every method finds what it would find in the teacher asked live.
    """

    lends_head = True

    def __init__(self, teacher: Teacher, student: Framing) -> None:
        self.prediction: Kept
        if isinstance(teacher.codec.form, MapForm):
            self.prediction = KeptMaps(teacher, student)
        elif isinstance(teacher.codec.form, BinForm):
            self.prediction = KeptBins(teacher, student)
        else:
            self.prediction = KeptKeypoints(teacher, student, framing=teacher.framing)
        self.provides, self.framing, self.codec = teacher.provides, teacher.framing, self.prediction.codec
        self.feature_shapes, half = teacher.feature_shapes[-1:], np.dtype(np.float16)
        self.fields = dict(self.prediction.fields)
        if "features" in self.provides:
            self.fields["feature"] = Field(self.feature_shapes[-1], half)
        if "tokens" in self.provides:
            assert teacher.token_shape is not None
            self.fields["visual_token"] = Field(tuple(teacher.token_shape), half)
            self.fields["keypoint_token"] = Field((len(teacher.skeleton), teacher.token_shape[-1]), half)

    def take(self, answer: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
        """What is kept of the prediction, feature (B, C, h, w), and tokens (B, P, D) and (B, K, D)."""
        rows = self.prediction.take(answer, batch)
        if "feature" in self.fields:
            rows["feature"] = _fits_half(answer.features[-1], "features")
        if "visual_token" in self.fields:
            assert answer.tokens is not None
            rows["visual_token"] = _fits_half(answer.tokens.visual, "tokens")
            rows["keypoint_token"] = _fits_half(answer.tokens.keypoint, "tokens")
        return rows

    def give(self, rows: Mapping[str, Tensor], batch: PoseBatch, upright: UprightCrops | None) -> PoseOutput:
        """The same answer."""
        assert upright is None  # the settings refuse it
        prediction = None
        if set(self.prediction.fields) <= set(rows):
            prediction = self.prediction.give(rows, batch, None).prediction
        tokens = None
        if "visual_token" in rows:
            tokens = Tokens(visual=rows["visual_token"].float(), keypoint=rows["keypoint_token"].float())
        features = (rows["feature"].float(),) if "feature" in rows else ()
        return PoseOutput(prediction=prediction, features=features, tokens=tokens)

    def score(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(..., K) by what is kept of the prediction."""
        return self.prediction.score(rows)


_KINDS: dict[str, type[KeptKeypoints | KeptMaps | KeptBins | KeptFeatures | KeptAll]] = {
    "keypoints": KeptKeypoints,
    "maps": KeptMaps,
    "bins": KeptBins,
    "features": KeptFeatures,
    "all": KeptAll,
}


def kept_by(config: CacheConfig, teacher: Teacher, student: Framing) -> Kept:
    """What the settings keep of this teacher's answers; a `UserError` where it does not give that."""
    return _KINDS[config.keep](teacher, student)


def _fits_half(values: Tensor, what: str) -> Tensor:
    """The values in single precision; a `UserError` where half precision cannot hold them."""
    values = values.float()
    if not bool((values.abs() <= np.finfo(np.float16).max).all()):
        raise UserError(
            f"teacher.cache.keep: the teacher's {what} reach {values.abs().max().item():.3g}, more than half precision "
            "can hold: ask it live (teacher.cache=false)"
        )
    return values


def exchanged(values: Tensor, mirrored: Tensor, swap: Tensor) -> Tensor:
    """Values (B, K, ...) with those of mirror partners exchanged where a crop is mirrored (B,)."""
    there = mirrored.view(-1, *[1] * (values.dim() - 1))
    return torch.where(there, values[:, swap.to(values.device)], values)


def _form_of(teacher: Teacher, wanted: type[FormType]) -> FormType:
    """What the teacher's predictions look like, which must be maps or bins, whichever is to be kept."""
    form = teacher.codec.form
    if isinstance(form, wanted):
        return form
    names: dict[type[object], str] = {MapForm: "maps", BinForm: "bins"}
    raise UserError(
        f"teacher.cache.keep: this teacher gives {teacher.codec.prediction_type.__name__} and no {names[wanted]}: set "
        f"keep={names.get(type(form), 'keypoints')}"
    )


def room_for_cells(form: MapForm) -> int:
    """How many cells of each map are kept: never more than it has."""
    radius_squared = 2 * form.sigma**2 * math.log(1 / LEAST_HEIGHT)
    return min(form.size[0] * form.size[1], math.ceil(SPARE * math.pi * radius_squared))
