"""A teacher's keypoints of pictures without labels as a COCO file, and a contact sheet to judge them by."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from posestill.cluster.shards import WHOLE, Shard
from posestill.data.images import TEACHERS_ANSWERS, ImagesConfig, ImageSource, with_answer
from posestill.data.pictures import Pictures
from posestill.draw import draw_poses, image_writer
from posestill.engine.log import RunLog
from posestill.engine.pictures import find_people
from posestill.files import WRITTEN, Outputs, finite
from posestill.schema import UserError
from posestill.teachers.answers import Answers, ask_about
from posestill.teachers.base import Teacher

LEAST_SURE_KEYPOINTS = 0.25
"""the share of its keypoints that must be above the threshold, or a person is dropped"""
_COLUMNS = 8
_CELL = (224, 176)
"""(height, width) of a person on the sheet, px"""
_PADDING = 1.1
"""a cell shows the box times this"""
_STRIP = 24
"""px above each row of the sheet, for its name"""
_GREY = 60


@dataclass(frozen=True)
class Labelled:
    """What was written."""

    people: int
    pictures: int
    dropped: int
    """people of whom the teacher is sure of too few keypoints"""
    confidence: float
    """mean of the people that were kept"""
    unreadable: tuple[str, ...]
    """what is wrong with pictures that were passed over, a line each"""
    images: Path
    """the folder that the file's names are relative to"""
    sheet: Path


@dataclass(frozen=True)
class _Pose:
    """One person with the teacher's answer."""

    row: int
    confidence: float
    agreement: float
    sure: int
    """keypoints above the threshold"""


def sheet_path(out: Path) -> Path:
    """Where the contact sheet of a file of labels goes: beside it, under its name."""
    return out.with_suffix(".png")


def label_pictures(
    given: ImagesConfig,
    teacher: Teacher,
    out: Path,
    *,
    threshold: float = 0.3,
    log: RunLog,
    device: torch.device | None = None,
    overwrite: bool = False,
) -> Labelled:
    """Write the teacher's keypoints of all people in some pictures to `out`, which `CocoSource` reads, and a sheet.

    Keypoints of a confidence above `threshold` have visibility 2, others 0. A `UserError` where something is there that
    posestill did not write (unless `overwrite`), or where the teacher is sure of nobody.
    """
    outputs = claim_outputs(given, out, overwrite=overwrite)
    return write_labels(ask(given, teacher, log=log, device=device), out, outputs, threshold=threshold)


@dataclass(frozen=True)
class Asked:
    """What a teacher said of the people of some pictures."""

    source: ImageSource
    answers: Answers
    """of the source's people"""
    passed: Mapping[int, str]
    """what is wrong with pictures that could not be read, by their ids"""
    lineage: Mapping[str, Any]
    """of the teacher"""


def claim_outputs(given: ImagesConfig, out: Path, *, overwrite: bool) -> Outputs:
    """What may write the labels, their sheet and the frames of videos; a `UserError` where the user's files are."""
    outputs = Outputs("label", overwrite=overwrite, read=(*given.folder, given.boxes, given.detector))
    outputs.claim(out, "--out")
    outputs.claim(sheet_path(out), "the contact sheet of --out,")
    frames = frames_folder(out)
    for path in sorted(frames.iterdir()) if frames.is_dir() else [frames]:
        if path.name != WRITTEN:
            outputs.claim(path, "the frames of --out,")
    return outputs


def ask(
    given: ImagesConfig, teacher: Teacher, *, log: RunLog, device: torch.device | None = None, shard: Shard = WHOLE
) -> Asked:
    """Find the people of some pictures, or of a shard of them, and ask the teacher about them."""
    source = find_people(given, teacher.skeleton, log=log, shard=shard)
    if len({each.frame is None for each in source.pictures.all}) == 2:
        raise UserError("label: videos and pictures lie in different folders, which one file cannot name: label each")
    passed: dict[int, str] = {}
    with log.bar("asking the teacher", len(source.people)) as bar:
        answers = ask_about(teacher, source, device=device, progress=bar.advance, say=log.say, passed_over=passed)
    return Asked(source, answers, passed, teacher.lineage)


def write_labels(asked: Asked, out: Path, outputs: Outputs, *, threshold: float) -> Labelled:
    """Write a teacher's answers as a COCO file, and the sheet; a `UserError` where it is sure of nobody."""
    source, answers, passed, pictures = asked.source, asked.answers, asked.passed, asked.source.pictures
    unread = {
        position + 1
        for position, each in enumerate(pictures.all)
        if each.frame is None and each.path in pictures.unreadable
    }
    poses = [each for each in _poses(source, answers, threshold) if source.people[each.row].image_id not in passed]
    wanted = LEAST_SURE_KEYPOINTS * len(source.skeleton)
    kept = [each for each in poses if each.sure >= wanted]
    dropped = [each for each in poses if each.sure < wanted]
    if not kept:
        raise UserError(
            f"the teacher is sure of nobody among {len(poses)} people (a quarter of the keypoints above {threshold}): "
            "look whether the boxes and the teacher's layout are right, or lower --threshold"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    folder, names = _named(pictures, out, outputs)
    content = _content(source, answers, kept, names, threshold, asked.lineage, without={*passed, *unread})
    outputs.write_json(out, content, indent=None)
    sheet = sheet_path(out)
    outputs.write(sheet, image_writer(sheet, _sheet(source, answers, kept, dropped, threshold)))
    return Labelled(
        people=len(kept),
        pictures=len(pictures) - len({*passed, *unread}),
        dropped=len(dropped),
        confidence=float(np.mean([each.confidence for each in kept])),
        unreadable=(*(f"{path} cannot be read" for path in pictures.unreadable), *passed.values()),
        images=folder,
        sheet=sheet,
    )


def frames_folder(out: Path) -> Path:
    """Where the frames of videos are written, as a COCO file names pictures."""
    return out.with_name(f"{out.stem}-frames")


def _put(content: bytes, draft: Path) -> None:
    draft.write_bytes(content)


def _poses(source: ImageSource, answers: Answers, threshold: float) -> list[_Pose]:
    agreement = answers.agreement(source.people, skeleton=source.skeleton, threshold=threshold)
    confidence = answers.keypoints[..., 2]  # (N, K)
    told = zip(confidence.mean(axis=1).tolist(), agreement.tolist(), (confidence > threshold).sum(axis=1), strict=True)
    return [_Pose(row, mean, agreed, int(sure)) for row, (mean, agreed, sure) in enumerate(told)]


def _named(pictures: Pictures, out: Path, outputs: Outputs) -> tuple[Path, list[str]]:
    """The folder of the pictures and their names in it; frames of videos are written to one first."""
    if pictures.all[0].frame is None:
        folder = Path(os.path.commonpath([each.path.parent.resolve() for each in pictures.all]))
        return folder, [(each.path.parent.resolve() / each.path.name).relative_to(folder).as_posix()
                        for each in pictures.all]  # fmt: skip
    folder, names = frames_folder(out), []
    videos = list(dict.fromkeys(each.path for each in pictures.all))
    for position, each in enumerate(pictures.all):
        prefix = f"{videos.index(each.path)}-" if len(videos) > 1 else ""
        names.append(f"{prefix}{each.path.stem}-{each.frame:06d}.jpg")
        encoded = pictures.encoded(position)
        assert encoded is not None  # all are frames
        path = outputs.claim(folder / names[-1], "the frames of --out,")
        outputs.write(path, partial(_put, encoded), one_of_many=True)
    return folder, names


def _content(
    source: ImageSource,
    answers: Answers,
    kept: Sequence[_Pose],
    names: Sequence[str],
    threshold: float,
    lineage: Mapping[str, Any],
    *,
    without: Collection[int],
) -> dict[str, Any]:
    """The COCO file: whose answers these are, images, annotations with two more fields, and the one category."""
    skeleton = source.skeleton
    annotations = []
    for number, pose in enumerate(kept, start=1):
        person = with_answer(source.people[pose.row], answers.keypoints[pose.row], threshold=threshold)
        assert person.keypoints is not None
        annotations.append(
            {
                "id": number,
                "image_id": person.image_id,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": person.bbox.round(2).tolist(),
                "area": round(person.area, 2),
                "keypoints": person.keypoints.round(2).reshape(-1).tolist(),
                "num_keypoints": pose.sure,
                "confidence": round(pose.confidence, 4),
                **({} if pose.agreement != pose.agreement else {"agreement": round(pose.agreement, 4)}),
            }
        )
    return {
        "info": {
            "description": "keypoints that a network named, not people: written by posestill label",
            "truth": TEACHERS_ANSWERS,
            "teacher": finite(lineage),
        },
        "images": [
            {"id": position + 1, "file_name": name, "height": each.size[0], "width": each.size[1]}
            for position, (name, each) in enumerate(zip(names, source.pictures.all, strict=True))
            if position + 1 not in without
        ],
        "annotations": annotations,
        "categories": [
            {
                "id": 1,
                "name": "person",
                "keypoints": list(skeleton.names),
                "skeleton": [[start + 1, end + 1] for start, end in skeleton.edges],
                **skeleton.as_metainfo(),
            }
        ],
    }


def _sheet(
    source: ImageSource, answers: Answers, kept: Sequence[_Pose], dropped: Sequence[_Pose], threshold: float
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the surest, the least sure and the dropped people, a row each."""
    by_confidence = sorted(kept, key=lambda each: -each.confidence)
    least = list(reversed(by_confidence[_COLUMNS:]))[:_COLUMNS]
    lost = sorted(dropped, key=lambda each: -each.confidence)
    spread = [lost[at] for at in np.linspace(0, len(lost) - 1, min(_COLUMNS, len(lost))).round().astype(int)]
    numbers = "mean confidence / agreement with its answer on the mirrored crop"
    rows = {
        f"the surest of {len(kept)} people ({numbers})": (by_confidence[:_COLUMNS], threshold),
        f"the least sure of {len(kept)}": (least, threshold),
        f"{len(dropped)} dropped, with whatever the teacher said": (spread, 0.0),
    }
    parts = []
    for name, (poses, least_score) in rows.items():
        strip = np.full((_STRIP, _COLUMNS * _CELL[1], 3), 255, dtype=np.uint8)
        cv2.putText(strip, name, (6, _STRIP - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        cells = [_cell(source, answers, each, least_score) for each in poses]
        cells += [np.full((*_CELL, 3), 255, dtype=np.uint8)] * (_COLUMNS - len(cells))
        parts += [strip, np.concatenate(cells, axis=1)]
    return np.concatenate(parts, axis=0)


def _cell(source: ImageSource, answers: Answers, pose: _Pose, threshold: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB of one person, with the teacher's mean confidence and its agreement with itself."""
    person, points = source.people[pose.row], answers.keypoints[pose.row].copy()
    height, width = _CELL
    box = person.bbox
    scale = float(min(width / (box[2] * _PADDING), height / (box[3] * _PADDING)))
    offset = np.array([width, height]) / 2 - scale * (box[:2] + box[2:] / 2)
    affine = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    image = source.image(person.image_id)
    crop = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_AREA, borderValue=(_GREY,) * 3)
    points[:, :2] = points[:, :2] * scale + offset
    drawn = draw_poses(crop, points[None], source.skeleton, threshold=threshold)
    text = f"{pose.confidence:.2f}" + ("" if pose.agreement != pose.agreement else f" / {pose.agreement:.2f}")
    for colour, shift in (((0, 0, 0), 1), ((255, 255, 255), 0)):  # a shadow, so that it can be read on any colour
        place = (4 + shift, height - 6 + shift)
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return drawn
