"""Whether a file is read as it wants to be: the declared layout beside plausible others, on some persons.

With labels the figure is mean OKS. Without, it is how well a network agrees with itself on mirrored and shifted crops,
which shows wrong colours, ranges and decoding, but never that left and right were named the wrong way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from posestill.data.source import PoseSource
from posestill.data.topdown import warp
from posestill.geometry import affine_to_input, crop_of_bbox, invert_affine, transform_points
from posestill.keypoints.names import same_keypoint
from posestill.metrics import oks
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.study.intervals import Difference, difference
from posestill.teachers.layouts import Layout, LayoutConfig, PlainLayout
from posestill.teachers.runtime import RuntimeNetwork

SHIFT = 0.04
"""of the crop's side: how far crops are moved to see whether a network agrees with itself"""


@dataclass(frozen=True)
class Variant:
    """One way to read a file."""

    name: str
    layout: Layout
    before: Callable[[np.ndarray], np.ndarray] = lambda crops: crops
    """what is done to crops (B, H, W, 3) uint8 RGB before the layout sees them"""
    after: Callable[[np.ndarray], np.ndarray] = lambda poses: poses
    """what is done to poses (B, K, 3) x y score in input px"""

    def poses(self, network: RuntimeNetwork, crops: np.ndarray) -> np.ndarray:
        """(B, K, 3) x y score in input px, for crops (B, H, W, 3) uint8 RGB."""
        prediction, _ = self.layout.ask(network, np.ascontiguousarray(self.before(crops)))
        found = self.layout.codec.decode(prediction)
        return self.after(torch.cat([found.xy, found.score[..., None]], dim=-1).double().numpy())


@dataclass(frozen=True)
class Checked:
    """How one way of reading did."""

    name: str
    value: np.ndarray
    """(N,) OKS of each person with the labels, or with the network's own answers on changed crops"""
    over_declared: Difference | None
    """of its mean over the declared layout's; None for that one itself"""

    @property
    def mean(self) -> float:
        """Over the persons that have a value."""
        return float(np.nanmean(self.value))


@dataclass(frozen=True)
class TeacherCheck:
    """The declared layout and what else was tried, best first."""

    declared: Checked
    others: tuple[Checked, ...]
    has_labels: bool
    refused: tuple[str, ...]
    """ways that this file cannot be read in, with the reason"""

    @property
    def better(self) -> tuple[Checked, ...]:
        """Ways that are better than the declared one, by intervals that leave out no difference."""
        return tuple(each for each in self.others if each.over_declared is not None and each.over_declared.low > 0)


def check_teacher(
    network: RuntimeNetwork,
    layout: Layout,
    source: PoseSource,
    *,
    people: int = 100,
    progress: Callable[[int], None] | None = None,
) -> TeacherCheck:
    """Ask the network about the same persons in every plausible way; a `UserError` where no names meet."""
    labelled = [each for each in source.people if each.keypoints is not None and not each.crowd]
    has_labels = bool(labelled)
    usable = labelled or [each for each in source.people if not each.crowd]
    if not usable:
        raise UserError("teacher check: there is nobody to ask about")
    chosen = [usable[at] for at in np.linspace(0, len(usable) - 1, min(people, len(usable))).round().astype(int)]
    boxes, images = np.stack([each.bbox for each in chosen]), [source.image(each.image_id) for each in chosen]
    theirs = _positions(source.skeleton, layout.skeleton) if has_labels else np.zeros(0, dtype=int)
    declared, others, refused = variants(layout, network)
    values: dict[str, np.ndarray] = {}
    for variant in (declared, *others):
        try:
            if has_labels:
                poses = _on_images(variant, network, images, boxes)
                values[variant.name] = _oks_with_labels(poses, chosen, theirs, source.skeleton)
            else:
                values[variant.name] = _agreement(variant, network, images, boxes)
        except UserError as error:
            refused = (*refused, f"{variant.name}: {error}")
        if progress is not None:
            progress(1)
    if declared.name not in values:
        raise UserError(f"teacher check: the declared layout cannot be used: {refused[0]}")
    own = values.pop(declared.name)
    checked = [Checked(name, value, difference(value[None], own[None])) for name, value in values.items()]
    ranked = sorted(checked, key=lambda each: -each.mean)
    return TeacherCheck(Checked(declared.name, own, None), tuple(ranked), has_labels, refused)


def variants(layout: Layout, network: RuntimeNetwork) -> tuple[Variant, tuple[Variant, ...], tuple[str, ...]]:
    """The declared way to read a file, the plausible others, and those that the file refuses."""
    swap = np.array(layout.skeleton.swap)
    others = [
        Variant("colours the other way round", layout, before=lambda crops: crops[..., ::-1]),
        Variant("x and y exchanged", layout, after=lambda poses: _exchanged(poses, layout.size)),
    ]
    if not (swap == np.arange(len(swap))).all():
        others.append(Variant("left and right exchanged", layout, after=lambda poses: poses[:, swap]))
    others += [
        Variant(f"crops of {padding:g} times the box", _padded(layout, padding))
        for padding in (1.0, 1.25, 1.5, 1.875)
        if abs(padding - layout.padding) > 0.05
    ]
    refused: list[str] = []
    if isinstance(layout, PlainLayout):
        for name, config in _other_settings(layout.config):
            try:
                others.append(Variant(name, PlainLayout(layout.name, config, network)))
            except UserError as error:
                refused.append(f"{name}: {error}")
    return Variant(f"as declared ({layout.name})", layout), tuple(others), tuple(refused)


def _other_settings(config: LayoutConfig) -> list[tuple[str, LayoutConfig]]:
    """The same layout with another range, normalisation or grid."""
    imagenet = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375), "highest": 255}
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    wanted: list[tuple[str, dict[str, object]]] = [
        ("px from 0 to 255", {**plain, "highest": 255}),
        ("px from 0 to 1", {**plain, "highest": 1}),
        ("px from -1 to 1", {"mean": (127.5,) * 3, "std": (127.5,) * 3, "highest": 255}),
        ("px by ImageNet's moments", imagenet),
    ]
    found = []
    for name, changes in wanted:
        changed = config.model_copy(update=changes)
        if changed != config:
            found.append((name, changed))
    for grid in ("stride", "udp", "cells"):
        if getattr(config.codec, "grid", grid) != grid:
            codec = config.codec.model_copy(update={"grid": grid})
            found.append((f"maps on the grid '{grid}'", config.model_copy(update={"codec": codec})))
    return found


def _padded(layout: Layout, padding: float) -> Layout:
    changed = object.__new__(type(layout))
    changed.__dict__.update(layout.__dict__, padding=padding)
    return changed


def _exchanged(poses: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Poses with x read as y, each stretched to the other side's length."""
    ratio = np.array([size[1] / size[0], size[0] / size[1], 1.0])
    return poses[..., [1, 0, 2]] * ratio


def _on_images(
    variant: Variant, network: RuntimeNetwork, images: Sequence[np.ndarray], boxes: np.ndarray, *, shift: float = 0.0
) -> np.ndarray:
    """(N, K, 3) x y score in image px; `shift` moves each crop by that share of its side."""
    size = variant.layout.size
    crop = crop_of_bbox(boxes, size, padding=variant.layout.padding)
    affine = affine_to_input(replace(crop, centre=crop.centre + shift * crop.extent), size)  # (N, 2, 3)
    crops = np.stack([warp(image, each, size) for image, each in zip(images, affine, strict=True)])
    poses = variant.poses(network, crops)
    return np.concatenate([transform_points(poses[..., :2], invert_affine(affine)), poses[..., 2:]], axis=-1)


def _positions(own: Skeleton, theirs: Skeleton) -> np.ndarray:
    """(K,) the network's keypoint for each of the data's; -1 where it has none."""
    found = [same_keypoint(name, theirs.names) for name in own.names]
    if not any(found):
        raise UserError(
            f"teacher check: none of the data's keypoints ({', '.join(own.names[:3])}, ...) is among the network's "
            f"({', '.join(theirs.names[:3])}, ...)"
        )
    return np.array([-1 if name is None else theirs.names.index(name) for name in found])


def _oks_with_labels(poses: np.ndarray, people: Sequence, theirs: np.ndarray, skeleton: Skeleton) -> np.ndarray:  # type: ignore[type-arg]
    """(N,) OKS over the keypoints that both have."""
    xy = np.where((theirs >= 0)[None, :, None], poses[:, theirs.clip(0), :2], 0.0)
    shown = []
    for person in people:
        keypoints = person.keypoints.copy()
        keypoints[theirs < 0, 2] = 0
        shown.append(replace(person, keypoints=keypoints if keypoints[:, 2].any() else None))
    own = oks.LabelledPeople.of(shown, len(skeleton))
    return oks.mean_oks(xy, own, oks_sigmas=np.array(skeleton.oks_sigmas))


def _agreement(
    variant: Variant, network: RuntimeNetwork, images: Sequence[np.ndarray], boxes: np.ndarray
) -> np.ndarray:
    """(N,) how well a network agrees with itself, as OKS, on crops that are mirrored and crops that are moved.

    Confidence counts: a network that is sure of nothing agrees with itself easily.
    """
    skeleton = variant.layout.skeleton
    straight = _on_images(variant, network, images, boxes)
    moved = _on_images(variant, network, images, boxes, shift=SHIFT)
    flipped = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    widths = np.array([image.shape[1] for image in images])
    other_boxes = boxes.copy()
    other_boxes[:, 0] = widths - boxes[:, 0] - boxes[:, 2]
    mirrored = _on_images(variant, network, flipped, other_boxes)[:, list(skeleton.swap)]
    mirrored[..., 0] = widths[:, None] - 1 - mirrored[..., 0]
    area = boxes[:, 2] * boxes[:, 3] * 0.53
    spread = 2 * (2 * np.array(skeleton.oks_sigmas)) ** 2 * area[:, None]  # (N, K)
    apart = [((other[..., :2] - straight[..., :2]) ** 2).sum(axis=-1) for other in (moved, mirrored)]  # (N, K) each
    alike = [np.exp(-each / spread) for each in apart]
    sure = straight[..., 2].clip(0, 1)
    return np.asarray((np.mean(alike, axis=0) * sure).mean(axis=1))
