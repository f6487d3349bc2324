"""Short videos, made on the spot."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


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
