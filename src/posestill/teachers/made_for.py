"""What a teacher's kept answers were made for, and the first thing in which that differs from what a run asks.

Of pictures sixteen at most are looked at, those of persons evenly spread over the list.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from posestill.data.topdown import TopDownDataset
from posestill.schema import UserError, reading
from posestill.teachers.answers import SURE
from posestill.teachers.base import CacheConfig, ModelTeacher, Teacher

FORMAT = "posestill teacher cache 1"
PICTURES = 16
"""how many pictures are looked at, at most"""
_TABLE = np.dtype([("id", "<i8"), ("image_id", "<i8"), ("bbox", "<f8", (4,))])
ELSEWHERE = ("path", "file", "licence")
"""what a teacher's lineage says that decides no answer: the same file may lie elsewhere and have another name"""


def describe(config: CacheConfig, teacher: Teacher, dataset: TopDownDataset) -> dict[str, Any]:
    """What decides the answers; what a user changes first comes first."""
    height, width = dataset.size
    common = math.gcd(height, width)
    return {
        "format": FORMAT,
        "keep": config.keep,
        "views": _views(config, dataset),
        "teacher": identity(teacher),
        "keypoints": teacher.skeleton.names,
        "form": {"kind": type(teacher.codec.form).__name__, **asdict(teacher.codec.form)},
        "crops": {
            "size": teacher.input_size,
            "padding": teacher.padding,
            "around crops of height:width": f"{height // common}:{width // common}",
            "flip test": config.views == 0 and teacher.skeleton.partners_known,
        },
        **({"agreement": _agreement(teacher)} if config.leave_out else {}),
        "persons": {"count": len(dataset), "sha256": hashlib.sha256(table_of(dataset).tobytes()).hexdigest()},
        "pictures": _pictures(dataset),
    }


def identity(teacher: Teacher) -> dict[str, Any]:
    """Which network answers, and how it is read; a `UserError` where the teacher does not say."""
    told = {name: value for name, value in teacher.lineage.items() if name not in ELSEWHERE}
    if isinstance(teacher, ModelTeacher):
        if "sha256" not in told:  # a model that was handed in, not read from a folder
            told["sha256"] = _hash_of_weights(teacher)
        told["model"] = teacher.model.config.model_dump(mode="json", exclude_defaults=True, exclude={"init_from"})
    if "sha256" not in told:
        raise UserError(
            f"teacher.cache.folder: {type(teacher).__name__} does not say which network it is (its lineage has no "
            "sha256), so that its answers could be taken for another's: keep them in memory (folder: null)"
        )
    return told


def table_of(dataset: TopDownDataset) -> np.ndarray:
    """(N,) the persons of a dataset: `id`, `image_id` and `bbox`."""
    people = [dataset.person(index) for index in range(len(dataset))]
    return np.array([(each.id, each.image_id, tuple(each.bbox)) for each in people], dtype=_TABLE)


def read_description(folder: Path, wanted: Mapping[str, Any], persons: np.ndarray) -> dict[str, Any] | None:
    """What a folder's `cache.json` says; None where it has none, and a `UserError` where it was made for others.

    `wanted` is what `describe` says of this run, `persons` its table.
    """
    path = folder / "cache.json"
    if not path.is_file():
        if any((folder / name).is_file() for name in ("chunks.jsonl", "complete.json")):
            raise UserError(
                f"teacher.cache.folder: {folder} holds answers and no {path.name}, which says whose they are: name "
                "another folder, or delete this one"
            )
        return None
    with reading(str(path)):
        there: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        difference = first_difference(*_with_pictures_of_both(there, wanted))
        if difference is not None and difference.startswith("persons.sha256"):
            difference = _first_other_person(np.load(folder / "persons.npy"), persons)
    if difference is not None:
        raise UserError(
            f"teacher.cache.folder: {folder} was made for something else ({difference}): name another folder, or "
            "delete this one"
        )
    return there


def _with_pictures_of_both(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two descriptions without the pictures that could not be read then, or cannot be now."""
    then, now = (dict(each.get("pictures") or {}) for each in (there, here))
    both = [name for name in now if name in then]
    return (
        {**there, "pictures": {name: then[name] for name in both}},
        {**here, "pictures": {name: now[name] for name in both}},
    )


def first_difference(there: Any, here: Any, name: str = "") -> str | None:
    """In words the first of what `here` names that `there` has otherwise; None where there is no such thing."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        gone = [key for key in there if key not in here] if name else []  # at the top it may have more
        for key in (*here, *gone):
            found = first_difference(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
            if found is not None:
                return found
        return None
    if _is_list(here) and _is_list(there) and len(here) == len(there):
        pairs = enumerate(zip(there, here, strict=True))
        found_in = (first_difference(one, other, f"{name} {number}") for number, (one, other) in pairs)
        return next((found for found in found_in if found is not None), None)
    return None if there == here else f"{name}: {_shown(there)} there, {_shown(here)} here"


def as_read_back(content: dict[str, Any]) -> dict[str, Any]:
    """What JSON makes of it: lists for tuples, texts for keys."""
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


def _agreement(teacher: Teacher) -> dict[str, Any]:
    """What decides how well two answers agree, beside the answers."""
    return {"sure above": SURE, "spreads": list(teacher.skeleton.oks_sigmas)}


def _views(config: CacheConfig, dataset: TopDownDataset) -> dict[str, Any]:
    if not config.views:
        return {"count": 0}
    augment, labels = dataset.augment, None
    if augment is not None and augment.half_body and dataset.source.skeleton.upper:
        # Crops of half a body follow the labels that the run may know.
        people = [dataset.person(index) for index in range(len(dataset))]
        shown = dataset.shown_labels(people, np.arange(len(dataset)))
        labels = hashlib.sha256(shown.tobytes()).hexdigest()
    told = None if augment is None else augment.model_dump(mode="json")
    return {"count": config.views, "seed": config.seed, "augment": told, "labels for half bodies": labels}


def _pictures(dataset: TopDownDataset) -> dict[str, str]:
    """Image id -> sixteen digits that change with its pixels."""
    chosen = np.linspace(0, len(dataset) - 1, min(PICTURES, len(dataset))).astype(int).tolist()
    found = {}
    for image_id in dict.fromkeys(dataset.person(index).image_id for index in chosen):
        try:
            pixels = np.ascontiguousarray(dataset.source.image(image_id))
        except UserError:  # passed over by whoever trains on it
            continue
        digest = hashlib.sha256(f"{pixels.shape}".encode())
        digest.update(pixels.tobytes())
        found[str(image_id)] = digest.hexdigest()[:16]
    return found


def _hash_of_weights(teacher: ModelTeacher) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(teacher.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first_other_person(there: np.ndarray, here: np.ndarray) -> str:
    """Of two tables of one length the first person that is not the same."""
    one, other = (np.frombuffer(each.tobytes(), dtype=np.uint8).reshape(len(each), -1) for each in (there, here))
    number = int((one != other).any(axis=1).argmax())
    for field in ("id", "image_id", "bbox"):
        told, asked = there[number][field].tolist(), here[number][field].tolist()
        if told != asked:
            return f"persons: number {number} has the {field} {_shown(told)} there and {_shown(asked)} here"
    return f"persons: number {number} is another"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
