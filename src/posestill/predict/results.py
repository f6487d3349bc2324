"""Predictions as a file: a COCO results list, JSON lines or CSV, written as they come."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from posestill.data.coco import coco_lists
from posestill.files import Outputs, finite
from posestill.schema import UserError, printable
from posestill.skeletons import Skeleton
from posestill.types import Size


@dataclass(frozen=True)
class Told:
    """Everybody who was found in a picture or in a frame of a video."""

    name: str
    """of the file, or of the camera"""
    image_id: int
    category_id: int
    size: Size
    """(height, width) of the picture, px"""
    boxes: np.ndarray
    """(N, 4) x y w h image px: where the persons were looked for"""
    box_score: np.ndarray
    """(N,)"""
    poses: np.ndarray
    """(N, K, 3) x y score, image px"""
    score: np.ndarray
    """(N,) how sure the model is of each person"""
    tracks: np.ndarray | None = None
    """(N,) which person of the video each is; None where persons are not followed"""
    frame: int | None = None
    """which frame of the video, counted from 0; None for a picture"""
    seconds: float | None = None
    """when, since the first frame"""


class Results:
    """A file of predictions. Nothing is written before the first picture."""

    streams = True
    """True: what is in the file at any time can be read. False: the file is there when it is whole"""

    def __init__(self, path: Path, outputs: Outputs, skeleton: Skeleton) -> None:
        """`path` was claimed."""
        self.path, self.skeleton, self._outputs = path, skeleton, outputs
        self._target = path if self.streams else path.with_name(f".{path.name}.part")
        self._file: TextIO | None = None
        self._whole = 0
        """bytes up to the last picture that was written whole"""

    def add(self, told: Told) -> None:
        """Write what was found in one picture or frame. A `UserError` where that fails, as on a full disk."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._target.unlink(missing_ok=True)  # never through a link
                self._file = self._target.open("w", encoding="utf-8", newline="")
                self.begin(self._file)
            self.write(self._file, told)
            if self.streams:
                self._file.flush()
                self._whole = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Finish the file."""
        if self._file is None:
            return
        try:
            self.end(self._file)
            self._file.close()
        except OSError as error:
            raise self._failed(error) from None
        self._file = None
        if self.streams:
            self._outputs.remember(self.path)
        else:
            self._outputs.write(self.path, lambda draft: os.replace(self._target, draft), one_of_many=True)

    def abandon(self) -> None:
        """After something went wrong: whole lines are kept, half a list is not."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            if self.streams:
                with suppress(OSError, UserError):
                    os.truncate(self.path, self._whole)
                    self._outputs.remember(self.path)
            else:
                with suppress(OSError):
                    self._target.unlink()
            self._file = None

    def begin(self, file: TextIO) -> None:
        """Write what stands before the first picture."""

    def write(self, file: TextIO, told: Told) -> None:
        """Write what was found in one picture."""
        raise NotImplementedError

    def end(self, file: TextIO) -> None:
        """Write what stands after the last picture."""

    def _failed(self, error: OSError) -> UserError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return UserError(f"{printable(self.path)} could not be written ({reason}): make room, or name another place")


class CocoResults(Results):
    """A COCO results list, an entry a person."""

    streams = False

    def begin(self, file: TextIO) -> None:
        """The list begins."""
        file.write("[")
        self._separator = "\n"

    def write(self, file: TextIO, told: Told) -> None:
        """An entry a person."""
        for row, pose in enumerate(told.poses):
            entry: dict[str, Any] = {
                "image_id": told.image_id,
                "category_id": told.category_id,
                "file_name": told.name,
                **coco_lists(pose.round(3), self.skeleton),
                "score": float(told.score[row]),
            }
            if told.frame is not None:
                entry["frame"] = told.frame
            if told.tracks is not None:
                entry["track_id"] = int(told.tracks[row])
            file.write(self._separator + json.dumps(finite(entry)))
            self._separator = ",\n"

    def end(self, file: TextIO) -> None:
        """The list ends."""
        file.write("\n]\n")


class JsonLines(Results):
    """A JSON object a picture or frame, with everybody in it."""

    def write(self, file: TextIO, told: Told) -> None:
        """One line."""
        about: dict[str, Any] = {"file_name": told.name, "image_id": told.image_id}
        if told.frame is not None:
            about |= {"frame": told.frame, "seconds": round(told.seconds or 0.0, 4)}
        about |= {"height": told.size[0], "width": told.size[1]}
        people = [self._person(told, row) for row in range(len(told.poses))]
        file.write(json.dumps(finite({**about, "people": people})) + "\n")

    def _person(self, told: Told, row: int) -> Mapping[str, Any]:
        keypoints = {
            name: [round(float(x), 2), round(float(y), 2), round(float(score), 4)]
            for name, (x, y, score) in zip(self.skeleton.names, told.poses[row], strict=True)
        }
        return {
            **({} if told.tracks is None else {"track": int(told.tracks[row])}),
            "score": round(float(told.score[row]), 4),
            "box": told.boxes[row].round(2).tolist(),
            "box_score": round(float(told.box_score[row]), 4),
            "keypoints": keypoints,
        }


class CsvTable(Results):
    """A row a person; three columns a keypoint."""

    def begin(self, file: TextIO) -> None:
        """The names of the columns."""
        about = ["file_name", "frame", "seconds", "person", "score", "box_x", "box_y", "box_w", "box_h", "box_score"]
        keypoints = [f"{name}_{what}" for name in self.skeleton.names for what in ("x", "y", "score")]
        csv.writer(file).writerow([*about, *keypoints])

    def write(self, file: TextIO, told: Told) -> None:
        """A row a person."""
        rows = csv.writer(file)
        when: list[Any] = ["", ""] if told.frame is None else [told.frame, round(told.seconds or 0.0, 4)]
        for row, pose in enumerate(told.poses):
            person = row + 1 if told.tracks is None else int(told.tracks[row])
            box = [*told.boxes[row].round(2).tolist(), round(float(told.box_score[row]), 4)]
            numbers = ["" if value != value else value for value in pose.round(3).reshape(-1).tolist()]
            rows.writerow([told.name, *when, person, round(float(told.score[row]), 4), *box, *numbers])


FORMATS: Mapping[str, type[Results]] = {".json": CocoResults, ".jsonl": JsonLines, ".csv": CsvTable}
"""by the suffix of the file"""


def check_format(path: Path) -> None:
    """A `UserError` where no format has the suffix of a file."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"--save-results {printable(path)}: name it .json (a COCO results list), .jsonl (a JSON object a picture) "
            "or .csv (a row a person)"
        )


def open_results(path: Path, outputs: Outputs, skeleton: Skeleton) -> Results:
    """The file of predictions that a suffix asks for; a `UserError` where there is no such format."""
    check_format(path)
    return FORMATS[path.suffix.lower()](path, outputs, skeleton)
