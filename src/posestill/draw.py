"""Poses onto an image: a person's left side warm, the right side cool, the middle light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from posestill.files import write_quickly
from posestill.keypoints.names import read_name
from posestill.schema import UserError, printable
from posestill.skeletons import Skeleton

LEFT, RIGHT, MIDDLE = (255, 140, 40), (60, 160, 255), (235, 235, 235)
"""RGB"""
_SLENDER = 40
"""a person is at least so many times longer than its lines are thick"""
_MANY = 30
"""keypoints beyond which they lie so close together that thinner lines are needed"""


def draw_poses(
    image: np.ndarray,
    keypoints: np.ndarray,
    skeleton: Skeleton,
    *,
    threshold: float = 0.2,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """A copy of an (H, W, 3) uint8 RGB image with poses (N, K, 3) x y score on it.

    Keypoints scored below `threshold` are left out. `boxes` (N, 4) x y w h are outlined when given. Sides go by the
    names of the keypoints, in whatever usual style; a skeleton without edges is drawn as dots.
    """
    canvas = np.array(image, order="C")
    thickest = max(1, round(max(image.shape[:2]) / 120))
    for x, y, width, height in () if boxes is None else np.clip(boxes, -1e5, 1e5):
        corner, far = (round(float(x)), round(float(y))), (round(float(x + width)), round(float(y + height)))
        cv2.rectangle(canvas, corner, far, MIDDLE, max(1, thickest // 2), cv2.LINE_AA)
    colours = keypoint_colours(skeleton)
    for person in keypoints:
        shown = (person[:, 2] >= threshold) & np.isfinite(person[:, :2]).all(axis=1)
        size = min(thickest, _thickness(person[shown, :2], len(skeleton)))
        places = [(round(float(x)), round(float(y))) for x, y in np.nan_to_num(person[:, :2]).clip(-1e5, 1e5)]
        for start, end in skeleton.edges:
            if shown[start] and shown[end]:
                colour = colours[start] if colours[start] == colours[end] else MIDDLE
                cv2.line(canvas, places[start], places[end], colour, size, cv2.LINE_AA)
        for index, place in enumerate(places):
            if shown[index]:
                cv2.circle(canvas, place, size + 1, (20, 20, 20), -1, cv2.LINE_AA)
                cv2.circle(canvas, place, size, colours[index], -1, cv2.LINE_AA)
    return canvas


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB image; the suffix tells the format. A `UserError` where that fails."""
    write_quickly(path, image_writer(path, image))


def image_writer(path: Path, image: np.ndarray) -> Callable[[Path], int]:
    """What writes an (H, W, 3) uint8 RGB image, in the format of `path`, to the draft that it is given."""
    try:
        encoded, content = cv2.imencode(path.suffix.lower(), image[:, :, ::-1])
    except cv2.error:
        encoded = False
    if not encoded:
        raise UserError(f"{printable(path)} cannot be written: OpenCV makes no such picture; name it .png or .jpg")
    return lambda draft: draft.write_bytes(content.tobytes())


def encode_image(image: np.ndarray, *, quality: int = 88) -> bytes:
    """The JPEG bytes of an (H, W, 3) uint8 RGB image."""
    return bytes(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def keypoint_colours(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """The RGB colour that each keypoint is drawn in: that of its side."""
    return [_side(name) for name in skeleton.names]


def _thickness(shown: np.ndarray, count: int) -> int:
    """How thick (px) a person is drawn whose sure keypoints (N, 2) are given, of `count` in all."""
    extent = float(np.ptp(shown, axis=0).max()) if len(shown) else 0.0
    return max(1, round(extent / (_SLENDER if count <= _MANY else 2.5 * _SLENDER)))


def _side(name: str) -> tuple[int, int, int]:
    side = read_name(name).side or ("left" if "left" in name.lower() else "right" if "right" in name.lower() else "")
    return {"left": LEFT, "right": RIGHT}.get(side, MIDDLE)
