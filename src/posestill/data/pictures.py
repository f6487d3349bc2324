"""Pictures without labels: files in folders, and frames of videos, in an order in which neighbours stand together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posestill.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from posestill.draw import encode_image
from posestill.schema import UserError
from posestill.types import Size

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_QUALITY = 95
"""of the JPEGs that frames are kept as, 1..100"""
_MOST_BYTES = 4 << 30
"""of kept frames, all videos together"""
_MISSING = 0.05
"""a video that has fewer frames than it promises by more than this share ends early; containers count roughly"""
_APART = 2.0
"""seconds after which a frame of a video shows something else"""


@dataclass(frozen=True)
class Picture:
    """One picture, and what it belongs to."""

    path: Path
    """of the file, or of the video"""
    size: Size
    """(height, width) as it is decoded, turned as EXIF says"""
    frame: int | None = None
    """which frame of the video, counted from 0; None: a file of its own"""
    apart: int = 1
    """how many pictures further on in its group something else is shown"""

    @property
    def group(self) -> str:
        """The folder that a file lies in, or the video that a frame is of: pictures of one group may be alike."""
        return str(self.path.parent if self.frame is None else self.path)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path.name if self.frame is None else f"{self.path.name}, frame {self.frame}"


class Pictures:
    """The pictures of some folders, files and videos, numbered from 1. Frames are held in memory, as JPEGs."""

    def __init__(self, paths: Sequence[Path], *, frame_step: int = 10) -> None:
        """`frame_step`: of a video every so many-th frame. A `UserError` names what holds no picture or is broken."""
        self.all: list[Picture] = []
        self.unreadable: list[Path] = []
        """files that are no whole pictures; they are left out"""
        self._frames: dict[tuple[Path, int], bytes] = {}
        for file in dict.fromkeys(_files(paths)):
            if file.suffix.lower() in VIDEO_SUFFIXES:
                self._read_video(file, frame_step)
                continue
            try:
                self.all.append(Picture(file, image_size(file)))
            except UserError:
                self.unreadable.append(file)
        if not self.all:
            raise UserError(
                f"none of the {len(self.unreadable)} pictures can be decoded, {self.unreadable[0]} first: fetch them "
                "again"
            )

    def __len__(self) -> int:
        return len(self.all)

    def read(self, position: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the picture at a position (from 0)."""
        picture = self.all[position]
        if picture.frame is None:
            return read_image(picture.path)
        frame = np.frombuffer(self._frames[picture.path, picture.frame], dtype=np.uint8)
        decoded = cv2.imdecode(frame, cv2.IMREAD_COLOR_RGB)
        assert decoded is not None  # it was encoded here
        return decoded

    def encoded(self, position: int) -> bytes | None:
        """The JPEG bytes that a frame of a video is kept as; None for a picture that is a file."""
        picture = self.all[position]
        return None if picture.frame is None else self._frames[picture.path, picture.frame]

    def _read_video(self, path: Path, step: int) -> None:
        capture = cv2.VideoCapture(str(path))
        if not capture.isOpened():
            raise UserError(f"video {path} cannot be opened: it may be cut off, or OpenCV lacks its codec")
        promised, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        apart = max(1, math.ceil(_APART * (rate if 0 < rate < 1000 else 30.0) / step))
        count = 0
        while capture.grab():  # decoding only what is kept is faster, and seeking would be slower
            if count % step == 0:
                there, frame = capture.retrieve()
                if not there:
                    break
                self._keep(path, count, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), apart)
            count += 1
        capture.release()
        if promised > 0 and count < (1 - _MISSING) * promised:
            raise UserError(
                f"video {path} ends early, after {count} of {promised:.0f} frames: fetch it again, or cut it anew"
            )
        if not count:
            raise UserError(f"video {path} holds no frame that can be decoded: fetch it again")

    def _keep(self, path: Path, number: int, frame: np.ndarray, apart: int) -> None:
        self._frames[path, number] = encode_image(frame, quality=_QUALITY)
        self.all.append(Picture(path, (frame.shape[0], frame.shape[1]), number, apart))
        if len(self._frames) % 100 == 0 and sum(map(len, self._frames.values())) > _MOST_BYTES:
            raise UserError(
                f"the frames of {path} take more than {_MOST_BYTES >> 30} GiB of memory: raise frame_step, or write "
                "them into a folder of pictures"
            )


@dataclass(frozen=True)
class Split:
    """Which pictures are trained on and which are held out."""

    train: np.ndarray
    """positions"""
    held_out: np.ndarray
    """positions"""
    how: str
    """in words, for the log"""


def hold_out(pictures: Sequence[Picture], share: float) -> Split:
    """Hold about `share` of some pictures out, so that none of them is a neighbour of one that is trained on.

    Whole folders or videos where there are several that come to about that share, the last ones first; else the last
    pictures, after a gap of some that are used for nothing.
    """
    count = len(pictures)
    wanted = max(1, round(share * count))
    groups: dict[str, list[int]] = {}
    for position, picture in enumerate(pictures):
        groups.setdefault(picture.group, []).append(position)
    chosen: list[str] = []
    for group in reversed(groups):
        taken = sum(len(groups[each]) for each in chosen)
        if taken < wanted and taken + len(groups[group]) <= 2 * wanted:
            chosen.insert(0, group)
    held = [position for group in chosen for position in groups[group]]
    if len(held) >= wanted / 2 and len(chosen) < len(groups):
        what = f"{_some([Path(group).name for group in chosen])} ({len(held)} of {count} pictures)"
        kept = np.setdiff1d(np.arange(count), held)
        return Split(kept, np.array(sorted(held)), f"held out: whole folders or videos, {what}")
    first = count - wanted
    gap = max(math.ceil(wanted / 10), pictures[first].apart)
    if first - gap < 1:
        raise UserError(
            f"{count} pictures with people are too few to hold some out ({wanted}, after a gap of {gap}): give more "
            "pictures, a smaller frame_step of a video, or data.val with labels"
        )
    how = (
        f"held out: the last {wanted} of {count} pictures in the order of their names, from {pictures[first].name} on; "
        f"a gap of {gap} before them is used for nothing, as neighbours may be alike"
    )
    return Split(np.arange(first - gap), np.arange(first, count), how)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Every picture and video, those of one folder together and in the order of the numbers in their names."""
    for path in paths:
        if path.is_dir():
            inside = [each for each in path.rglob("*") if _is_wanted(each, path)]
            if not inside:
                kinds = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
                raise UserError(f"folder {path} holds no pictures, nor do the folders in it ({kinds})")
            yield from sorted(inside, key=_by_number)
        elif path.is_file():
            if path.suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
                raise UserError(f"{path} is neither a folder nor a picture nor a video, by its name")
            yield path
        else:
            raise UserError(f"no folder, picture or video {path}: correct the path")


def _is_wanted(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and path.is_file()


def _by_number(path: Path) -> tuple[object, ...]:
    """frame_2 before frame_10: neighbours in time stand beside one another, however the numbers are written."""
    parts = (str(path.parent), path.name)
    return tuple(
        tuple((int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"([0-9]+)", part) if word)
        for part in parts
    )


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
