"""Networks that find every person of a picture at once: as detectors, and as teachers by the person in the middle.

Asked about a crop, such a network may find several people there; meant is the one whose place and size are most like
those of the box that the crop was cut around.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch

from posestill.codecs.coords import CoordsConfig
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from posestill.teachers.layouts import IMAGENET_MEAN, IMAGENET_STD
from posestill.teachers.plain import Layout, as_fractions, check_float, check_range
from posestill.teachers.runtime import RuntimeNetwork
from posestill.types import Coords, Prediction, Size

LEAST_SCORE = 0.2
"""people scored below are not taken for people"""
LEAST_SCORE_OF_MEANT = 0.05
"""in a crop that was cut around a person: somebody is there"""
LEAST_OVERLAP = 0.25
"""a person whose square shares less with that of the box that is meant is somebody else"""


_MEAN, _STD = (np.array(each, dtype=np.float32) for each in (IMAGENET_MEAN, IMAGENET_STD))


@dataclass(frozen=True)
class FoundPeople:
    """Everybody in one picture, surest first."""

    bbox: np.ndarray
    """(N, 4) x y w h, image px"""
    score: np.ndarray
    """(N,)"""
    keypoints: np.ndarray
    """(N, K, 3) x y score, image px"""


@dataclass(frozen=True)
class Shrunk:
    """A picture as a network sees it, and the way back."""

    seen: np.ndarray
    """(h, w, 3) uint8 RGB"""
    scale: np.ndarray
    """(2,) x y, image px per px seen"""
    offset: np.ndarray
    """(2,) x y, image px of the place seen at 0, both from the edges"""


class OneStage(Layout):
    """A network that is given a whole picture."""

    keeps_crop = False
    channels_last: ClassVar[bool] = False
    """True: the input is (N, H, W, 3)"""
    side: ClassVar[int] = 640
    """px of the longer side of the picture as the network sees it, where the file takes any size"""
    is_square: ClassVar[bool] = True
    """True: a picture is filled up to a square, where the file takes any size. False: to multiples of 32"""
    fill: ClassVar[int] = 114
    """the grey of what is filled up"""
    stretches: ClassVar[bool] = False
    """True: the picture is stretched to the size and nothing is filled up"""
    centred: ClassVar[bool] = False
    """True: what is filled up lies on both sides"""
    is_whole: ClassVar[bool] = False
    """True: the network is given whole numbers, which a file of floats takes as well"""
    reads: ClassVar[str]
    """its outputs, in words"""

    def __init__(self, network: RuntimeNetwork) -> None:
        """Fails, naming both, where the file's inputs and outputs are not the layout's."""
        port = network.inputs[0]
        colours, *sizes = (port.shape[3:] + port.shape[1:3]) if self.channels_last else port.shape[1:]
        if len(network.inputs) != 1 or len(port.shape) != 4 or colours not in (3, None):
            raise UserError(
                f"teacher.layout: {self.name} gives one picture ({'nhwc' if self.channels_last else 'nchw'}), and the "
                f"file has: {network.describe()}"
            )
        check_range(port)
        if not self.is_whole:
            check_float(self.name, port)
        outputs = {each.name: each.shape for each in network.outputs}
        self.output = self.find_output(outputs)
        if self.output is None:
            raise UserError(f"teacher.layout: {self.name} reads {self.reads}, and the file has: {network.describe()}")
        self.port, self.batch = port, port.shape[0] or 1
        one, other = sizes
        self.fixed: Size | None = None if one is None or other is None else (one, other)
        side = one or other or self.side
        self.size: Size = self.fixed or (side, side)
        self.padding = 1.25
        self.skeleton = COCO_17
        self.codec = CoordsConfig().build(self.size)

    def look(self, network: RuntimeNetwork, crops: np.ndarray) -> dict[str, np.ndarray]:
        """`pose` (B, K, 3) x y score of the persons who are meant, px of the crop; 0 where one was not found."""
        return {"pose": np.stack([self._meant(network, crop) for crop in crops])}

    def prediction(self, found: dict[str, np.ndarray]) -> Prediction:
        """Places and scores; a score of 0 where the person was not found."""
        pose = torch.from_numpy(found["pose"]).float()
        return Coords(xy=as_fractions(pose[..., :2], "px", self.size), score=pose[..., 2])

    def _meant(self, network: RuntimeNetwork, crop: np.ndarray) -> np.ndarray:
        """(K, 3) the person in the middle of a crop, whose longer side is the crop's, less the padding."""
        people = self.people(network, crop, least_score=LEAST_SCORE_OF_MEANT)
        middle, side = np.array([self.size[1], self.size[0]]) / 2, min(self.size) / self.padding
        shared = overlap(squares(people.bbox), np.concatenate([middle - side / 2, [side, side]]))
        if not len(shared) or shared.max() < LEAST_OVERLAP:
            return np.zeros((len(self.skeleton), 3))
        meant: np.ndarray = people.keypoints[int(shared.argmax())]
        return meant

    def people(self, network: RuntimeNetwork, image: np.ndarray, *, least_score: float = LEAST_SCORE) -> FoundPeople:
        """Everybody in an (H, W, 3) uint8 RGB picture who is scored so high."""
        shrunk = self.shrink(image)
        tensor = self.tensor(shrunk.seen)
        found = network({self.port.name: np.repeat(tensor, self.batch, axis=0)})
        bbox, score, keypoints = self.read(found, shrunk.seen.shape[:2], least_score)
        if keypoints.shape[1:] != (len(self.skeleton), 3):
            raise UserError(
                f"teacher.layout: {self.name} has {len(self.skeleton)} keypoints of three numbers, and the file's are "
                f"{keypoints.shape[1:]}"
            )
        kept = np.flatnonzero((score >= least_score) & np.isfinite(bbox).all(axis=1))
        kept = kept[np.argsort(-score[kept], kind="stable")]
        bbox, score, keypoints = bbox[kept], score[kept], keypoints[kept].copy()
        corners = (bbox.reshape(-1, 2, 2) * shrunk.scale + shrunk.offset).reshape(-1, 4)  # x1 y1 x2 y2, image px
        low, high = corners[:, :2].clip(0), np.minimum(corners[:, 2:], [image.shape[1], image.shape[0]])
        keypoints[..., :2] = keypoints[..., :2] * shrunk.scale + shrunk.offset - 0.5  # from edges to px centres
        sound = (high > low + 1).all(axis=1)
        boxes = np.concatenate([low, high - low], axis=1)
        return FoundPeople(boxes[sound], score[sound], keypoints[sound])

    def shrink(self, image: np.ndarray) -> Shrunk:
        """The picture as the network sees it."""
        extent = np.array([image.shape[1], image.shape[0]])  # width, height, as all below
        full = np.array([self.size[1], self.size[0]])
        if self.stretches:
            seen = cv2.resize(image, (int(full[0]), int(full[1])), interpolation=cv2.INTER_LINEAR)
            return Shrunk(seen, extent / full, np.zeros(2))
        factor = float((full / extent).min())
        new = np.maximum(1, (extent * factor).round().astype(int))
        if self.fixed is None and not self.is_square:
            full = -(-new // 32) * 32
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        small = image if (new == extent).all() else cv2.resize(image, (int(new[0]), int(new[1])), interpolation=how)
        left, top = (full - new) // 2 if self.centred else (0, 0)
        seen = np.full((full[1], full[0], 3), self.fill, dtype=np.uint8)
        seen[top : top + new[1], left : left + new[0]] = small
        scale = extent / new
        return Shrunk(seen, scale, -scale * np.array([left, top]))

    @classmethod
    def find_output(cls, outputs: dict[str, tuple[int | None, ...]]) -> str | None:
        """The name of the main output; None where the outputs are not this layout's."""
        raise NotImplementedError

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """What the network is given for a picture (H, W, 3) uint8 RGB."""
        raise NotImplementedError

    def read(
        self, found: dict[str, np.ndarray], seen: Size, least_score: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4) x1 y1 x2 y2, scores (N,) and keypoints (N, K, 3), in px of the picture seen, from its edges.

        Those scored lower may be left out.
        """
        raise NotImplementedError


class MoveNetMultiPose(OneStage):
    """Up to six persons with their boxes; sides are multiples of 32."""

    name = "movenet-multipose"
    channels_last = True
    side = 256
    is_square = False
    fill = 0
    is_whole = True
    reads = "an output (1, 6, 56)"

    @classmethod
    def find_output(cls, outputs: dict[str, tuple[int | None, ...]]) -> str | None:
        """The one that ends in 56 numbers."""
        return next((name for name, shape in outputs.items() if len(shape) == 3 and shape[-1] == 56), None)

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, H, W, 3) whole numbers 0..255, RGB."""
        return seen[None].astype(self.port.dtype)

    def read(
        self, found: dict[str, np.ndarray], seen: Size, least_score: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From 17 x (y, x, score), then ymin xmin ymax xmax score, as shares of the picture seen."""
        assert self.output is not None
        people = found[self.output][0].astype(np.float64)  # (6, 56)
        extent = np.array([seen[1], seen[0]])
        points = people[:, :51].reshape(-1, 17, 3)
        keypoints = np.concatenate([points[..., 1::-1] * extent, points[..., 2:]], axis=-1)
        bbox = people[:, [52, 51, 54, 53]] * np.tile(extent, 2)
        return bbox, people[:, 55], keypoints


class Rtmo(OneStage):
    """RTMO: BGR 0..255 without any normalisation, filled up at the right and below."""

    name = "rtmo"
    is_whole = True
    reads = "the outputs `dets` and `keypoints`"

    @classmethod
    def find_output(cls, outputs: dict[str, tuple[int | None, ...]]) -> str | None:
        """The boxes, where keypoints are beside them."""
        return "dets" if {"dets", "keypoints"} <= outputs.keys() else None

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) BGR 0..255."""
        return np.ascontiguousarray(seen[..., ::-1].transpose(2, 0, 1)[None]).astype(self.port.dtype)

    def read(
        self, found: dict[str, np.ndarray], seen: Size, least_score: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From `dets` (1, N, 5) x1 y1 x2 y2 score and `keypoints` (1, N, K, 3) x y visibility."""
        boxes, keypoints = found["dets"][0].astype(np.float64), found["keypoints"][0].astype(np.float64)
        kept = suppressed(boxes[:, :4], boxes[:, 4])
        return boxes[kept, :4], boxes[kept, 4], keypoints[kept]


class YoloPose(OneStage):
    """YOLO's pose networks: RGB 0..1 in a centred square, with or without suppression inside the network."""

    name = "yolo-pose"
    centred = True
    reads = "an output (1, 56, N), or (1, N, 57) of at most 1,000 rows"

    @classmethod
    def find_output(cls, outputs: dict[str, tuple[int | None, ...]]) -> str | None:
        """The one with 56 rows, or with 57 columns; others of 57 columns and many rows are older, of another order."""
        for name, shape in outputs.items():
            if len(shape) == 3 and (shape[1] == 56 or (shape[2] == 57 and (shape[1] or 0) <= 1000)):
                return name
        return None

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) RGB 0..1."""
        numbers = np.ascontiguousarray(seen.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)
        return numbers.astype(self.port.dtype)

    def read(
        self, found: dict[str, np.ndarray], seen: Size, least_score: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From (1, 56, M), columns cx cy w h score keypoints, or (1, N, 57), rows x1 y1 x2 y2 score class keypoints."""
        assert self.output is not None
        values = found[self.output][0].astype(np.float64)
        if len(values) != 56:  # suppressed already
            return values[:, :4], values[:, 4], values[:, 6:].reshape(len(values), -1, 3)
        rows = values.T  # (M, 56)
        rows = rows[rows[:, 4] >= least_score]
        corner, extent = rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]
        boxes = np.concatenate([corner, corner + extent], axis=1)
        kept = suppressed(boxes, rows[:, 4])
        return boxes[kept], rows[kept, 4], rows[kept, 5:].reshape(-1, 17, 3)


class RfDetr(OneStage):
    """RF-DETR's keypoint networks: RGB by ImageNet's moments, the picture stretched to a square."""

    name = "rf-detr"
    side = 576
    stretches = True
    reads = "the outputs `dets`, `labels` and `keypoints`"

    @classmethod
    def find_output(cls, outputs: dict[str, tuple[int | None, ...]]) -> str | None:
        """The boxes, where labels and keypoints are beside them."""
        return "dets" if {"dets", "labels", "keypoints"} <= outputs.keys() else None

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) normalised RGB."""
        values = (seen.astype(np.float32) - _MEAN) / _STD
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None]).astype(self.port.dtype)

    def read(
        self, found: dict[str, np.ndarray], seen: Size, least_score: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From `dets` (1, N, 4) cx cy w h shares, `labels` logits and `keypoints` (1, N, K, 8) x y findable ..."""
        extent = np.array([seen[1], seen[0]])
        boxes, logits = found["dets"][0].astype(np.float64), found["labels"][0].astype(np.float64)
        points = found["keypoints"][0].astype(np.float64)[:, :17]
        low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
        return (
            np.concatenate([low, high], axis=1) * np.tile(extent, 2),
            _sigmoid(logits.max(axis=-1)),
            np.concatenate([points[..., :2] * extent, _sigmoid(points[..., 2:3])], axis=-1),
        )


ONE_STAGE: dict[str, type[OneStage]] = {each.name: each for each in (MoveNetMultiPose, Rtmo, YoloPose, RfDetr)}


def squares(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) the squares about the middles of boxes (N, 4), with their longer sides; all x y w h.

    People stand and lie: their boxes differ in shape from the crop's middle where their squares do not.
    """
    side = boxes[:, 2:].max(axis=1, keepdims=True, initial=0)
    return np.concatenate([boxes[:, :2] + (boxes[:, 2:] - side) / 2, side, side], axis=1)


def overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of boxes (N, 4) with one (4,), all x y w h."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    union = boxes[:, 2:].prod(axis=1) + box[2:].prod() - shared
    return shared / np.maximum(union, 1e-9)


def suppressed(corners: np.ndarray, score: np.ndarray, threshold: float = 0.65) -> np.ndarray:
    """Positions of the boxes (N, 4) x1 y1 x2 y2 that stay, surest first; those that overlap one of them go."""
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    waiting, kept = np.argsort(-score, kind="stable"), []
    while len(waiting):
        best, rest = waiting[0], waiting[1:]
        kept.append(best)
        waiting = rest[overlap(boxes[rest], boxes[best]) <= threshold]
    return np.array(kept, dtype=int)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    chances: np.ndarray = 1 / (1 + np.exp(-values.clip(-50, 50)))
    return chances
