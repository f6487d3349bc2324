"""The picture of docs/methods/distilpose.md: crops, the teacher's heatmaps, and the maps that coordinates draw.

python benchmarks/distilpose_picture.py TEACHER STUDENT [--out docs/methods/distilpose.jpg]     (two model folders)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from posestill.codecs.heatmap import simulated_heatmaps
from posestill.data.synthetic.people import SyntheticConfig
from posestill.data.topdown import Labels, TopDownDataset
from posestill.draw import draw_poses, encode_image
from posestill.models.pose_model import PoseModel
from posestill.types import Coords, Heatmaps

PEOPLE, HEIGHT, GAP = 6, 192, 6
KEYPOINTS = ("left_wrist", "right_wrist", "left_ankle", "right_ankle")


def shown(maps: torch.Tensor, crop: np.ndarray) -> np.ndarray:
    """The highest of some keypoints' maps (n, h, w) at every place, over the greyed crop."""
    height, width = crop.shape[:2]
    peak = maps.clamp(0, 1).amax(dim=0).numpy()
    peak = cv2.resize(peak, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    grey = crop.mean(axis=-1, keepdims=True).repeat(3, axis=-1) * 0.45
    return (grey * (1 - peak) + np.array([255, 170, 40]) * peak).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("teacher", type=Path)
    parser.add_argument("student", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/methods/distilpose.jpg"))
    asked = parser.parse_args()
    teacher, student = PoseModel.load(asked.teacher), PoseModel.load(asked.student)
    source = SyntheticConfig(people=PEOPLE, seed=3000).build()
    labels = Labels(np.arange(PEOPLE), np.ones(PEOPLE, dtype=bool))
    size, finer = student.config.size, teacher.config.size
    batch = TopDownDataset(source, size=size, labels=labels, teacher_size=finer).__getitems__(
        [(0, index) for index in range(PEOPLE)]
    )
    with torch.no_grad():
        drawn = student(batch.image).prediction
        taught = teacher(batch.image if batch.teacher_image is None else batch.teacher_image).prediction
    assert isinstance(drawn, Coords)
    assert isinstance(taught, Heatmaps)
    cells = torch.tensor([size[1] / 4, size[0] / 4])
    assert drawn.scale is not None
    maps = simulated_heatmaps(drawn.xy * cells, drawn.scale * cells, (size[0] // 4, size[1] // 4))
    xy = student.codec.decode(drawn).xy
    columns, enlarged = [], HEIGHT / size[0]
    kinds = [student.skeleton.names.index(name) for name in KEYPOINTS]
    for index in range(PEOPLE):
        crop = batch.image[index].permute(1, 2, 0).numpy()
        crop = cv2.resize(crop, (round(size[1] * enlarged), HEIGHT), interpolation=cv2.INTER_CUBIC)
        pose = np.concatenate([xy[index].numpy() * enlarged, np.ones((len(xy[index]), 1))], axis=1)
        posed = draw_poses(crop.copy(), pose[None], student.skeleton)
        columns.append([posed, shown(taught.maps[index, kinds], crop), shown(maps[index, kinds], crop)])
    rows = [np.concatenate([_framed(column[row]) for column in columns], axis=1) for row in range(3)]
    asked.out.write_bytes(encode_image(np.concatenate(rows, axis=0)))


def _framed(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
