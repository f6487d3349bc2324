"""From pictures to keypoints with a network that posestill exported: all that an application needs beside a runtime.

This file needs numpy and OpenCV alone and may be copied. Beside each network lies `NETWORK.json`, which tells the rest:

    told = read("model-fp32.onnx")
    crop, to_picture = cut(picture, [x, y, width, height], told)       # (H, W, 3) uint8 RGB, (2, 3)
    outputs = session.run(None, {told["input"]["name"]: tensor(crop[None], told)})
    found = decode(dict(zip(told["outputs"], outputs)), told)          # (1, K, 3) x y score in px of the crop
    poses = place(found, to_picture[None])                             # (1, K, 3) x y score in px of the picture

Px centres lie at whole numbers. A box is x, y, width and height in px of the picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def read(network: str | Path) -> dict[str, Any]:
    """What `NETWORK.json` says of the network in a file."""
    told: dict[str, Any] = json.loads(Path(f"{network}.json").read_text(encoding="utf-8"))
    return told


def cut(
    picture: np.ndarray, box: Sequence[float] | np.ndarray, told: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The crop (H, W, 3) of a person in an (h, w, 3) uint8 RGB picture, and the affine (2, 3) from its px back.

    The box keeps its centre, is widened to the network's aspect and made `padding` times as large.
    """
    height, width = told["size"]
    x, y, wide, high = box
    scale = 1 / (max(max(wide, 1.0) / width, max(high, 1.0) / height) * told["padding"])
    middle = x + wide / 2, y + high / 2
    forth = np.array([[scale, 0, width / 2 - scale * middle[0]], [0, scale, height / 2 - scale * middle[1]]])
    back = np.array([[1 / scale, 0, -forth[0, 2] / scale], [0, 1 / scale, -forth[1, 2] / scale]])
    return cv2.warpAffine(picture, forth, (width, height), flags=cv2.INTER_LINEAR), back


def tensor(crops: np.ndarray, told: Mapping[str, Any]) -> np.ndarray:
    """What the network is given for crops (B, H, W, 3) uint8 RGB: px from 0 to 255, as it normalises them itself."""
    ordered = crops.transpose(0, 3, 1, 2) if told["input"]["order"] == "nchw" else crops
    return np.ascontiguousarray(ordered, dtype=told["input"]["dtype"])


def decode(outputs: Mapping[str, np.ndarray], told: Mapping[str, Any]) -> np.ndarray:
    """Keypoints (B, K, 3) as x y score in px of the crop, from the network's outputs by name."""
    codec = told["codec"]
    if "keypoints" in outputs:  # decoded inside the network
        return np.asarray(outputs["keypoints"], dtype=np.float64)
    if "maps" in outputs:
        return _of_maps(np.asarray(outputs["maps"], dtype=np.float64), codec, told["size"])
    if "numbers" in outputs:
        return _of_numbers(np.asarray(outputs["numbers"], dtype=np.float64), told)
    return _of_bins([np.asarray(outputs[f"simcc_{axis}"], dtype=np.float64) for axis in "xy"], codec)


def place(found: np.ndarray, to_picture: np.ndarray) -> np.ndarray:
    """Keypoints (B, K, 3) of crops as keypoints of their pictures, by the affine (B, 2, 3) of each."""
    xy = found[..., :2] @ to_picture[:, :, :2].transpose(0, 2, 1) + to_picture[:, None, :, 2]
    return np.concatenate([xy, found[..., 2:]], axis=-1)


def _of_numbers(numbers: np.ndarray, told: Mapping[str, Any]) -> np.ndarray:
    """Shares x y of width and height, with a confidence or, under RLE, with a spread of each."""
    height, width = told["size"]
    xy = numbers[..., :2] * [width, height]
    if told["codec"]["name"] == "rle":
        score = 1 - numbers[..., 2:4].mean(axis=-1)
    else:
        score = numbers[..., 2] if told["codec"]["score"] else np.ones(numbers.shape[:2])
    return np.concatenate([xy, score[..., None]], axis=-1)


def _of_bins(logits: Sequence[np.ndarray], codec: Mapping[str, Any]) -> np.ndarray:
    """The highest bin of each axis; the score compares its probability with that of a perfect target."""
    places, scores = [], []
    for values, sigma in zip(logits, codec["sigma"], strict=True):
        count = values.shape[-1]
        perfect = np.exp(-((np.arange(count) - count // 2) ** 2) / (2 * sigma**2))
        peak = _softmax(values * codec["beta"]).max(axis=-1)
        places.append(values.argmax(axis=-1) / codec["split"])
        scores.append(np.minimum(peak / _softmax(perfect * codec["beta"]).max(), 1))
    return np.stack([*places, np.minimum(*scores)], axis=-1)


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _of_maps(maps: np.ndarray, codec: Mapping[str, Any], size: Sequence[int]) -> np.ndarray:
    """Peaks of heatmaps (B, K, h, w), refined as the codec says; the score is the peak's height."""
    rows, columns = maps.shape[-2:]
    flat = maps.reshape(*maps.shape[:2], -1)
    at = flat.argmax(axis=-1)  # (B, K)
    cell = np.stack([at % columns, at // columns], axis=-1)
    moved = cell.astype(np.float64)
    if codec["decoder"] == "local":
        moved = _local_mean(maps, cell, 2.5 * codec["sigma"])
    elif codec["decoder"] != "argmax":
        edge = 2 if codec["decoder"] == "dark" else 1  # cells beside the border, where no step is taken
        inside = np.logical_and(cell >= edge, cell <= [columns - 1 - edge, rows - 1 - edge]).all(axis=-1, keepdims=True)
        refine = _taylor_step if codec["decoder"] == "dark" else _quarter_step
        moved += np.where(inside, refine(maps, cell, codec["blur_kernel"]), 0)
    stride, first = codec["stride"], 0.0
    step = [float(stride), float(stride)]
    if codec["grid"] == "udp":
        step = [(size[1] - 1) / (columns - 1), (size[0] - 1) / (rows - 1)]
    elif codec["grid"] == "cells":
        first = (stride - 1) / 2
    return np.concatenate([moved * step + first, flat.max(axis=-1)[..., None]], axis=-1)


def _around(maps: np.ndarray, cell: np.ndarray, reach: int) -> np.ndarray:
    """(B, K, n, n) the cells up to `reach` rows and columns from each one (B, K, 2), zero beyond the border."""
    padded = np.pad(maps, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    step = np.arange(2 * reach + 1)
    batch, keypoint = np.ogrid[: maps.shape[0], : maps.shape[1]]
    rows, columns = cell[..., 1, None, None] + step[:, None], cell[..., 0, None, None] + step
    return padded[batch[..., None, None], keypoint[..., None, None], rows, columns]


def _quarter_step(maps: np.ndarray, cell: np.ndarray, _: int) -> np.ndarray:
    near = _around(maps, cell, 1)
    return 0.25 * np.sign(np.stack([near[..., 1, 2] - near[..., 1, 0], near[..., 2, 1] - near[..., 0, 1]], axis=-1))


def _taylor_step(maps: np.ndarray, cell: np.ndarray, kernel: int) -> np.ndarray:
    """One step of Newton's on the logarithm of the smoothed map (DARK, CVPR 2020); none where it is not curved."""
    deviation = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    line = np.exp(-((np.arange(kernel) - (kernel - 1) / 2) ** 2) / (2 * deviation**2))
    smooth = np.zeros((3, kernel + 2))
    for row in range(3):
        smooth[row, row : row + kernel] = line / line.sum()
    near = np.log(np.maximum(smooth @ _around(maps, cell, kernel // 2 + 1) @ smooth.T, 1e-10))  # (B, K, 3, 3)
    dx, dy = (near[..., 1, 2] - near[..., 1, 0]) / 2, (near[..., 2, 1] - near[..., 0, 1]) / 2
    dxx = near[..., 1, 2] - 2 * near[..., 1, 1] + near[..., 1, 0]
    dyy = near[..., 2, 1] - 2 * near[..., 1, 1] + near[..., 0, 1]
    dxy = (near[..., 2, 2] - near[..., 2, 0] - near[..., 0, 2] + near[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy**2
    curved = determinant > 1e-12
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / np.where(curved, determinant, 1)[..., None]
    return np.where(curved[..., None], np.clip(step, -1, 1), 0)


def _local_mean(maps: np.ndarray, cell: np.ndarray, radius: float) -> np.ndarray:
    """The mean place under the positive part of the map around its peak, in a window that the border cuts evenly."""
    rows, columns = maps.shape[-2:]
    room = np.minimum(np.minimum(cell, [columns - 1, rows - 1] - cell), np.ceil(radius))[..., None]  # (B, K, 2, 1)
    near_x = np.abs(np.arange(columns) - cell[..., 0, None]) <= room[..., 0, :]  # (B, K, w)
    near_y = np.abs(np.arange(rows) - cell[..., 1, None]) <= room[..., 1, :]
    mass = np.maximum(maps, 0) * near_x[..., None, :] * near_y[..., :, None]
    total = mass.sum(axis=(-2, -1))
    mean = np.stack([mass.sum(axis=-2) @ np.arange(columns), mass.sum(axis=-1) @ np.arange(rows)], axis=-1)
    return np.where((total > 1e-12)[..., None], mean / np.maximum(total, 1e-12)[..., None], cell)
