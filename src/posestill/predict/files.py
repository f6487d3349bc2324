"""Which pictures, videos and cameras are looked at, and what each is called."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from posestill.data.boxes import BoxFile
from posestill.data.image_files import IMAGE_SUFFIXES, read_image
from posestill.data.pictures import VIDEO_SUFFIXES
from posestill.files import distinct
from posestill.predict.video import DRAWN_SUFFIX, camera_number, is_moving
from posestill.schema import UserError, printable

_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
_NAMED = 5
"""so many kinds of other files are named, and the rest of them counted"""


@dataclass(frozen=True)
class Wanted:
    """One picture, video or camera to predict, and the persons in it."""

    path: Path
    """of a camera `camera:0` and so on"""
    image_id: int
    """of a video 0: its frames are numbered after all pictures"""
    boxes: np.ndarray | None = None
    """(N, 4) x y w h image px; None: nobody has said where persons are"""
    category_id: int = 1
    name: str = ""
    """what the predictions call it: its path within the folder that was given; empty: its file's name"""
    box_score: np.ndarray | None = None
    """(N,) how sure a detector was of each box; None: 1 each"""

    @property
    def called(self) -> str:
        """What the predictions call it."""
        return self.name or self.path.name

    @property
    def is_moving(self) -> bool:
        """True for a video and a camera."""
        return is_moving(self.path)

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.path)


@dataclass(frozen=True)
class Found:
    """Pictures, videos and cameras, in order."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    """what predictions call them; no two are alike"""
    others: tuple[Path, ...]
    """files in these folders that are no pictures, by their names"""
    problems: tuple[str, ...] = ()
    """what was given and cannot be looked at, a line each"""

    def passed_over(self) -> str:
        """What was found beside pictures, in a sentence; empty where nothing was."""
        if not self.others:
            return ""
        kinds = sorted({printable(path.suffix.lower() or path.name) for path in self.others})
        shown = ", ".join(kinds[:_NAMED]) + (", ..." if len(kinds) > _NAMED else "")
        return f"{len(self.others)} other files in these folders are no pictures by their names ({shown})"


def find_images(
    paths: Sequence[Path | str],
    boxes: Path | None = None,
    *,
    annotations: Path | None = None,
    threshold: float = 0.0,
    out: Path | None = None,
) -> tuple[list[Wanted], Found]:
    """What some files, folders, patterns and cameras hold, with the persons' boxes.

    `boxes` is a COCO annotation file (its boxes and image ids are taken), COCO detections, or a JSON of {file name:
    [[x, y, w, h], ...]}; pictures that it does not name are left out, and so are boxes scored below `threshold`. Where
    detections name pictures by numbers alone, `annotations`, a COCO file, says what these are called. What lies in
    `out`, where drawings go, is no picture to look at.
    """
    found = find_pictures([Path(path) for path in paths], without=out)
    named = list(zip(found.files, found.names, strict=True))
    if boxes is None:
        numbers = iter(range(1, len(named) + 1))
        return [Wanted(path, 0 if is_moving(path) else next(numbers), name=name) for path, name in named], found
    moving = [path for path, _ in named if is_moving(path)]
    problems = [
        f"{printable(path)}: --boxes name no frames of a video: give --detector, or write the frames into a folder"
        for path in moving
    ]
    still = [(path, name) for path, name in named if not is_moving(path)]
    if not still:
        raise UserError(problems[0])
    known = BoxFile(boxes, threshold=threshold, annotations=annotations)
    return [
        Wanted(path, each.image_id, each.boxes, known.category_id, name, each.score)
        for (path, name), each in zip(still, known.match([path for path, _ in still]), strict=True)
        if each is not None
    ], replace(found, problems=(*found.problems, *problems))


def find_pictures(paths: Sequence[Path], *, without: Path | None = None) -> Found:
    """The pictures and videos of some files, folders and patterns, and cameras.

    Folders are read with all folders in them; hidden ones and `without` are not. A `UserError` where nothing of it is
    there; what is missing beside others is told in `problems`.
    """
    places: dict[Path, tuple[Path, PurePath]] = {}  # where a file really is -> as it was given, and its name
    others: list[Path] = []
    problems: list[str] = []
    for path in paths:
        given = _matching(path, without)
        if not given:
            problems.append(f"no image or folder {printable(path, most=200)}")
        for each in given:
            if camera_number(each) is not None:
                places.setdefault(each, (each, PurePath(str(each).replace(":", "-"))))
            elif os.path.isdir(each):
                inside = _inside(each, without)
                others += [file for file in inside if file.suffix.lower() not in _SUFFIXES]
                files = [file for file in inside if file.suffix.lower() in _SUFFIXES]
                for file in files:
                    places.setdefault(_real(file), (file, file.relative_to(each)))
                if not files:
                    problems.append(
                        f"folder {printable(each)} holds no images and no videos, nor do the folders in it "
                        f"({', '.join(sorted(_SUFFIXES))})"
                    )
            else:
                places.setdefault(_real(each), (each, PurePath(each.name)))
    if not places:
        raise UserError(problems[0])
    files = [path for path, _ in places.values()]
    names = _names([name for _, name in places.values()], files)
    return Found(tuple(files), tuple(names), tuple(others), tuple(problems))


def _matching(path: Path, without: Path | None) -> list[Path]:
    """The files, folders and cameras that one word of the command line means; none where there is nothing of it.

    A pattern means nothing that is `without` or lies in it.
    """
    if camera_number(path) is not None or os.path.isdir(path) or os.path.isfile(path):  # False for impossible names
        return [path]
    if "\0" in str(path) or not glob.has_magic(str(path)):
        return []
    return [
        Path(each)
        for each in sorted(glob.glob(str(path), recursive=True))
        if (os.path.isfile(each) or os.path.isdir(each))
        and (without is None or _real(without) not in (_real(Path(each)), *_real(Path(each)).parents))
    ]


def drawings(names: Sequence[str], moving: Sequence[bool] | None = None) -> list[str]:
    """Under which name each is drawn: its own as a PNG or, where it is moving, as an MP4.

    Where two would have the same one, they keep their own suffix before it.
    """
    kinds = [DRAWN_SUFFIX if each else ".png" for each in moving or [False] * len(names)]
    plain = [str(PurePath(name).with_suffix(kind)) for name, kind in zip(names, kinds, strict=True)]
    times = Counter(each.casefold() for each in plain)
    whole = [
        each if times[each.casefold()] == 1 else f"{name}{kind}"
        for name, kind, each in zip(names, kinds, plain, strict=True)
    ]
    return distinct(whole)


def _inside(folder: Path, without: Path | None) -> list[Path]:
    """All files in a folder and in the folders in it, in the order of their names."""
    left_out = None if without is None or _real(without) == _real(folder) else _real(without)
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_dir() and (left_out is None or left_out not in _real(path).parents):
            found.append(path)
    return found


def _real(path: Path) -> Path:
    """Where a path leads to in the end; also for links in a ring, which lead nowhere."""
    return Path(os.path.realpath(path))


def _names(names: Sequence[PurePath], files: Sequence[Path]) -> list[str]:
    """A name for each file; those that several would share get the folder before it, or as much as tells them apart."""
    found = [name.as_posix() for name in names]
    for more in range(1, max((len(path.parts) for path in files), default=0)):
        times = Counter(found)
        if len(times) == len(found):
            break
        for place, path in enumerate(files):
            if times[found[place]] > 1:
                parts = [part for part in path.absolute().parts[1:] if part != ".."]
                found[place] = "/".join(parts[-len(names[place].parts) - more :])
    return found
