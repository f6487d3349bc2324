"""A dataset as one small file: images as JPEG in one uint8 array, people and skeleton beside them, to move at once."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from posestill.data.source import PoseSource, SourceConfig
from posestill.draw import encode_image
from posestill.files import Outputs
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.types import Person

FORMAT = "posestill packed dataset 1"


class PackedConfig(SourceConfig):
    """Persons come from a file that `posestill data pack` wrote."""

    file: Path
    """The packed file; it is held in memory as a whole."""

    def build(self) -> PackedSource:
        """The source; fails with a message when the file is missing or not ours."""
        return PackedSource(self.file)


class PackedSource:
    """The people and images of a packed file, which is held in memory."""

    def __init__(self, file: Path) -> None:
        file = Path(file)
        if not file.is_file():
            raise UserError(f"no packed dataset {file}: `posestill data pack` writes one")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                held = {name: arrays[name] for name in arrays.files}
            head = json.loads(held["head"].tobytes())
            if head["format"] != FORMAT:
                raise ValueError(head["format"])
            self.skeleton = Skeleton.model_validate(head["skeleton"])
            self.people: Sequence[Person] = _people(held)
            self._bytes, self._ends = held["images"], held["image_ends"]
            self._place = {int(each): place for place, each in enumerate(held["image_ids"])}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            remedy = "write it anew by `posestill data pack`"
            raise UserError(f"{file} is not a whole packed dataset ({error}): {remedy}") from None

    @property
    def image_ids(self) -> Collection[int]:
        """Of every image."""
        return self._place.keys()

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        place = self._place[image_id]
        start = 0 if place == 0 else self._ends[place - 1]
        decoded = cv2.imdecode(self._bytes[start : self._ends[place]], cv2.IMREAD_COLOR_RGB)
        assert decoded is not None  # the file was whole when it was opened
        return decoded


def pack(
    source: PoseSource,
    file: Path,
    *,
    people: int | None = None,
    long_side: int | None = None,
    quality: int = 90,
    progress: Callable[[int], None] | None = None,
    outputs: Outputs | None = None,
) -> int:
    """Write a source as one file and return how many people it holds.

    `people`: only the first so many that are labelled and no crowds, with their images. `long_side` px: larger images
    are shrunk to it, their people with them. `quality`: of the JPEGs, 1..100. `outputs` remember that it was written.
    """
    chosen = list(source.people)
    if people is not None:
        chosen = [each for each in chosen if each.keypoints is not None and not each.crowd][:people]
    if not chosen:
        raise UserError("there is nobody to pack: the source has no people of that kind")
    by_image: dict[int, list[Person]] = {}
    for person in chosen:
        by_image.setdefault(person.image_id, []).append(person)
    encoded, kept = [], []
    for image_id, persons in by_image.items():
        image = source.image(image_id)
        scale = min(1.0, (long_side or max(image.shape)) / max(image.shape[:2]))
        if scale < 1:
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        encoded.append(np.frombuffer(encode_image(image, quality=quality), dtype=np.uint8))
        kept += [_shrunk(person, scale) for person in persons]
        if progress is not None:
            progress(1)
    head = {"format": FORMAT, "skeleton": source.skeleton.model_dump(mode="json")}
    arrays = {
        "head": np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
        "images": np.concatenate(encoded),
        "image_ends": np.cumsum([len(each) for each in encoded]),
        "image_ids": np.array(list(by_image)),
        **_arrays(kept, len(source.skeleton)),
    }

    def write(draft: Path) -> None:
        with draft.open("wb") as handle:  # given a name, numpy would add a suffix to it
            np.savez(handle, **arrays)  # type: ignore[arg-type]

    (outputs or Outputs("data pack", overwrite=True)).write(file, write)
    return len(kept)


def _shrunk(person: Person, scale: float) -> Person:
    """The same person in an image `scale` times as large: pixel i becomes (i + 0.5) * scale - 0.5."""
    if scale == 1:
        return person
    keypoints = person.keypoints
    if keypoints is not None:
        keypoints = keypoints.copy()
        keypoints[:, :2] = (keypoints[:, :2] + 0.5) * scale - 0.5
        keypoints[keypoints[:, 2] == 0] = 0
    corner = (person.bbox[:2] + 0.5) * scale - 0.5
    bbox = np.concatenate([corner, person.bbox[2:] * scale])
    return replace(person, bbox=bbox, keypoints=keypoints, area=person.area * scale**2)


def _arrays(people: Sequence[Person], keypoints: int) -> dict[str, np.ndarray]:
    nothing = np.zeros((keypoints, 3))
    return {
        "id": np.array([each.id for each in people]),
        "image_id": np.array([each.image_id for each in people]),
        "bbox": np.stack([each.bbox for each in people]),
        "keypoints": np.stack([nothing if each.keypoints is None else each.keypoints for each in people]),
        "labelled": np.array([each.keypoints is not None for each in people]),
        "area": np.array([each.area for each in people], dtype=float),
        "score": np.array([each.score for each in people], dtype=float),
        "crowd": np.array([each.crowd for each in people]),
    }


def _people(held: dict[str, np.ndarray]) -> list[Person]:
    return [
        Person(
            id=int(held["id"][row]),
            image_id=int(held["image_id"][row]),
            bbox=held["bbox"][row],
            keypoints=held["keypoints"][row] if held["labelled"][row] else None,
            area=float(held["area"][row]),
            score=float(held["score"][row]),
            crowd=bool(held["crowd"][row]),
        )
        for row in range(len(held["id"]))
    ]
