"""COCO detections: a list of boxes with the image, the category and the score of each, as detectors write them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posestill.documents.fields import (
    MISSING,
    are_shares,
    identity,
    mapping,
    number,
    shown,
    some,
    sound_box,
    whole_number,
)
from posestill.documents.parse import read_json
from posestill.schema import UserError


@dataclass(frozen=True)
class Detection:
    """One box of a file."""

    image_id: int | None
    """None where only the name of the picture is given"""
    file_name: str | None
    bbox: np.ndarray
    """(4,) x y w h, image px; it may enclose nothing"""
    score: float


@dataclass(frozen=True)
class Detections:
    """The boxes of a file that are of the wanted category."""

    found: list[Detection]
    notes: tuple[str, ...]
    """how many were left out, and why"""


def read_detections(
    path: Path, *, category_ids: Collection[int], content: Any = None, scored: bool = True, named: bool = False
) -> Detections:
    """The boxes of a category. A `UserError` names file, entry and value of what no detector writes.

    `content` is the file's where it is read already. `scored` False: a missing score is 1; `named`: an entry may have
    a `file_name` in the place of an `image_id`.
    """
    content = read_json(path, what="file of detections") if content is None else content
    if not isinstance(content, list):
        raise UserError(f"{path} is not a list of detections: image_id, category_id, bbox, score each")
    found: list[Detection] = []
    others: dict[int, int] = {}
    for position, given in enumerate(content):
        where = f"{path}: entry {position}"
        entry = mapping(given, where=where, wanted="a mapping of image_id, category_id, bbox, score")
        if entry.get("category_id") is not None:
            own = identity(entry, "category_id", where=where)
            if own not in category_ids:
                others[own] = others.get(own, 0) + 1
                continue
        for key in ("bbox", *(["score"] if scored else [])):
            if entry.get(key) is None:
                raise UserError(f"{where} lacks a proper '{key}': it is {shown(entry.get(key, MISSING))}")
        bbox = sound_box(entry["bbox"], where=where)
        score = 1.0 if entry.get("score") is None else number(entry, "score", where=where)
        name = entry.get("file_name")
        if name is not None and not (isinstance(name, str) and name):
            raise UserError(f"{where}: file_name is {shown(name)}; a name is wanted")
        image_id = whole_number(entry.get("image_id", MISSING))
        if image_id is None and not (named and name is not None and entry.get("image_id") is None):
            identity(entry, "image_id", where=where)
        found.append(Detection(image_id, name, bbox, score))
    wanted = some(sorted(category_ids))
    told = f"of category {some(sorted(others))}, and the persons of the data are of category {wanted}"
    if others and not found:
        raise UserError(f"{path}: all {len(content)} entries are {told}: write {wanted} as their category_id")
    if found and are_shares(np.stack([each.bbox for each in found]).reshape(-1, 2)):
        raise UserError(f"{path}: all boxes lie within 0..1, so they are shares of the image; px are wanted")
    left = sum(others.values())
    return Detections(found, (f"{left} of {len(content)} entries are left out: they are {told}.",) if left else ())
