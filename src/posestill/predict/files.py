"""Poses of the persons in image files: drawn, and as a COCO results list."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posestill.data.boxes import BoxFile
from posestill.data.coco import coco_lists, read_image
from posestill.data.image_files import IMAGE_SUFFIXES
from posestill.draw import draw_poses, write_image
from posestill.engine.log import RunLog
from posestill.evaluation.evaluate import person_score
from posestill.files import finite
from posestill.models.threads import try_threads
from posestill.predict.predictor import Predictor
from posestill.schema import UserError


@dataclass(frozen=True)
class Wanted:
    """One image to predict, and the persons in it."""

    path: Path
    image_id: int
    boxes: np.ndarray | None = None
    """(N, 4) x y w h image px; None: the whole frame is one person"""
    category_id: int = 1

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.path)


def find_images(paths: Sequence[Path], boxes: Path | None = None) -> list[Wanted]:
    """The images of some files and folders, with their boxes.

    `boxes` is a COCO annotation file (its boxes and image ids are taken), COCO detections, or a JSON of {file name:
    [[x, y, w, h], ...]}; pictures that it does not name are left out.
    """
    files = list(_image_files(paths))
    stems = [path.stem for path in files]
    if doubles := {stem for stem in stems if stems.count(stem) > 1}:
        raise UserError(f"several images are called {min(doubles)}: their results would overwrite each other")
    if boxes is None:
        return [Wanted(path, number) for number, path in enumerate(files, start=1)]
    known = BoxFile(boxes)
    return [
        Wanted(path, each.image_id, each.boxes, known.category_id)
        for path, each in zip(files, known.match(files), strict=True)
        if each is not None
    ]


def _image_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UserError(f"folder {path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise UserError(f"no image or folder {path}")


def predict_files(
    predictor: Predictor, wanted: Sequence[Wanted], *, out: Path, threshold: float = 0.2, draw: bool = True
) -> int:
    """Write drawn images and `predictions.json`, a COCO results list with file names; returns how many persons."""
    out.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    log = RunLog(None)
    if predictor.device.type == "cpu":
        blank = np.zeros((*predictor.model.config.size, 3), dtype=np.uint8)
        try_threads(lambda: predictor(blank))
    with log.bar("predicting", len(wanted)) as bar:
        for each in wanted:
            image = each.read()
            poses = predictor(image, each.boxes)
            if draw:
                drawn = draw_poses(image, poses, predictor.skeleton, threshold=threshold, boxes=each.boxes)
                write_image(out / f"{each.path.stem}.png", drawn)
            entries += [
                {
                    "image_id": each.image_id,
                    "category_id": each.category_id,
                    "file_name": each.path.name,
                    **coco_lists(pose.round(3), predictor.skeleton),
                    "score": person_score(pose[:, 2], 1.0, rescoring=predictor.model.codec.rescoring),
                }
                for pose in poses
            ]
            bar.advance()
    (out / "predictions.json").write_text(json.dumps(finite(entries), allow_nan=False))
    return len(entries)
