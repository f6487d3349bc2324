"""Networks that find every person of a picture at once: as detectors, and as teachers by the person in the middle.

Asked about a crop, such a network may find several people there; the one whose box overlaps most with the box that the
crop was cut around is meant.
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
from posestill.teachers.layouts import IMAGENET_MEAN, IMAGENET_STD, Layout, as_fractions
from posestill.teachers.runtime import RuntimeNetwork
from posestill.types import Coords, Prediction, Size

LEAST_SCORE = 0.2
"""people scored below are not taken for people"""
LEAST_OVERLAP = 0.3
"""a person whose box shares less with the one that is meant is somebody else"""


@dataclass(frozen=True)
class FoundPeople:
    """Everybody in one picture, surest first."""

    bbox: np.ndarray
    """(N, 4) x y w h, image px"""
    score: np.ndarray
    """(N,)"""
    keypoints: np.ndarray
    """(N, K, 3) x y score, image px"""


class OneStage(Layout):
    """A network that is given a whole picture."""

    side: ClassVar[int] = 640
    """px of the longer side of the picture as the network sees it"""
    is_square: ClassVar[bool] = True
    """True: the picture is filled up to a square"""
    fill: ClassVar[int] = 114
    """the grey of what is filled up"""
    stretches: ClassVar[bool] = False
    """True: the picture is stretched to the square and nothing is filled up"""
    centred: ClassVar[bool] = False
    """True: what is filled up lies on both sides"""

    def __init__(self, network: RuntimeNetwork) -> None:
        port = network.inputs[0]
        if len(network.inputs) != 1 or len(port.shape) != 4:
            raise UserError(f"teacher.layout: {self.name} gives one picture, and the file has: {network.describe()}")
        self.port = port
        self.side_px = next((size for size in port.shape[1:] if size not in (None, 3)), None) or self.side
        self.size: Size = (self.side_px, self.side_px)
        self.padding = 1.25
        self.skeleton = COCO_17
        self.codec = CoordsConfig().build(self.size)

    def ask(self, network: RuntimeNetwork, crops: np.ndarray) -> tuple[Prediction, dict[str, np.ndarray]]:
        """Places and scores for crops (B, H, W, 3) uint8 RGB; a score of 0 where the person was not found."""
        poses = np.zeros((len(crops), len(self.skeleton), 3))
        height, width = self.size
        extent = np.array([width, height]) / self.padding
        meant = np.concatenate([(np.array([width, height]) - extent) / 2, extent])
        for pose, crop in zip(poses, crops, strict=True):
            people = self.people(network, crop)
            shared = overlap(people.bbox, meant) if len(people.bbox) else np.zeros(0)
            if len(shared) and shared.max() >= LEAST_OVERLAP:
                pose[:] = people.keypoints[int(shared.argmax())]
        points = torch.from_numpy(poses).float()
        return Coords(xy=as_fractions(points[..., :2], "px", self.size), score=points[..., 2]), {}

    def people(self, network: RuntimeNetwork, image: np.ndarray) -> FoundPeople:
        """Everybody in an (H, W, 3) uint8 RGB picture."""
        seen, to_image = self.shrink(image)
        bbox, score, keypoints = self.read(network({self.port.name: self.tensor(seen)}), seen.shape[:2])
        kept = np.flatnonzero((score >= LEAST_SCORE) & np.isfinite(bbox).all(axis=1))
        kept = kept[np.argsort(-score[kept], kind="stable")]
        bbox, score, keypoints = bbox[kept], score[kept], keypoints[kept].copy()
        scale, offset = to_image
        corners = (bbox.reshape(-1, 2, 2) * scale + offset).reshape(-1, 4)  # x1 y1 x2 y2, image px
        low, high = corners[:, :2].clip(0), np.minimum(corners[:, 2:], [image.shape[1], image.shape[0]])
        keypoints[..., :2] = keypoints[..., :2] * scale + offset - 0.5  # from edges to px centres
        sound = (high > low + 1).all(axis=1)
        boxes = np.concatenate([low, high - low], axis=1)
        return FoundPeople(boxes[sound], score[sound], keypoints[sound])

    def shrink(self, image: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The picture as the network sees it, and (scale, offset): px seen, from edges, -> image px, from edges."""
        height, width = image.shape[:2]
        if self.stretches:
            scale = np.array([width, height]) / self.side_px
            return cv2.resize(image, (self.side_px, self.side_px), interpolation=cv2.INTER_LINEAR), (scale, np.zeros(2))
        factor = self.side_px / max(height, width)
        new = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(image, new, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        full = (self.side_px, self.side_px) if self.is_square else tuple(-(-each // 32) * 32 for each in new)
        spare = np.array(full) - np.array(new)
        left, top = (spare // 2) if self.centred else (0, 0)
        seen = np.full((full[1], full[0], 3), self.fill, dtype=np.uint8)
        seen[top : top + new[1], left : left + new[0]] = small
        scale = np.array([width, height]) / np.array(new)
        return seen, (scale, -scale * np.array([left, top]))

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """What the network is given for a picture (H, W, 3) uint8 RGB."""
        raise NotImplementedError

    def read(self, found: dict[str, np.ndarray], seen: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4) x1 y1 x2 y2, scores (N,) and keypoints (N, K, 3), in px of the picture seen, from its edges."""
        raise NotImplementedError


class MoveNetMultiPose(OneStage):
    """Up to six persons with their boxes; sides are multiples of 32."""

    name = "movenet-multipose"
    side = 256
    is_square = False
    fill = 0

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, H, W, 3) whole numbers 0..255, RGB."""
        return seen[None].astype(self.port.dtype)

    def read(self, found: dict[str, np.ndarray], seen: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From 17 x (y, x, score), then ymin xmin ymax xmax score, as shares of the picture seen."""
        people = next(iter(found.values())).reshape(-1, 56).astype(np.float64)
        extent = np.array([seen[1], seen[0]])
        points = people[:, :51].reshape(-1, 17, 3)
        keypoints = np.concatenate([points[..., 1::-1] * extent, points[..., 2:]], axis=-1)
        bbox = people[:, [52, 51, 54, 53]] * np.tile(extent, 2)
        return bbox, people[:, 55], keypoints


class Rtmo(OneStage):
    """RTMO: BGR 0..255 without any normalisation, filled up at the right and below."""

    name = "rtmo"

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) BGR 0..255."""
        return np.ascontiguousarray(seen[..., ::-1].transpose(2, 0, 1)[None]).astype(self.port.dtype)

    def read(self, found: dict[str, np.ndarray], seen: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From `dets` (1, N, 5) x1 y1 x2 y2 score and `keypoints` (1, N, K, 3) x y visibility."""
        boxes, keypoints = found["dets"][0].astype(np.float64), found["keypoints"][0].astype(np.float64)
        kept = suppressed(boxes[:, :4], boxes[:, 4])
        return boxes[kept, :4], boxes[kept, 4], keypoints[kept]


class YoloPose(OneStage):
    """YOLO's pose networks: RGB 0..1 in a centred square, with or without suppression inside the network."""

    name = "yolo-pose"
    centred = True

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) RGB 0..1."""
        return np.ascontiguousarray(seen.transpose(2, 0, 1)[None]).astype(np.float32) / 255

    def read(self, found: dict[str, np.ndarray], seen: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From (1, 56, M), columns cx cy w h score keypoints, or (1, N, 57), rows x1 y1 x2 y2 score class keypoints."""
        values = next(iter(found.values()))[0].astype(np.float64)
        if values.shape[-1] == 57:  # suppressed already
            return values[:, :4], values[:, 4], values[:, 6:].reshape(-1, 17, 3)
        rows = values.T  # (M, 56)
        rows = rows[rows[:, 4] >= LEAST_SCORE]
        corner, extent = rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]
        boxes = np.concatenate([corner, corner + extent], axis=1)
        kept = suppressed(boxes, rows[:, 4])
        return boxes[kept], rows[kept, 4], rows[kept, 5:].reshape(-1, 17, 3)


class RfDetr(OneStage):
    """RF-DETR's keypoint networks: RGB by ImageNet's moments, the picture stretched to a square."""

    name = "rf-detr"
    side = 576
    stretches = True

    def tensor(self, seen: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) normalised RGB."""
        mean, std = (np.array(each, dtype=np.float32) for each in (IMAGENET_MEAN, IMAGENET_STD))
        values = (seen.astype(np.float32) - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])

    def read(self, found: dict[str, np.ndarray], seen: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From `dets` (1, N, 4) cx cy w h shares, `labels` logits and `keypoints` (1, N, K, 8) x y findable ..."""
        extent = np.array([seen[1], seen[0]])
        boxes, logits = found["dets"][0].astype(np.float64), found["labels"][0].astype(np.float64)
        points = found["keypoints"][0].astype(np.float64)[:, :17]
        score = 1 / (1 + np.exp(-logits.max(axis=-1)))
        low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
        sure = 1 / (1 + np.exp(-points[..., 2:3]))
        return (
            np.concatenate([low, high], axis=1) * np.tile(extent, 2),
            score,
            np.concatenate([points[..., :2] * extent, sure], axis=-1),
        )


ONE_STAGE: dict[str, type[OneStage]] = {each.name: each for each in (MoveNetMultiPose, Rtmo, YoloPose, RfDetr)}


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
