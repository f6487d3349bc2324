"""Crops kept as JPEGs in one file: cut once, wide enough for every augmentation, and mapped into memory.

The file is a first line, the place of the index (8 bytes), the JPEGs one after another, and the index, an .npz: whom
it holds, where each crop ends, the affine image px -> crop px, and what it was cut for. A crop has the image's own
pixels where the image is no finer than `density` asks, and ends where the image does. Draws, affines and keypoints are
those of the path from files.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from posestill.data.augment import Colours, Reach, reach_of
from posestill.data.crops import from_kept, warp_kept
from posestill.data.topdown import TopDownDataset, Unreadable, View, warp
from posestill.draw import encode_image
from posestill.files import Outputs, check_readable
from posestill.geometry import crop_of_bbox
from posestill.schema import UserError, printable
from posestill.types import Person

MAGIC = b"posestill packed crops 1\n"
_START = len(MAGIC) + 8
_NO_MATTER = {"flip", "colour", "half_body_upper", "rotation_probability", "shift_probability"}
"""settings of the augmentation that no crop has to be wider for"""
_REMEDY = "write another by `posestill data pack RECIPE --crops --out FILE`"


class PackedCrops(TopDownDataset):
    """The dataset of TopDownDataset, its pixels warped from the JPEG crops of a file."""

    def __init__(self, plain: TopDownDataset, file: Path, *, density: float) -> None:
        """The crops of the persons of `plain`; a `UserError` where the file was not cut for these, or not like that."""
        super().__init__(
            plain.source, size=plain.size, labels=plain.labels, augment=plain.augment, seed=plain.seed,
            teacher_size=plain.teacher_size, teacher_padding=plain.teacher_padding, fixed_views=plain.fixed_views,
            passes_over=plain.passes_over,
        )  # fmt: skip
        self.index = _Index.read(file)
        self.file, self.changed_at = file, file.stat().st_mtime_ns
        _refuse_another(file, self.index.made_for, made_for(plain, density))
        rows = np.full(len(plain.source.people), -1)
        rows[self.index.person] = np.arange(len(self.index.person))
        self.rows = rows[self.labels.persons]
        """(N,) of each person in the file"""
        if missing := int((self.rows < 0).sum()):
            raise UserError(
                f"data.crops.file: {printable(file)} lacks {missing} of the {len(self)} persons whom the run sees, as "
                f"data.unlabelled_people or other settings chose whom it was written for: {_REMEDY}"
            )
        said = self.index.unreadable
        self.unreadable = {at: said[each] for at, each in enumerate(self.labels.persons.tolist()) if each in said}

    def pixels(self, index: np.ndarray, views: Sequence[View], colours: Colours | None) -> list[Tensor]:
        """Of each view (B, 3, H, W) uint8: the crops of persons index (B,), in changed colours."""
        rows = self.rows[index]
        return warp_kept(map(self.kept_crop, rows.tolist()), from_kept(self.index.to_kept[rows], views), colours)

    def kept_crop(self, row: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB: the crop in a row of the file."""
        ends = self.index.ends
        jpeg = _mapped(self.file, self.changed_at)[ends[row - 1] if row else _START : ends[row]]
        crop = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB) if len(jpeg) else None
        if crop is None:
            raise UserError(f"data.crops.file: {printable(self.file)} is damaged at its crop {row}: {_REMEDY}")
        return crop


def pack_crops(
    dataset: TopDownDataset, file: Path, *, density: float, quality: int, outputs: Outputs,
    progress: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """Write the crops of a dataset's persons; `quality`: of the JPEGs, 1..100. `outputs` remember the file.

    Whose picture cannot be read is noted in `dataset.unreadable` and in the file.
    """
    to_kept = np.empty((len(dataset), 2, 3))
    ends = np.empty(len(dataset), dtype=np.int64)

    def write(draft: Path) -> None:
        with draft.open("wb") as handle:
            handle.write(MAGIC + bytes(8))
            for index, kept in enumerate(_cut(dataset, density)):
                to_kept[index] = kept.to_kept
                if kept.crop is not None:
                    handle.write(encode_image(kept.crop, quality=quality))
                ends[index] = handle.tell()
                if progress is not None:
                    progress(1)
            content = _Index(
                person=dataset.labels.persons, ends=ends, to_kept=to_kept, made_for=made_for(dataset, density),
                unreadable={int(dataset.labels.persons[at]): why for at, why in dataset.unreadable.items()},
            )  # fmt: skip
            place = handle.tell()
            handle.write(content.as_bytes())
            handle.seek(len(MAGIC))
            handle.write(place.to_bytes(8, "little"))

    outputs.write(file, write)


def made_for(dataset: TopDownDataset, density: float) -> dict[str, Any]:
    """What decides which pixels a dataset's crops need: a file of crops serves the runs that agree in all of it."""
    augment = {} if dataset.augment is None else dataset.augment.model_dump(mode="json", exclude=_NO_MATTER)
    sizes = [f"{each.size[0]}x{each.size[1]}, padding {each.padding:g}" for each in dataset.framings()]
    return {
        "annotations": _digest_of(dataset.source.people),
        "model.size": f"{dataset.size[0]}x{dataset.size[1]}",
        "what the teacher is shown": sizes[1] if len(sizes) > 1 else "the student's crops",
        "data.crops.density": density,
        **{f"data.augment.{name}": value for name, value in augment.items()},
    }


def _refuse_another(file: Path, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in sorted({*given, *wanted}, key=lambda each: (each != "annotations", each)):
        if given.get(name) == wanted.get(name):
            continue
        if name == "annotations":
            differs = "other annotations: its persons, boxes or keypoints are not those of data.train"
        else:
            differs = f"another run: {name} was {given.get(name)}, and here it is {wanted.get(name)}"
        raise UserError(f"data.crops.file: {printable(file)} was cut for {differs}; correct it, or {_REMEDY}")


def _digest_of(people: Sequence[Person]) -> str:
    digest = hashlib.sha256()
    for person in people:
        digest.update(f"{person.id} {person.image_id}".encode())
        digest.update(np.asarray(person.bbox, dtype=np.float64).tobytes())
        digest.update(b"" if person.keypoints is None else np.asarray(person.keypoints, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Kept:
    to_kept: np.ndarray
    """(2, 3) image px -> px of the crop"""
    crop: np.ndarray | None
    """(h, w, 3) uint8 RGB; None: the picture could not be read"""


def _cut(dataset: TopDownDataset, density: float) -> Iterator[_Kept]:
    """The crop to keep of each person in turn; whose picture cannot be read is noted in `dataset.unreadable`."""
    everyone = np.arange(len(dataset))
    people = [dataset.person(each) for each in everyone.tolist()]
    labels = np.zeros((len(people), len(dataset.source.skeleton), 3))
    for row, person in enumerate(people):
        if person.keypoints is not None:
            labels[row] = person.keypoints
    crop = crop_of_bbox(np.stack([person.bbox for person in people]), dataset.size)
    reach = reduce(Reach.joined, (
        reach_of(crop, labels, size=dataset.size, augment=dataset.augment, skeleton=dataset.source.skeleton, shown=each)
        for each in dataset.framings()
    ))  # fmt: skip
    scale = np.minimum(1.0, density * dataset.size[1] / crop.extent[:, 0])  # (N,)
    for index in everyone.tolist():
        try:
            image = dataset.read(index)
        except Unreadable as error:
            dataset.unreadable[index] = str(error)
            yield _Kept(np.eye(2, 3), None)
            continue
        yield _part_of(image, reach.low[index], reach.high[index], float(scale[index]))


def _part_of(image: np.ndarray, low: np.ndarray, high: np.ndarray, scale: float) -> _Kept:
    """The part of an image from `low` to `high` (x y), as far as there is any, `scale` times as large."""
    limit = np.array([image.shape[1], image.shape[0]])
    first = np.floor(low - 1).clip(0, limit - 1).astype(int)  # a px beyond, as sampling mixes neighbours
    last = np.ceil(high + 1).clip(first, limit - 1).astype(int)
    if scale == 1:
        kept = image[first[1] : last[1] + 1, first[0] : last[0] + 1]
        return _Kept(np.array([[1.0, 0, -first[0]], [0, 1.0, -first[1]]]), kept)
    to_kept = np.array([[scale, 0, -scale * first[0]], [0, scale, -scale * first[1]]])
    width, height = np.ceil((last - first) * scale).astype(int) + 1
    return _Kept(to_kept, warp(image, to_kept, (int(height), int(width))))


@dataclass(frozen=True)
class _Index:
    """What a file of crops holds."""

    person: np.ndarray
    """(M,) positions in the people of the source"""
    ends: np.ndarray
    """(M,) bytes from the file's beginning"""
    to_kept: np.ndarray
    """(M, 2, 3) image px -> px of the crop"""
    made_for: Mapping[str, Any]
    unreadable: Mapping[int, str]
    """positions in the people of the source, and what is wrong with their pictures"""

    def as_bytes(self) -> bytes:
        head = json.dumps({"made_for": self.made_for, "unreadable": self.unreadable}).encode()
        content = BytesIO()
        np.savez(content, head=np.frombuffer(head, np.uint8), person=self.person, ends=self.ends, to_kept=self.to_kept)
        return content.getvalue()

    @classmethod
    def read(cls, file: Path) -> _Index:
        """That of a file; a `UserError` where it is missing, cut off or something else."""
        check_readable(file, what="data.crops.file")
        try:
            with file.open("rb") as handle:
                start = handle.read(_START)
                if start[: len(MAGIC)] != MAGIC:
                    raise ValueError("it begins otherwise")
                handle.seek(int.from_bytes(start[len(MAGIC) :], "little"))
                with np.load(BytesIO(handle.read()), allow_pickle=False) as held:
                    head = json.loads(held["head"].tobytes())
                    return cls(
                        held["person"], held["ends"], held["to_kept"], head["made_for"],
                        {int(position): why for position, why in head["unreadable"].items()},
                    )  # fmt: skip
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"data.crops.file: {printable(file)} is not a whole file of packed crops ({error}): {_REMEDY}"
            ) from None


@lru_cache(maxsize=4)
def _mapped(file: Path, changed_at: int) -> np.ndarray:
    """The bytes of a file, mapped once by each process: those that cut crops beside the training share the memory."""
    return np.memmap(file, dtype=np.uint8, mode="r")
