"""From images and boxes to poses: the crop, decoding and inverse affine are those that evaluation used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import posestill.catalog  # noqa: F401  (fills the tables that a saved model's parts are looked up in)
from posestill.data.coco import CocoSource, coco_lists, read_image, read_json
from posestill.data.source import PoseSource
from posestill.data.topdown import warp
from posestill.draw import draw_poses, write_image
from posestill.engine.evaluate import EvaluateConfig, Worker, as_coco_results, evaluate_model, person_score
from posestill.engine.log import RunLog
from posestill.geometry import affine_to_input, crop_of_bbox, invert_affine, transform_points
from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError, reading, validate
from posestill.skeletons import Skeleton

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def load(folder: str | Path) -> PoseModel:
    """The model of a folder that a run wrote (`runs/NAME/best`), in eval mode."""
    return PoseModel.load(Path(folder))


def choose_device(name: str) -> torch.device:
    """The device of a name such as cpu or cuda:1; `auto` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


class Predictor:
    """Poses of the persons in an image.

    >>> predictor = Predictor("runs/student/best")                              # doctest: +SKIP
    >>> poses = predictor(image, boxes=[[120, 40, 80, 210]])  # (N, K, 3)       # doctest: +SKIP
    """

    def __init__(self, model: str | Path | PoseModel, *, flip_test: bool = False, device: str = "auto") -> None:
        """`model` is a folder or a loaded model, of which a faster copy is used (batch norms folded away); `flip_test`
        averages with the mirrored crop (twice the time).
        """
        self.device = choose_device(device)
        self.model = folded(model if isinstance(model, PoseModel) else load(model)).to(self.device)
        self.flip_test = flip_test

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of the answer, in order."""
        return self.model.skeleton

    def __call__(self, image: np.ndarray, boxes: Sequence[Sequence[float]] | np.ndarray | None = None) -> np.ndarray:
        """(N, K, 3) x y score in image px for an (H, W, 3) uint8 RGB image.

        `boxes` are (N, 4) x y w h in image px, one a person; None takes the whole image as one.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f"an (H, W, 3) uint8 RGB image is wanted, given {image.shape} {image.dtype}")
        if boxes is None:
            boxes = [[0, 0, image.shape[1], image.shape[0]]]
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        if not len(boxes):
            return np.zeros((0, len(self.skeleton), 3))
        size = self.model.config.size
        affines = [affine_to_input(crop_of_bbox(box, size), size) for box in boxes]
        crops = np.stack([warp(image, affine, size) for affine in affines])  # (N, H, W, 3)
        batch = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().to(self.device)
        found = self.model.predict(batch, flip_test=self.flip_test)
        xy = found.xy.cpu().double().numpy()
        places = [transform_points(points, invert_affine(affine)) for points, affine in zip(xy, affines, strict=True)]
        return np.concatenate([np.stack(places), found.score.cpu().double().numpy()[..., None]], axis=-1)


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

    `boxes` is a COCO annotation file (its boxes and image ids are taken), or a JSON
    of {file name: [[x, y, w, h], ...]}.
    """
    files = list(_image_files(paths))
    stems = [path.stem for path in files]
    if doubles := {stem for stem in stems if stems.count(stem) > 1}:
        raise UserError(f"several images are called {min(doubles)}: their results would overwrite each other")
    if boxes is None:
        return [Wanted(path, number) for number, path in enumerate(files, start=1)]
    content = read_json(boxes, what="file of boxes")
    known: dict[str, tuple[int, list[list[float]]]] = {}
    category_id = 1
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):
        source = CocoSource(boxes, images=None)
        category_id = source.category_id
        of_image: dict[int, list[list[float]]] = {}
        for person in source.people:
            if not person.crowd:
                of_image.setdefault(person.image_id, []).append(person.bbox.tolist())
        known = {Path(name).name: (number, of_image.get(number, [])) for number, name in source.file_names.items()}
    elif isinstance(content, dict):
        known = {Path(name).name: (number, each) for number, (name, each) in enumerate(content.items(), start=1)}
    else:
        raise UserError(f"{boxes} is neither a COCO annotation file nor {{file name: [[x, y, w, h], ...]}}")
    with reading(f"the boxes in {boxes}"):
        wanted = [
            Wanted(path, known[path.name][0], np.array(known[path.name][1], dtype=float).reshape(-1, 4), category_id)
            for path in files
            if path.name in known
        ]
    if any(each.boxes is not None and not np.isfinite(each.boxes).all() for each in wanted):
        raise UserError(f"{boxes} has boxes that are not finite numbers")
    if not wanted:
        raise UserError(f"{boxes} names none of the {len(files)} images (the first image: {files[0].name})")
    return wanted


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
    (out / "predictions.json").write_text(json.dumps(entries))
    return len(entries)


def evaluation_settings(
    recipe: EvaluateConfig | None,
    *,
    flip_test: bool | None = None,
    batch_size: int | None = None,
    boxes: Path | None = None,
    box_threshold: float | None = None,
    oks_nms: float | None = None,
    rescoring: str | None = None,
) -> EvaluateConfig:
    """A recipe's settings of evaluation (or the defaults), replaced by those that are given; `oks_nms` 0: none."""
    settings = (recipe or EvaluateConfig()).model_dump()
    given = {
        "flip_test": flip_test,
        "batch_size": batch_size,
        "boxes": boxes,
        "box_threshold": box_threshold,
        "rescoring": rescoring,
        "oks_nms": oks_nms,
    }
    settings.update({name: value for name, value in given.items() if value is not None})
    settings["oks_nms"] = settings["oks_nms"] or None
    return validate(EvaluateConfig, settings, where="evaluate")


def evaluate_folder(
    model: Path,
    source: PoseSource,
    settings: EvaluateConfig,
    *,
    workers: int = 0,
    device: str = "auto",
    save_results: Path | None = None,
) -> dict[str, Any]:
    """The figures of a model folder on a source, with their conditions; the predictions go to `save_results`."""
    loaded = load(model)
    names, wanted = loaded.skeleton.names, source.skeleton.names
    if names != wanted:
        raise UserError(
            f"the model has {len(names)} keypoints ({', '.join(names[:3])}, ...) and the data {len(wanted)} "
            f"({', '.join(wanted[:3])}, ...): they must be the same"
        )
    place = choose_device(device)
    with RunLog(None).bar("evaluating", len(source.people)) as bar:
        worker = Worker(device=place, loaders=workers, progress=bar.advance)
        evaluation = evaluate_model(loaded.to(place), source, settings, worker)
    if save_results is not None:
        category_id = getattr(source, "category_id", 1)
        save_results.write_text(json.dumps(as_coco_results(evaluation.poses, source.skeleton, category_id=category_id)))
    return evaluation.as_json()
