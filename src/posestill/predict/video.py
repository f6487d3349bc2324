"""Frames of videos and cameras, and drawn frames as a video."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posestill.data.pictures import VIDEO_SUFFIXES
from posestill.files import Outputs, check_readable
from posestill.schema import UserError, printable

DRAWN_SUFFIX = ".mp4"
_USUAL_RATE = 30.0
"""frames a second, where a camera or a file does not say"""
_MISSING = 0.05
"""a video that has fewer frames than it promises by more than this share ends early; containers count roughly"""
_FASTEST = 600.0
"""frames a second of a video that the encoder takes, in hundredths"""
_CAMERA = re.compile(r"camera:(\d+)")


@dataclass(frozen=True)
class Frame:
    """One frame of a video or of a camera."""

    number: int
    """counted from 0"""
    seconds: float
    """since the first frame"""
    image: np.ndarray
    """(H, W, 3) uint8 RGB"""


def camera_number(given: str | Path) -> int | None:
    """Which camera `camera:0` means; None for everything else."""
    found = _CAMERA.fullmatch(str(given))
    return int(found[1]) if found else None


def is_moving(given: str | Path) -> bool:
    """True for a camera, and for what a video is named like."""
    return camera_number(given) is not None or Path(given).suffix.lower() in VIDEO_SUFFIXES


class Video:
    """The frames of a video file or of a camera (`camera:0`), which are read as they are asked for."""

    def __init__(self, given: str | Path) -> None:
        """A `UserError` says why it cannot be opened."""
        self.camera = camera_number(given)
        self.name = printable(given) if self.camera is not None else f"video {printable(given)}"
        if self.camera is None:
            check_readable(Path(given), what="video")
        self._capture = cv2.VideoCapture(str(given) if self.camera is None else self.camera)
        if not self._capture.isOpened():
            if self.camera is not None:
                raise UserError(f"{self.name} is not there, or another program has it: name another, such as camera:0")
            raise UserError(f"{self.name} cannot be opened: it is no video, is cut off, or OpenCV lacks its codec")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0 < rate < 1000 else _USUAL_RATE
        """frames a second"""
        count = float(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if self.camera is None else 0.0
        self.promised = int(count) if 0 < count < 1e9 else 0
        """how many frames the file says that it has; 0: it does not say"""

    def frames(self, most: int | None = None) -> Iterator[Frame]:
        """The frames in order, at most so many. A `UserError` follows the last one where a file ends early."""
        number, began = 0, time.monotonic()
        while most is None or number < most:
            there, frame = self._capture.read()
            if not there:
                break
            seconds = number / self.rate if self.camera is None else time.monotonic() - began
            colours = cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB
            yield Frame(number, seconds, cv2.cvtColor(frame, colours))
            number += 1
        if not number:
            raise UserError(f"{self.name} gives no frame that can be decoded")
        wanted = self.promised if most is None else min(most, self.promised)
        if number < (1 - _MISSING) * wanted:
            raise UserError(f"{self.name} ends early, after {number} of {self.promised} frames: fetch it again")

    def close(self) -> None:
        """Give the file or the camera back."""
        self._capture.release()


class DrawnVideo:
    """A video file that is written frame by frame, and that stands under its name when it is whole."""

    def __init__(self, path: Path, outputs: Outputs, *, rate: float) -> None:
        """`path` was claimed; `rate` is in frames a second. The first frame says how large the pictures are."""
        self.path, self.rate, self._outputs = path, min(round(rate, 2), _FASTEST), outputs
        self._draft = path.with_name(f".{path.stem}.draft{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._frames = 0
        self._last: np.ndarray | None = None

    def write(self, image: np.ndarray, *, seconds: float | None = None) -> None:
        """One more frame (H, W, 3) uint8 RGB.

        `seconds`: since the first frame, where frames do not come at the video's rate. The frame before is shown until
        then, and a frame that comes too early is passed over.
        """
        if seconds is not None and self._last is not None:
            waited = round(seconds * self.rate) - self._frames
            if waited < 0:
                return
            for _ in range(waited):
                self._append(self._last)
        self._last = self._fitting(image)
        self._append(self._last)

    def _fitting(self, image: np.ndarray) -> np.ndarray:
        """The frame as the writer takes it, which the first one opens."""
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._draft.unlink(missing_ok=True)
            self._size = (image.shape[1], image.shape[0])
            self._writer = cv2.VideoWriter(str(self._draft), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, self._size)
            if not self._writer.isOpened():
                raise UserError(
                    f"{printable(self.path)} cannot be written: look whether its folder can be written into, and "
                    f"whether OpenCV encodes {self._size[0]}x{self._size[1]} px at {self.rate:g} frames a second"
                )
        if (image.shape[1], image.shape[0]) != self._size:  # a stream may change its size on the way
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)

    def _append(self, frame: np.ndarray) -> None:
        assert self._writer is not None
        self._writer.write(frame)
        self._frames += 1

    def close(self) -> None:
        """Put the file under its name. A `UserError` where it is not whole, as on a full disk."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        check = cv2.VideoCapture(str(self._draft))  # OpenCV does not tell of a write that failed
        whole = check.isOpened() and check.get(cv2.CAP_PROP_FRAME_COUNT) >= self._frames
        check.release()
        if not whole:
            self.abandon()
            raise UserError(f"{printable(self.path)} could not be written whole: make room, then try again")
        self._outputs.write(self.path, lambda draft: os.replace(self._draft, draft), one_of_many=True)

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        with suppress(OSError):
            self._draft.unlink()
