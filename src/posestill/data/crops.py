"""Crops in memory: every person once as uint8, augmented in batch: on a GPU by one grid-sample, on a CPU by OpenCV.

A kept crop is upright and wide enough for every augmentation of its run; it is the image's own pixels where the image
is no finer than needed, so that sampling it is what warping the file would have been. Draws, affines and keypoints are
those of the path from files: only the pixels take another way.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from posestill.data.augment import GREY, AugmentConfig, Colours
from posestill.data.source import PoseSource
from posestill.data.topdown import (
    FixedViews,
    Labels,
    TopDownDataset,
    Unreadable,
    View,
    four_channels,
    planes_of,
    put,
    warp,
)
from posestill.files import write_json, write_whole
from posestill.geometry import PADDING, crop_of_bbox, fit_aspect
from posestill.schema import Config, UserError
from posestill.types import Size


class CropsConfig(Config):
    """Every person's crop is kept, wide enough for every augmentation.

    As plain pixels in memory or a folder, for small data, many runs or a big GPU; as JPEGs in a file, for large data.
    """

    density: PositiveFloat = 1.25
    """Px of a kept crop per px of the input, at most. A higher density keeps detail that augmentation zooms in on, and
    costs room."""
    folder: Path | None = None
    """A folder that the plain pixels are kept in, too: later runs start at once, and runs at the same time share the
    memory. None: each run cuts its own."""
    file: Path | None = None
    """A file of JPEG crops that `posestill data pack --crops` wrote; they are decoded as they are needed, also by
    `train.workers`, and fill no memory. None: the crops are plain pixels."""

    @model_validator(mode="after")
    def _one_place(self) -> CropsConfig:
        if self.folder is not None and self.file is not None:
            raise ValueError("folder and file both say where crops are kept: give one of them")
        return self


class CropsInMemory(TopDownDataset):
    """The dataset of TopDownDataset, its pixels sampled from kept crops."""

    def __init__(
        self,
        source: PoseSource,
        *,
        size: Size,
        labels: Labels | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        teacher_size: Size | None = None,
        teacher_padding: float = PADDING,
        fixed_views: FixedViews | None = None,
        passes_over: bool = False,
        config: CropsConfig | None = None,
        device: torch.device | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(
            source, size=size, labels=labels, augment=augment, seed=seed, teacher_size=teacher_size,
            teacher_padding=teacher_padding, fixed_views=fixed_views, passes_over=passes_over,
        )  # fmt: skip
        config = config or CropsConfig()
        side = _side(self, config.density)
        self.to_kept = np.stack([_affine_to_kept(self, each, side, config.density) for each in range(len(self))])
        """(N, 2, 3) image px -> px of the kept crop"""
        kept = _kept(self, side, config.folder, progress or (lambda count: None))
        self.device = device or torch.device("cpu")
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else 0
        self.kept = torch.from_numpy(kept)
        """(N, side, side, 3) uint8, on the device where it takes less than half of the free memory"""
        if self.kept.nbytes < free / 2:
            self.kept = self.kept.to(self.device)

    def pixels(self, index: np.ndarray, views: Sequence[View], colours: Colours | None) -> list[Tensor]:
        """Of each view (B, 3, H, W), uint8 from a CPU and float 0..1 from a GPU: black outside, in changed colours."""
        cut = self._warp if self.device.type == "cpu" else self._sample
        return cut(index, from_kept(self.to_kept[index], views), colours)

    def _sample(self, index: np.ndarray, views: Sequence[View], colours: Colours | None) -> list[Tensor]:
        """Of each view, whose affine is output px -> kept px, (B, 3, H, W) float 0..1."""
        rows = torch.from_numpy(index).to(self.kept.device)
        kept = self.kept[rows].to(self.device).permute(0, 3, 1, 2).float()  # (B, 3, side, side)
        affines = [torch.from_numpy(view.affine.astype(np.float32)).to(self.device) for view in views]
        images = [sample(kept, affine, view.size) for affine, view in zip(affines, views, strict=True)]
        return [image / 255 if colours is None else change_colours(image, colours) for image in images]

    def _warp(self, index: np.ndarray, views: Sequence[View], colours: Colours | None) -> list[Tensor]:
        """The same on a CPU as uint8, where OpenCV is several times faster than sampling floats."""
        kept = self.kept.numpy()
        return warp_kept((kept[each] for each in index.tolist()), views, colours)


def warp_kept(kept: Iterable[np.ndarray], views: Sequence[View], colours: Colours | None) -> list[Tensor]:
    """Of each view, whose affine is output px -> kept px, (B, 3, H, W) uint8: cut from B kept crops (h, w, 3)."""
    planes = planes_of(views)
    for row, crop in enumerate(kept):
        near = four_channels(crop)  # a warp reads here and there: copied in one go first, it waits less for memory
        for into, view in zip(planes, views, strict=True):
            put(unwarp(near, view.affine[row], view.size), into, row, colours)
    return [torch.from_numpy(each) for each in planes]


def unwarp(kept: np.ndarray, to_kept: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, C) uint8: what a kept crop (h, w, C) shows at each output px under (2, 3) output px -> kept px."""
    return cv2.warpAffine(kept, to_kept, (size[1], size[0]), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def sample(kept: Tensor, to_kept: Tensor, size: Size, *, outside: Literal["zeros", "border"] = "zeros") -> Tensor:
    """(B, C, *size): crops kept (B, C, h, w) read at each output px under to_kept (B, 2, 3) output px -> kept px.

    What lies outside a kept crop is zero, or what its border shows there.
    """
    height, width = size
    # grid_sample speaks of -1..1 from the first pixel's centre to the last's, at both ends.
    given = to_kept.new_tensor([[(width - 1) / 2, 0, (width - 1) / 2], [0, (height - 1) / 2, (height - 1) / 2]])
    half = to_kept.new_tensor([(kept.shape[3] - 1) / 2, (kept.shape[2] - 1) / 2])[:, None]  # (2, 1)
    theta = to_kept[:, :, :2] @ given  # (B, 2, 3)
    theta[:, :, 2] += to_kept[:, :, 2]
    theta = theta / half
    theta[:, :, 2] -= 1
    grid = F.affine_grid(theta.to(kept.dtype), [len(kept), kept.shape[1], height, width], align_corners=True)
    return F.grid_sample(kept, grid, mode="bilinear", padding_mode=outside, align_corners=True)


def change_colours(image: Tensor, colours: Colours) -> Tensor:
    """Images (B, 3, H, W) 0..255 in changed colours, as 0..1."""
    given = (colours.matrix, colours.pull, GREY)
    matrix, pull, grey = (torch.from_numpy(each.astype(np.float32)).to(image) for each in given)
    grey = image.mean(dim=(2, 3)) @ grey  # (B,)
    offset = (pull * grey)[:, None, None]  # (B, 1, 1)
    changed = torch.baddbmm(offset / 255, matrix / 255, image.flatten(2))
    return changed.clamp_(0, 1).view(image.shape)


def bytes_kept(dataset: TopDownDataset, density: float) -> int:
    """How much room the crops of a dataset take as plain pixels."""
    return 3 * _side(dataset, density) ** 2 * len(dataset)


def _side(dataset: TopDownDataset, density: float) -> int:
    """Px that a square kept crop measures, so that the widest augmentation of the widest view stays inside."""
    seen = [(dataset.size, 1.0)]  # each with how much more than the student's padding it shows
    if dataset.teacher_size is not None:
        seen.append((dataset.teacher_size, dataset.teacher_padding / PADDING))
    augment = dataset.augment
    reach = 0.0
    for size, more in seen:
        # in input px of the student, whose width spans what `fit_aspect` makes of it at the other's aspect
        width, height = fit_aspect(np.array([dataset.size[1], dataset.size[0]], dtype=float), size) * more
        turns = augment is not None and augment.rotation > 0
        half = math.hypot(width, height) / 2 if turns else max(width, height) / 2
        if augment is not None:
            half = half * (1 + augment.scale) + augment.shift * max(width, height)
        reach = max(reach, half)
    return 2 * math.ceil(reach * density) + 2


def _affine_to_kept(dataset: TopDownDataset, index: int, side: int, density: float) -> np.ndarray:
    """(2, 3) image px -> px of a person's kept crop: whole px where the image is no finer than `density` asks."""
    crop = crop_of_bbox(dataset.person(index).bbox, dataset.size)
    scale = min(1.0, density * dataset.size[1] / crop.extent[0])
    offset = side / 2 - scale * crop.centre
    return np.array([[scale, 0, offset[0]], [0, scale, offset[1]]]) if scale < 1 else _shifted(np.round(offset))


def _shifted(offset: np.ndarray) -> np.ndarray:
    return np.array([[1.0, 0, offset[0]], [0, 1.0, offset[1]]])


def _kept(dataset: CropsInMemory, side: int, folder: Path | None, progress: Callable[[int], None]) -> np.ndarray:
    """(N, side, side, 3) uint8: from `folder` where an earlier run left them, else cut now."""
    shape = (len(dataset), side, side, 3)
    if folder is None:
        kept = np.empty(shape, dtype=np.uint8)
        for index, crop in enumerate(_cut(dataset, side, progress)):
            kept[index] = crop
        return kept
    path = folder / f"crops-{_fingerprint(dataset, side)}.npy"
    beside = path.with_suffix(".json")  # whose pictures could not be read, where there are such
    said = json.loads(beside.read_bytes()) if path.is_file() and beside.is_file() else {}
    unreadable = {int(index): why for index, why in said.items()}
    if not path.is_file() or any(map(dataset.is_readable, unreadable)):
        folder.mkdir(parents=True, exist_ok=True)

        def write(draft: Path) -> None:
            # Through a file, not through a map of it: there a full disk ends the process without a word.
            with draft.open("wb") as handle:
                np.lib.format.write_array_header_1_0(handle, _header(shape))
                for crop in _cut(dataset, side, progress):
                    handle.write(crop.data)
            beside.unlink(missing_ok=True)
            if dataset.unreadable:
                write_json(beside, dataset.unreadable)

        write_whole(path, write, draft_of=str(os.getpid()))  # another process may be making the same
    else:
        progress(len(dataset))
        dataset.unreadable = unreadable
    return np.load(path, mmap_mode="c")  # copy on write: nobody writes, and torch asks for a writable array


def _cut(dataset: CropsInMemory, side: int, progress: Callable[[int], None]) -> Iterator[np.ndarray]:
    """(side, side, 3) uint8: the crop to keep of each person in turn; black where a picture is passed over."""
    for index in range(len(dataset)):
        try:
            crop = warp(dataset.read(index), dataset.to_kept[index], (side, side))
        except Unreadable as error:
            if not dataset.passes_over:
                raise UserError(str(error)) from None
            dataset.unreadable[index] = str(error)
            crop = np.zeros((side, side, 3), dtype=np.uint8)
        yield np.ascontiguousarray(crop)
        progress(1)


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    """How a .npy file says what it holds."""
    return {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}


def _fingerprint(dataset: CropsInMemory, side: int) -> str:
    """Sixteen digits that change with the persons, their boxes, the geometry and (by samples) the pixels."""
    digest = hashlib.sha256(f"{side} {dataset.size}".encode())
    digest.update(dataset.to_kept.tobytes())
    for index in np.linspace(0, len(dataset) - 1, min(8, len(dataset))).astype(int):
        person = dataset.person(index)
        digest.update(f"{person.image_id} {person.id}".encode())
        with suppress(Unreadable):
            digest.update(np.ascontiguousarray(dataset.read(index)).tobytes())
    return digest.hexdigest()[:16]


def from_kept(to_kept: np.ndarray, views: Sequence[View]) -> list[View]:
    """The views with affines output px -> px of kept crops, which image px -> kept px (B, 2, 3) brings there."""
    return [View(_compose(to_kept, view.affine), view.size) for view in views]


def _compose(to_kept: np.ndarray, to_input: np.ndarray) -> np.ndarray:
    """(B, 2, 3) input px -> px of the kept crop, from image px -> kept px and image px -> input px."""
    linear = to_kept[:, :, :2] @ np.linalg.inv(to_input[:, :, :2])
    return np.concatenate([linear, to_kept[:, :, 2:] - linear @ to_input[:, :, 2:]], axis=2)
