"""What a teacher says of every person of a source: its keypoints on the picture, and how well it agrees with itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from posestill.data.images import with_answer
from posestill.data.source import PoseSource
from posestill.data.topdown import warp
from posestill.geometry import affine_to_input, crop_of_bbox, invert_affine, transform_points
from posestill.keypoints.names import same_keypoint
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.teachers.base import Teacher
from posestill.teachers.threads import asking
from posestill.types import Person, PoseBatch, mean_prediction

SURE = 0.3
"""the confidence above which a keypoint counts, where nobody says another"""


@dataclass(frozen=True)
class Answers:
    """What a teacher says of N persons, K keypoints each."""

    keypoints: np.ndarray
    """(N, K, 3) x y confidence, image px: the mean of what it says of the crop and of the mirrored crop"""
    apart: np.ndarray
    """(N, K) how far these two are from one another, image px; NaN where it is not asked about mirrored crops"""

    def agreement(self, people: Sequence[Person], *, skeleton: Skeleton, threshold: float) -> np.ndarray:
        """(N,) how well the two agree on each person, as an OKS over the keypoints above `threshold`.

        NaN without any such keypoint, or where the teacher is not asked about mirrored crops. A person's area is that
        of the pose which the teacher sees.
        """
        told = [with_answer(*each, threshold=threshold).area for each in zip(people, self.keypoints, strict=True)]
        sure = self.keypoints[..., 2] > threshold
        terms = np.where(sure, similarity(self.apart, area=np.array(told), skeleton=skeleton), 0).sum(axis=1)
        found: np.ndarray = np.where(sure.any(axis=1), terms / np.maximum(sure.sum(axis=1), 1), np.nan)
        return found

    def named(self, teacher: Teacher, names: Sequence[str]) -> Answers:
        """The same answers for keypoints of other names, in their order; confidence 0 where the teacher has none."""
        keypoints = np.zeros((len(self.keypoints), len(names), 3))
        apart = np.zeros((len(self.apart), len(names)))
        for at, name in enumerate(names):
            meant = teacher.names.get(name) or same_keypoint(name, teacher.skeleton.names)
            if meant is None:
                continue
            pair = (meant, meant) if isinstance(meant, str) else meant
            one, other = (teacher.skeleton.names.index(each) for each in pair)
            keypoints[:, at, :2] = (self.keypoints[:, one, :2] + self.keypoints[:, other, :2]) / 2
            keypoints[:, at, 2] = np.minimum(self.keypoints[:, one, 2], self.keypoints[:, other, 2])
            apart[:, at] = np.maximum(self.apart[:, one], self.apart[:, other])
        return Answers(keypoints, apart)


def similarity(distance: np.ndarray, *, area: float | np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(..., K) OKS's term of each keypoint, 0..1, for distances (..., K) in image px and an area in px squared."""
    spread = 2 * np.array(skeleton.oks_sigmas)
    scale = np.maximum(np.asarray(area, dtype=np.float64)[..., None], 1e-9)
    terms: np.ndarray = np.exp(-(distance**2) / (2 * scale * spread**2))
    return terms


def most_agreed(agreement: np.ndarray, *, leave_out: float) -> np.ndarray:
    """(N,) bool: without those who have no agreement (NaN), and without so large a share of the others, the lowest."""
    order = np.argsort(agreement, kind="stable")  # NaN come last
    known = int(np.isfinite(agreement).sum())
    kept = np.zeros(len(agreement), dtype=bool)
    kept[order[int(leave_out * known) : known]] = True
    return kept


@torch.no_grad()
def ask_about(
    teacher: Teacher,
    source: PoseSource,
    *,
    batch_size: int = 32,
    device: torch.device | None = None,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
    threads: int | None = None,
    passed_over: dict[int, str] | None = None,
    flip_test: bool = True,
) -> Answers:
    """What a teacher says of all people of a source, each cut out as the teacher wants it, twice: upright and mirrored.

    Without `flip_test`, or where nothing tells which of its keypoints are mirror partners, it is asked about upright
    crops alone. `progress` is told how many persons are done, `say` which number of threads was the fastest; `threads`
    fixes it. Every picture is read once. Where `passed_over` is given, one that cannot be read is noted in it, by its
    id and with what is wrong, and its people keep a confidence of 0.
    """
    device = device or torch.device("cpu")
    teacher.to(device)
    swap = torch.tensor(teacher.skeleton.swap, device=device)
    count = len(source.people)
    keypoints = np.zeros((count, len(swap), 3))
    apart = np.zeros((count, len(swap)))
    with asking(teacher, 2 * count, device=device, say=say, threads=threads):
        for rows, crops, affines in _crops(source, teacher, batch_size, passed_over):
            image = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().to(device)
            upright = teacher(_batch(image, affines)).prediction
            assert upright is not None
            told, apart[rows] = teacher.codec.decode(upright), np.nan
            if flip_test and teacher.skeleton.partners_known:
                mirrored = teacher.codec.flip(teacher(_batch(image.flip(-1), affines)).prediction, swap)
                one, other = told, teacher.codec.decode(mirrored)
                told = teacher.codec.decode(mean_prediction(upright, mirrored))
                px = np.sqrt(np.abs(np.linalg.det(affines[:, :, :2])))[:, None]  # image px per px of the crop
                apart[rows] = px * (one.xy - other.xy).norm(dim=-1).cpu().double().numpy()
            keypoints[rows, :, :2] = transform_points(told.xy.cpu().double().numpy(), affines)
            keypoints[rows, :, 2] = told.score.cpu().double().numpy()
            if progress is not None:
                progress(len(rows))
    return Answers(keypoints, apart)


def _crops(
    source: PoseSource, teacher: Teacher, batch_size: int, passed_over: dict[int, str] | None
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Rows in the source's people, their crops (B, H, W, 3) uint8 RGB, and crop px -> image px (B, 2, 3)."""
    by_image: dict[int, list[int]] = {}
    for row, person in enumerate(source.people):
        by_image.setdefault(person.image_id, []).append(row)
    rows: list[int] = []
    crops: list[np.ndarray] = []
    affines: list[np.ndarray] = []
    for image_id, own in by_image.items():
        try:
            image = source.image(image_id)
        except UserError as error:
            if passed_over is None:
                raise
            passed_over[image_id] = str(error)
            continue
        for row in own:
            affine = _affine(source.people[row], teacher)
            rows.append(row)
            crops.append(warp(image, affine, teacher.input_size))
            affines.append(invert_affine(affine))
            if len(rows) == batch_size:
                yield rows, np.stack(crops), np.stack(affines)
                rows, crops, affines = [], [], []
    if rows:
        yield rows, np.stack(crops), np.stack(affines)


def _affine(person: Person, teacher: Teacher) -> np.ndarray:
    size = teacher.input_size
    return affine_to_input(crop_of_bbox(person.bbox, size, padding=teacher.padding), size)


def _batch(image: torch.Tensor, affines: np.ndarray) -> PoseBatch:
    nothing = image.new_zeros(len(image), 1, 2, dtype=torch.float32)
    return PoseBatch(
        image=image,
        keypoints=nothing,
        weight=nothing[..., 0],
        to_image=torch.from_numpy(affines.astype(np.float32)).to(image.device),
        index=torch.arange(len(image), device=image.device),
    )
