"""From an image and boxes to poses: the crop, decoding and inverse affine are those that evaluation used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from posestill.data.image_files import read_image
from posestill.data.topdown import warp
from posestill.geometry import affine_to_input, crop_of_bbox, invert_affine, transform_points
from posestill.models.device import choose_device
from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.predict.stages import Stages
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.types import Size

Boxes = Sequence[Sequence[float]] | np.ndarray


def load(folder: str | Path, *, flip_test: bool = False, device: str = "auto") -> Predictor:
    """The model of a folder that a run wrote (`runs/NAME/best`), ready to predict.

    Its `model` is the network itself, for predictions only; `PoseModel.load` gives one that can be trained.
    """
    return Predictor(folder, flip_test=flip_test, device=device)


@dataclass(frozen=True)
class Crops:
    """The persons of a picture as a model sees them."""

    pixels: np.ndarray
    """(N, H, W, 3) uint8 RGB"""
    to_input: np.ndarray
    """(N, 2, 3) image px -> input px"""


class Predictor:
    """Poses of the persons in an image.

    >>> model = posestill.load("runs/student/best")                                 # doctest: +SKIP
    >>> poses = model.predict(image, boxes=[[120, 40, 80, 210]])  # (N, K, 3)       # doctest: +SKIP
    """

    def __init__(self, model: str | Path | PoseModel, *, flip_test: bool = False, device: str = "auto") -> None:
        """`model` is a folder or a loaded model, of which a faster copy is used (batch norms folded away); `flip_test`
        averages with the mirrored crop (twice the time).
        """
        self.device = choose_device(device)
        self.model = folded(model if isinstance(model, PoseModel) else PoseModel.load(model)).to(self.device)
        if flip_test and not self.model.skeleton.partners_known:
            raise UserError("flip_test: nothing tells which keypoints of this model are mirror partners: leave it out")
        self.flip_test = flip_test

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of the answer, in order."""
        return self.model.skeleton

    def predict(self, image: np.ndarray | str | Path, boxes: Boxes | None = None) -> np.ndarray:
        """(N, K, 3) x y score in image px for an (H, W, 3) uint8 RGB image, or for an image file.

        `boxes` are (N, 4) x y w h in image px, one a person; None takes the whole image as one. A `UserError` names a
        box that is none, or that lies outside of the image.
        """
        if isinstance(image, str | Path):
            image = read_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(f"an (H, W, 3) uint8 RGB image is wanted, given {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        given = np.array([[0, 0, width, height]]) if boxes is None else as_boxes(boxes)
        if problem := next(iter(faults_of(given, (height, width)).values()), ""):
            raise UserError(problem)
        return self.poses(self.crops(image, given))

    def __call__(self, image: np.ndarray | str | Path, boxes: Boxes | None = None) -> np.ndarray:
        """As `predict`."""
        return self.predict(image, boxes)

    def crops(self, image: np.ndarray, boxes: np.ndarray) -> Crops:
        """The crops that the model wants to see for boxes (N, 4) x y w h of an (H, W, 3) uint8 RGB image."""
        size = self.model.config.size
        if not len(boxes):
            return Crops(np.zeros((0, *size, 3), dtype=np.uint8), np.zeros((0, 2, 3)))
        image = np.ascontiguousarray(image)
        affines = affine_to_input(crop_of_bbox(np.asarray(boxes, dtype=np.float64), size), size)
        return Crops(np.stack([warp(image, affine, size) for affine in affines]), affines)

    def poses(self, crops: Crops, stages: Stages | None = None) -> np.ndarray:
        """(N, K, 3) x y score in image px of the persons in some crops, all of which the network is given at once."""
        stages = stages or Stages()
        if not len(crops.pixels):
            return np.zeros((0, len(self.skeleton), 3))
        with stages("network"):
            batch = torch.from_numpy(crops.pixels).permute(0, 3, 1, 2).contiguous().to(self.device)
            prediction = self.model.prediction(batch, flip_test=self.flip_test)
            if self.device.type == "cuda":  # or it would be waited for in the next stage
                torch.cuda.synchronize(self.device)
        with stages("decode keypoints"):
            found = self.model.codec.decode(prediction)
            xy, score = found.xy.cpu().double().numpy(), found.score.cpu().double().numpy()
            places = transform_points(xy, invert_affine(crops.to_input))
            if not np.isfinite(places).all():
                raise UserError(
                    "the model answers with NaN or infinity: its training diverged, or its weights were damaged; "
                    "evaluate it, and train it again"
                )
            return np.concatenate([places, score[..., None]], axis=-1)


def as_boxes(boxes: Boxes) -> np.ndarray:
    """(N, 4) float64 of boxes x y w h, or a `UserError` that names the first row that has not four numbers."""
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError):  # rows of different lengths, or words
        array = np.zeros((1, 1, 1))
    if array.ndim == 1 and array.shape != (4,) and array.size:
        raise UserError(f"boxes: {array.size} numbers are given: a box is four, x y w h, and boxes are a list of such")
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim == 1:
        return array[None]
    if array.ndim != 2:
        lengths = [np.size(row) for row in boxes]
        row = next((number for number, length in enumerate(lengths) if length != 4), 0)
        raise UserError(f"boxes: row {row + 1} is {boxes[row]}: four numbers are wanted, x y w h")
    if array.shape[1] != 4:
        raise UserError(f"boxes: row 1 has {array.shape[1]} numbers: four are wanted, x y w h")
    return array


def faults_of(boxes: np.ndarray, size: Size) -> dict[int, str]:
    """Which of the boxes (N, 4) no person of a picture of `size` can stand in -> why, in a sentence."""
    height, width = size
    found = {}
    for row, (x, y, wide, high) in enumerate(boxes.tolist()):
        told = f"box {row + 1} [{x:g}, {y:g}, {wide:g}, {high:g}]"
        if not np.isfinite([x, y, wide, high]).all():
            found[row] = f"{told} has numbers that are not finite"
        elif wide <= 0 or high <= 0:
            found[row] = f"{told} has no extent: boxes are x, y, width, height"
        elif x >= width or y >= height or x + wide <= 0 or y + high <= 0:
            found[row] = f"{told} lies outside of the picture ({width} x {height} px)"
    return found
