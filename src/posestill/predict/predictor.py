"""From an image and boxes to poses: the crop, decoding and inverse affine are those that evaluation used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from posestill.data.image_files import read_image
from posestill.data.topdown import warp
from posestill.documents.fields import sound_box
from posestill.geometry import affine_to_input, crop_of_bbox, invert_affine, transform_points
from posestill.models.device import choose_device
from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.skeletons import Skeleton


def load(folder: str | Path) -> PoseModel:
    """The model of a folder that a run wrote (`runs/NAME/best`), in eval mode."""
    return PoseModel.load(Path(folder))


class Predictor:
    """Poses of the persons in an image.

    >>> predictor = Predictor("runs/student/best")                              # doctest: +SKIP
    >>> poses = predictor(image, boxes=[[120, 40, 80, 210]])  # (N, K, 3)       # doctest: +SKIP
    """

    def __init__(self, model: str | Path | PoseModel, *, flip_test: bool = False, device: str = "auto") -> None:
        """`model` is a folder or a loaded model, of which a faster copy is used (batch norms folded away); `flip_test`
        averages with the mirrored crop (twice the time).
        """
        self.device = choose_device(device)
        self.model = folded(model if isinstance(model, PoseModel) else load(model)).to(self.device)
        if flip_test and not self.model.skeleton.partners_known:
            raise UserError("flip_test: nothing tells which keypoints of this model are mirror partners: leave it out")
        self.flip_test = flip_test

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of the answer, in order."""
        return self.model.skeleton

    def __call__(
        self, image: np.ndarray | str | Path, boxes: Sequence[Sequence[float]] | np.ndarray | None = None
    ) -> np.ndarray:
        """(N, K, 3) x y score in image px for an (H, W, 3) uint8 RGB image, or for an image file.

        `boxes` are (N, 4) x y w h in image px, one a person; None takes the whole image as one.
        """
        if isinstance(image, str | Path):
            image = read_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f"an (H, W, 3) uint8 RGB image is wanted, given {image.shape} {image.dtype}")
        if boxes is None:
            boxes = [[0, 0, image.shape[1], image.shape[0]]]
        boxes = _rows_of_four(boxes)
        if not len(boxes):
            return np.zeros((0, len(self.skeleton), 3))
        size = self.model.config.size
        affines = [affine_to_input(crop_of_bbox(box, size), size) for box in boxes]
        crops = np.stack([warp(image, affine, size) for affine in affines])  # (N, H, W, 3)
        batch = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().to(self.device)
        found = self.model.predict(batch, flip_test=self.flip_test)
        xy = found.xy.cpu().double().numpy()
        places = [transform_points(points, invert_affine(affine)) for points, affine in zip(xy, affines, strict=True)]
        if not np.isfinite(places).all():
            raise UserError(
                "the model answers with NaN or infinity: its training diverged, or its weights were damaged; evaluate "
                "it, and train it again"
            )
        return np.concatenate([np.stack(places), found.score.cpu().double().numpy()[..., None]], axis=-1)


def _rows_of_four(boxes: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """(N, 4) boxes, or a `UserError` that names the first that is none."""
    rows = boxes.tolist() if isinstance(boxes, np.ndarray) else list(boxes)
    if rows and not isinstance(rows[0], list | tuple | np.ndarray):
        rows = [rows]  # a single box
    for at, row in enumerate(rows):
        row = row.tolist() if isinstance(row, np.ndarray) else row
        columns = len(row) if isinstance(row, list | tuple) else 0
        if columns != 4:
            raise UserError(f"boxes: N rows of 4 numbers, x y w h, are wanted; row {at} has {columns}")
        sound_box(row, where=f"boxes: row {at}", key="box")
    return np.asarray(rows, dtype=np.float64).reshape(-1, 4)
