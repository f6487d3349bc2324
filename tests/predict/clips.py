"""Short videos, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from posestill.data.synthetic.people import SyntheticConfig

_SQUARE, _DIGITS = 12, 6
"""px of the squares that say a frame's number, and how many there are"""


def write_clip(path: Path, frames: int, *, noise: bool = False, size: tuple[int, int] = (48, 64)) -> Path:
    """A video of 10 frames a second in which a bright spot moves to the right, or in which every pixel is noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (width, height))
    rng = np.random.default_rng(0)
    for number in range(frames):
        frame = np.full((height, width, 3), 90, dtype=np.uint8)
        if noise:
            frame = rng.integers(0, 255, frame.shape, dtype=np.uint8)
        cv2.circle(frame, (10 + 2 * number, height // 2), 5, (255, 255, 255), -1)
        writer.write(frame)
    writer.release()
    return path


def walking_person(frames: int, size: tuple[int, int] = (240, 320)) -> list[np.ndarray]:
    """Frames (H, W, 3) uint8 RGB in which a synthetic person moves to the right, comes nearer and goes away again.

    The squares at the bottom say each frame's number in ones (white) and twos, the least first.
    """
    height, width = size
    picture = SyntheticConfig(people=1, profile="easy", size=(height, width), seed=102).build().image(0)
    found = []
    for number in range(frames):
        turn = 2 * np.pi * number / frames
        scale = 0.85 - 0.1 * np.cos(turn)
        move = 0.12 * width * np.array([np.sin(turn), 0])
        middle = np.array([width / 2, height / 2])
        affine = np.column_stack([scale * np.eye(2), middle * (1 - scale) + move])
        frame = cv2.warpAffine(picture, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
        for digit in range(_DIGITS):
            colour = 255 if number >> digit & 1 else 0
            frame[-_SQUARE:, digit * _SQUARE : (digit + 1) * _SQUARE] = colour
        found.append(frame)
    return found


def number_of(frame: np.ndarray) -> int:
    """Which one of `walking_person` a frame (H, W, 3) is."""
    middles = frame[-_SQUARE // 2, _SQUARE // 2 : _DIGITS * _SQUARE : _SQUARE].mean(axis=-1)
    return sum(int(each > 127) << digit for digit, each in enumerate(middles))


def write_y4m(path: Path, frames: Sequence[np.ndarray], *, rate: int = 10) -> list[np.ndarray]:
    """Write frames (H, W, 3) uint8 RGB as a video that Chromium takes for a camera; the frames as that holds them."""
    height, width = frames[0].shape[:2]
    kept = [cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420) for frame in frames]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420\n".encode())
        for each in kept:
            file.write(b"FRAME\n" + each.tobytes())
    return [cv2.cvtColor(each, cv2.COLOR_YUV2RGB_I420) for each in kept]
