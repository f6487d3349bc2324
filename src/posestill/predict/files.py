"""Poses of the persons in image files: drawn, and as a COCO results list."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from posestill.data.boxes import BoxFile
from posestill.data.coco import coco_lists
from posestill.data.image_files import IMAGE_SUFFIXES, read_image
from posestill.draw import draw_poses, image_writer
from posestill.engine.log import RunLog
from posestill.evaluation.evaluate import person_score
from posestill.files import Outputs, distinct
from posestill.models.threads import try_threads
from posestill.predict.predictor import Predictor
from posestill.schema import UserError, printable

PREDICTIONS = "predictions.json"
_NAMED = 5
"""so many kinds of other files are named, and the rest of them counted"""


@dataclass(frozen=True)
class Wanted:
    """One image to predict, and the persons in it."""

    path: Path
    image_id: int
    boxes: np.ndarray | None = None
    """(N, 4) x y w h image px; None: the whole frame is one person"""
    category_id: int = 1
    name: str = ""
    """what the predictions call it: its path within the folder that was given; empty: its file's name"""

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.path)


@dataclass(frozen=True)
class Predicted:
    """What came of some images."""

    people: int
    images: int
    """that were read"""
    unreadable: tuple[str, ...]
    """what is wrong with the others, a line each"""


@dataclass(frozen=True)
class Found:
    """Pictures in files and folders, in order."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    """what predictions call them; no two are alike"""
    others: tuple[Path, ...]
    """files in these folders that are no pictures, by their names"""

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
    """The images of some files and folders, which are read with all folders in them, with their boxes.

    `boxes` is a COCO annotation file (its boxes and image ids are taken), COCO detections, or a JSON of {file name:
    [[x, y, w, h], ...]}; pictures that it does not name are left out, and so are boxes scored below `threshold`. Where
    detections name pictures by numbers alone, `annotations`, a COCO file, says what these are called. What lies in
    `out`, where drawings go, is no picture to look at.
    """
    found = find_pictures([Path(path) for path in paths], without=out)
    if boxes is None:
        return [
            Wanted(path, number, name=name)
            for number, (path, name) in enumerate(zip(found.files, found.names, strict=True), start=1)
        ], found
    known = BoxFile(boxes, threshold=threshold, annotations=annotations)
    return [
        Wanted(path, each.image_id, each.boxes, known.category_id, name)
        for path, name, each in zip(found.files, found.names, known.match(found.files), strict=True)
        if each is not None
    ], found


def find_pictures(paths: Sequence[Path], *, without: Path | None = None) -> Found:
    """The pictures of some files and folders; folders in them are read, too, hidden ones and `without` are not."""
    places: dict[Path, tuple[Path, PurePath]] = {}  # where a file really is -> as it was given, and its name
    others: list[Path] = []
    for path in paths:
        if os.path.isdir(path):  # False, too, for what no file can be called
            inside = _inside(path, without)
            pictures = [each for each in inside if each.suffix.lower() in IMAGE_SUFFIXES]
            others += [each for each in inside if each.suffix.lower() not in IMAGE_SUFFIXES]
            if not pictures:
                raise UserError(
                    f"folder {printable(path)} holds no images, nor do the folders in it "
                    f"({', '.join(sorted(IMAGE_SUFFIXES))})"
                )
            for each in pictures:
                places.setdefault(_real(each), (each, each.relative_to(path)))
        elif os.path.isfile(path):
            places.setdefault(_real(path), (path, PurePath(path.name)))
        else:
            raise UserError(f"no image or folder {printable(path, most=200)}")
    files = [path for path, _ in places.values()]
    return Found(tuple(files), tuple(_names([name for _, name in places.values()], files)), tuple(others))


def drawings(names: Sequence[str]) -> list[str]:
    """Under which name each picture is drawn: its own as a PNG, with its suffix where two would have the same one."""
    plain = [str(PurePath(name).with_suffix(".png")) for name in names]
    times = Counter(each.casefold() for each in plain)
    whole = [each if times[each.casefold()] == 1 else f"{name}.png" for name, each in zip(names, plain, strict=True)]
    return distinct(whole)


def predict_files(
    predictor: Predictor,
    wanted: Sequence[Wanted],
    *,
    out: Path,
    threshold: float = 0.2,
    draw: bool = True,
    outputs: Outputs | None = None,
) -> Predicted:
    """Write drawn images and `predictions.json`, a COCO results list with file names.

    An image that cannot be read is passed over; where that is all of them, a `UserError` names the first. Nothing is
    written before all names in `out` are known to be free, which `outputs` decides.
    """
    outputs = outputs or Outputs("predict", read=[each.path for each in wanted])
    names = [each.name or each.path.name for each in wanted]
    listing = outputs.claim(out / PREDICTIONS, "--out")
    places = [outputs.claim(out / name, "--out") for name in drawings(names)] if draw else [None] * len(names)
    entries: list[dict[str, object]] = []
    unreadable: list[str] = []
    log = RunLog(None)
    if predictor.device.type == "cpu":
        blank = np.zeros((*predictor.model.config.size, 3), dtype=np.uint8)
        if (trial := try_threads(lambda: predictor(blank))) is not None:
            log.say(f"threads: {trial}")
    with log.bar("predicting", len(wanted)) as bar:
        for each, name, place in zip(wanted, names, places, strict=True):
            bar.advance()
            try:
                image = each.read()
            except UserError as error:
                unreadable.append(str(error))
                continue
            poses = predictor(image, each.boxes)
            if place is not None:
                drawn = draw_poses(image, poses, predictor.skeleton, threshold=threshold, boxes=each.boxes)
                outputs.write(place, image_writer(place, drawn), one_of_many=True)
            entries += [
                {
                    "image_id": each.image_id,
                    "category_id": each.category_id,
                    "file_name": name,
                    **coco_lists(pose.round(3), predictor.skeleton),
                    "score": person_score(pose[:, 2], 1.0, rescoring=predictor.model.codec.rescoring),
                }
                for pose in poses
            ]
    if len(unreadable) == len(wanted):
        raise UserError(f"none of the {len(wanted)} images can be read; {unreadable[0]}")
    outputs.write_json(listing, entries, indent=None)
    return Predicted(len(entries), len(wanted) - len(unreadable), tuple(unreadable))


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
