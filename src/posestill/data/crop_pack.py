"""Crops kept as JPEGs in one file: cut once, wide enough for every augmentation, and mapped into memory.

The file is a first line, the place of the index (8 bytes), the JPEGs one after another, and the index, an .npz: whom
it holds, where each crop ends, the affine image px -> crop px, and what it was cut for. Of each person there are two
crops: a wide one, which every draw lies in, and a near one, which most draws lie in and which is decoded faster. They
have the image's own pixels where the image is no finer than `density` asks, and end where the image does. Draws,
affines and keypoints are those of the path from files.
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
from posestill.geometry import crop_of_bbox, invert_affine, transform_points
from posestill.schema import UserError, printable
from posestill.types import Person

MAGIC = b"posestill packed crops 1\n"
_START = len(MAGIC) + 8
_NEAR, _WIDE = 0, 1
"""which of a person's two crops"""
_NEAR_SHARE = 0.65
"""of each side of the wide crop: by mmpose's augmentation, four of five draws lie inside"""
_WORTH_IT = 0.8
"""the share of the wide crop's pixels from which on a near one saves too little"""
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
        seen, near = _seen_by(views), self.index.near[rows]
        is_near = ((seen.low >= near[:, :2]) & (seen.high <= near[:, 2:])).all(axis=1)  # (B,)
        which = np.where(is_near, _NEAR, _WIDE)
        kept = (self.kept_crop(*each) for each in zip(rows.tolist(), which.tolist(), strict=True))
        return warp_kept(kept, from_kept(self.index.to_kept[rows, which], views), colours)

    def kept_crop(self, row: int, which: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB: the near or the wide crop in a row of the file."""
        ends, place = self.index.ends.reshape(-1), 2 * row + which
        jpeg = _mapped(self.file, self.changed_at)[ends[place - 1] if place else _START : ends[place]]
        crop = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB) if len(jpeg) else None
        if crop is None:
            raise UserError(f"data.crops.file: {printable(self.file)} is damaged at its crop {row}: {_REMEDY}")
        return crop


def _seen_by(views: Sequence[View]) -> Reach:
    """What the views show of each of B images."""
    reaches = []
    for view in views:
        height, width = view.size
        corners = np.array([[0.0, 0.0], [width - 1, 0.0], [0.0, height - 1], [width - 1, height - 1]])
        seen = transform_points(corners, invert_affine(view.affine))  # (B, 4, 2) image px
        reaches.append(Reach(seen.min(axis=1), seen.max(axis=1)))
    return reduce(Reach.joined, reaches)


def pack_crops(
    dataset: TopDownDataset, file: Path, *, density: float, quality: int, outputs: Outputs,
    progress: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """Write the crops of a dataset's persons; `quality`: of the JPEGs, 1..100. `outputs` remember the file.

    Whose picture cannot be read is noted in `dataset.unreadable` and in the file.
    """
    count = len(dataset)
    to_kept, ends, near = np.empty((count, 2, 2, 3)), np.empty((count, 2), dtype=np.int64), np.empty((count, 4))

    def write(draft: Path) -> None:
        with draft.open("wb") as handle:
            handle.write(MAGIC + bytes(8))
            for index, both in enumerate(_cut(dataset, density)):
                near[index] = both[_NEAR].inside
                for which, kept in enumerate(both):
                    to_kept[index, which] = kept.to_kept
                    if kept.crop.size:
                        handle.write(encode_image(kept.crop, quality=quality))
                    ends[index, which] = handle.tell()
                if progress is not None:
                    progress(1)
            content = _Index(
                person=dataset.labels.persons, ends=ends, to_kept=to_kept, near=near,
                made_for=made_for(dataset, density),
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
    """A crop as it is kept."""

    to_kept: np.ndarray
    """(2, 3) image px -> px of the crop"""
    crop: np.ndarray
    """(h, w, 3) uint8 RGB; without any pixel where there is none"""
    inside: np.ndarray
    """(4,) x y x y, image px: a view between these lies in the crop; infinite where the image ends"""


_NOTHING = _Kept(np.eye(2, 3), np.empty((0, 0, 3), np.uint8), np.array([np.inf, np.inf, -np.inf, -np.inf]))


def _cut(dataset: TopDownDataset, density: float) -> Iterator[tuple[_Kept, _Kept]]:
    """The near and the wide crop of each person; whose picture cannot be read is noted in `dataset.unreadable`."""
    everyone = range(len(dataset))
    people = [dataset.person(each) for each in everyone]
    labels = np.zeros((len(people), len(dataset.source.skeleton), 3))
    for row, person in enumerate(people):
        if person.keypoints is not None:
            labels[row] = person.keypoints
    crop = crop_of_bbox(np.stack([person.bbox for person in people]), dataset.size)
    reach = reduce(Reach.joined, (
        reach_of(crop, labels, size=dataset.size, augment=dataset.augment, skeleton=dataset.source.skeleton, shown=each)
        for each in dataset.framings()
    ))  # fmt: skip
    near = reach.shrunk(_NEAR_SHARE)
    scale = np.minimum(1.0, density * dataset.size[1] / crop.extent[:, 0])  # (N,)
    for index in everyone:
        try:
            image = dataset.read(index)
        except Unreadable as error:
            dataset.unreadable[index] = str(error)
            yield _NOTHING, _NOTHING
            continue
        wide = _part_of(image, reach.low[index], reach.high[index], float(scale[index]))
        some = _part_of(image, near.low[index], near.high[index], float(scale[index]))
        yield some if some.crop.size < _WORTH_IT * wide.crop.size else _NOTHING, wide


def _part_of(image: np.ndarray, low: np.ndarray, high: np.ndarray, scale: float) -> _Kept:
    """The part of an image from `low` to `high` (x y), as far as there is any, `scale` times as large."""
    last_pixel = np.array([image.shape[1], image.shape[0]]) - 1
    first = np.floor(low - 1).clip(0, last_pixel).astype(int)  # a px beyond, as sampling mixes neighbours
    last = np.ceil(high + 1).clip(first, last_pixel).astype(int)
    inside = np.concatenate([
        np.where(first == 0, -np.inf, first + 1), np.where(last == last_pixel, np.inf, last - 1),
    ])  # fmt: skip
    if scale == 1:
        crop = image[first[1] : last[1] + 1, first[0] : last[0] + 1]
        return _Kept(np.array([[1.0, 0, -first[0]], [0, 1.0, -first[1]]]), crop, inside)
    to_kept = np.array([[scale, 0, -scale * first[0]], [0, scale, -scale * first[1]]])
    width, height = np.ceil((last - first) * scale).astype(int) + 1
    return _Kept(to_kept, warp(image, to_kept, (int(height), int(width))), inside)


@dataclass(frozen=True)
class _Index:
    """What a file of crops holds."""

    person: np.ndarray
    """(M,) positions in the people of the source"""
    ends: np.ndarray
    """(M, 2) bytes from the file's beginning, of the near and of the wide crop"""
    to_kept: np.ndarray
    """(M, 2, 2, 3) image px -> px of each"""
    near: np.ndarray
    """(M, 4) x y x y, image px, between which a view lies in the near crop"""
    made_for: Mapping[str, Any]
    unreadable: Mapping[int, str]
    """positions in the people of the source, and what is wrong with their pictures"""

    def as_bytes(self) -> bytes:
        head = json.dumps({"made_for": self.made_for, "unreadable": self.unreadable}).encode()
        content = BytesIO()
        np.savez(
            content, head=np.frombuffer(head, np.uint8), person=self.person, ends=self.ends, to_kept=self.to_kept,
            near=self.near,
        )  # fmt: skip
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
                        held["person"], held["ends"], held["to_kept"], held["near"], head["made_for"],
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
