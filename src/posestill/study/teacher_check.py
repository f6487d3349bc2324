"""Whether a file is read as it wants to be: the declared layout beside plausible others, on some persons.

With labels the figure is mean OKS. Without, it is how well a network agrees with itself on mirrored and shifted crops,
which shows wrong colours, ranges and decoding, but never that left and right were named the wrong way round. What
differs only in how the answers are read shares one question to the network.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from posestill.data.source import PoseSource
from posestill.data.topdown import warp
from posestill.geometry import affine_to_input, crop_of_bbox, invert_affine, transform_points
from posestill.keypoints.names import same_keypoint
from posestill.metrics import oks
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.study.intervals import Difference, difference, holm
from posestill.teachers.layouts import IMAGENET_MEAN, IMAGENET_STD, LayoutConfig
from posestill.teachers.plain import Layout, PlainLayout
from posestill.teachers.runtime import RuntimeNetwork
from posestill.teachers.threads import CROPS, fastest
from posestill.types import Person

SHIFT = (0.08, -0.04)
"""of the box at the crop's aspect: how far crops are moved to see whether a network agrees with itself"""
FEWEST = 5
"""persons that a comparison needs"""
LOT = 16
"""persons whose crops are in memory at a time"""
CHANCE = 0.05
"""how often a layout that is right may be called wrong, all its variants together"""
MARGIN = 0.05
"""of the declared layout's agreement: what another must gain beyond it. A smaller crop makes networks surer of the same
places, and so does much that is no mistake"""
Bar = Callable[[str, int], AbstractContextManager[Any]]
"""A progress bar: what is done, for how many crops; its `advance` is told of each further lot."""
View = Literal["straight", "moved", "mirrored"]
"""how a person is shown: as a training would, with the crop moved, with the picture mirrored"""


@dataclass(frozen=True)
class Variant:
    """One way to read a file."""

    name: str
    layout: Layout
    reverses_colours: bool = False
    """True: the layout is handed crops in BGR"""
    after: Callable[[np.ndarray], np.ndarray] = lambda poses: poses
    """what is done to poses (B, K, 3) x y score in input px"""

    @property
    def given(self) -> Hashable:
        """What decides what the network is given: variants that have it in common share its answers."""
        return self.layout.size, self.layout.padding, self.layout.given, self.reverses_colours

    def poses(self, found: dict[str, np.ndarray]) -> np.ndarray:
        """(B, K, 3) x y score in input px, from what the layout's `look` found."""
        read = self.layout.codec.decode(self.layout.prediction(found))
        return self.after(torch.cat([read.xy, read.score[..., None]], dim=-1).double().numpy())


@dataclass(frozen=True)
class Checked:
    """How one way of reading did."""

    name: str
    value: np.ndarray
    """(N,) OKS of each person with the labels, or with the network's own answers on changed crops"""
    over_declared: Difference | None
    """of its mean over the declared layout's; None for that one itself"""
    p: float
    """of being as much better by chance, for all variants together (Holm)"""
    rank: int
    """its place in the order in which the variants are tried, the usual one first"""

    @property
    def mean(self) -> float:
        """Over the persons that have a value."""
        return float(np.nanmean(self.value))


@dataclass(frozen=True)
class TeacherCheck:
    """The declared layout and what else was tried, best first."""

    declared: Checked
    layout: str
    """its name"""
    candidates: tuple[str, ...]
    """the layouts that the file may have, best first, where it did not tell; else only its own"""
    others: tuple[Checked, ...]
    has_labels: bool
    over_anybody: Difference | None
    """of the declared layout's OKS over that of answers given to the wrong persons; None without labels"""
    without: tuple[str, ...]
    """the data's keypoints that are not among the network's, by name"""
    refused: tuple[str, ...]
    """ways that this file cannot be read in, with the reason"""

    @property
    def sees(self) -> bool:
        """False: the answers fit any other person as well, so that the network does not see whom it is asked about."""
        return self.over_anybody is None or self.over_anybody.low > 0

    @property
    def better(self) -> tuple[Checked, ...]:
        """Ways that are better than the declared one beyond chance, best first."""
        return tuple(each for each in self.others if each.p < CHANCE)

    @property
    def remedy(self) -> Checked | None:
        """What to change: of the better ways the best or, of those that are as good but for chance, the usual one."""
        if not self.better:
            return None
        best = self.better[0]
        beaten = [each for each in self.better if difference(best.value[None], each.value[None]).low > 0]
        as_good = [each for each in self.better if all(each is not other for other in beaten)]
        return min(as_good, key=lambda each: each.rank)


def check_teacher(
    network: RuntimeNetwork,
    layouts: Sequence[Layout],
    source: PoseSource,
    *,
    people: int = 100,
    bar: Bar | None = None,
    say: Callable[[str], None] | None = None,
) -> TeacherCheck:
    """Ask the network about the same persons in every plausible way; a `UserError` where no names meet.

    `layouts` is the declared one, or those that the file may have: then the best of them is taken for the declared one.
    `say` is told which number of threads was found to be the fastest.
    """
    crops = np.zeros((CROPS, *layouts[0].size, 3), dtype=np.uint8)
    with suppress(UserError):  # a layout that cannot be used is told below
        found = fastest(network, lambda each: layouts[0].look(each, crops))
        network = found.network
        if found.trial is not None and say is not None:
            say(f"threads: {found.trial}")
    asked = _Asked(network, source, people, bar or (lambda what, count: nullcontext()))
    named = [Variant(layout.name, layout) for layout in layouts]
    if len(named) > 1:
        named = _best_first(named, asked)
    declared, others, refused = variants(named[0].layout, network)
    values, failed = asked.values((declared, *named[1:], *others), "asking in every plausible way")
    if declared.name not in values:
        raise UserError(f"teacher check: the declared layout cannot be used: {failed[0]}")
    taken = values.pop(declared.name)
    own = taken.value
    over = {name: difference(each.value[None], own[None]) for name, each in values.items()}
    threshold = own * (1 if asked.has_labels else 1 + MARGIN)
    p = holm({name: _chance(difference(each.value[None], threshold[None])) for name, each in values.items()})
    checked = [Checked(name, values[name].value, over[name], p[name], rank) for rank, name in enumerate(values)]
    return TeacherCheck(
        declared=Checked(declared.name, own, None, 1.0, -1),
        layout=named[0].name,
        candidates=tuple(each.name for each in named),
        others=tuple(sorted(checked, key=lambda each: -each.mean)),
        has_labels=asked.has_labels,
        over_anybody=None if taken.of_another is None else difference(own[None], taken.of_another[None]),
        without=asked.without(named[0].layout.skeleton),
        refused=(*refused, *failed),
    )


def variants(layout: Layout, network: RuntimeNetwork) -> tuple[Variant, tuple[Variant, ...], tuple[str, ...]]:
    """The declared way to read a file, the plausible others, and those that the file refuses."""
    swap = np.array(layout.skeleton.swap)
    others = [
        Variant("colours the other way round", layout, reverses_colours=True),
        Variant("x and y exchanged", layout, after=lambda poses: _exchanged(poses, layout)),
    ]
    if not (swap == np.arange(len(swap))).all():
        others.append(Variant("left and right exchanged", layout, after=lambda poses: poses[:, swap]))
    others += [
        Variant(f"crops of {padding:g} times the box", _padded(layout, padding))
        for padding in (1.25, 1.0, 1.5, 1.875)  # the usual one first: of equally good ones it is named
        if abs(padding - layout.padding) > 0.05
    ]
    refused: dict[str, list[str]] = {}
    if isinstance(layout, PlainLayout):
        for name, config in _other_settings(layout.config):
            try:
                others.append(Variant(name, PlainLayout(layout.name, config, network)))
            except UserError as error:
                refused.setdefault(str(error).removeprefix("teacher.layout: "), []).append(name)
    told = tuple(f"{', '.join(names)}: {reason}" for reason, names in refused.items())
    return Variant(f"as declared ({layout.name})", layout), tuple(others), told


def _other_settings(config: LayoutConfig) -> list[tuple[str, LayoutConfig]]:
    """The same layout with another range, normalisation or grid."""
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    wanted: list[tuple[str, dict[str, object]]] = [
        ("px from 0 to 255", {**plain, "highest": 255}),
        ("px from 0 to 1", {**plain, "highest": 1}),
        ("px from -1 to 1", {"mean": (127.5,) * 3, "std": (127.5,) * 3, "highest": 255}),
        ("px by ImageNet's moments", {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "highest": 255}),
    ]
    # The same numbers may be written on two scales.
    own = _as_line(config)
    changed = [(name, config.model_copy(update=changes)) for name, changes in wanted]
    found = [(name, each) for name, each in changed if not np.allclose(_as_line(each), own, rtol=1e-3, atol=1e-3)]
    for grid in ("stride", "udp", "cells"):
        if getattr(config.codec, "grid", grid) != grid:
            codec = config.codec.model_copy(update={"grid": grid})
            found.append((f"maps on the grid '{grid}'", config.model_copy(update={"codec": codec})))
    return found


def _as_line(config: LayoutConfig) -> np.ndarray:
    """(2, 3) what a black px and a fully bright one become, a number for each colour."""
    return (np.array([[0.0], [config.highest]]) - np.array(config.mean)) / np.array(config.std)


class _Asked:
    """Some persons of a source, and a network that is asked about them."""

    def __init__(self, network: RuntimeNetwork, source: PoseSource, people: int, bar: Bar) -> None:
        self.network, self.source, self.bar = network, source, bar
        labelled = [each for each in source.people if each.keypoints is not None and not each.crowd]
        self.has_labels = bool(labelled)
        usable = labelled or [each for each in source.people if not each.crowd]
        if len(usable) < FEWEST:
            what = "with labels" if labelled else "at all"
            raise UserError(f"teacher check: {len(usable)} persons {what} are too few to tell: {FEWEST} are needed")
        chosen = np.linspace(0, len(usable) - 1, min(people, len(usable))).round().astype(int)
        self.people = [usable[at] for at in chosen]

    @dataclass(frozen=True)
    class Found:
        """How the persons were answered about."""

        value: np.ndarray
        """(N,) see `Checked`"""
        score: float
        """the mean confidence"""
        of_another: np.ndarray | None = None
        """(N,) OKS of the answer about another person, put into this one's box; None without labels"""

    def values(self, asked: Sequence[Variant], what: str) -> tuple[dict[str, Found], list[str]]:
        """How each variant did, by its name, and why others cannot be used."""
        views: tuple[View, ...] = ("straight",) if self.has_labels else ("straight", "moved", "mirrored")
        if not self.has_labels:
            asked = [each for each in asked if each.name != "left and right exchanged"]  # it agrees with itself as well
        groups: dict[Hashable, list[Variant]] = {}
        for variant in asked:
            groups.setdefault(variant.given, []).append(variant)
        failed: list[str] = []
        values = {}
        with self.bar(what, len(groups) * len(views) * len(self.people)) as bar:
            for group in groups.values():
                poses: dict[str, list[np.ndarray]] = {each.name: [] for each in group}
                try:
                    for view in views:
                        for each, found in zip(group, self._poses(group, view, bar), strict=True):
                            poses[each.name].append(found)
                except UserError as error:
                    failed += [f"{each.name}: {error}" for each in group]
                    continue
                for each in group:
                    values[each.name] = self._judged(each, poses[each.name])
        return {each.name: values[each.name] for each in asked if each.name in values}, failed

    def without(self, skeleton: Skeleton) -> tuple[str, ...]:
        """The data's keypoints that are not among those of a network."""
        own = self.source.skeleton.names if self.has_labels else ()
        return tuple(name for name in own if same_keypoint(name, skeleton.names) is None)

    def _poses(self, group: Sequence[Variant], view: View, bar: Any) -> list[np.ndarray]:
        """Of each variant (N, K, 3) x y score in px of the picture as it is; the network is asked once for all."""
        layout, found = group[0].layout, []
        for lot in _lots(self.people):
            pictures = [self.source.image(each.image_id) for each in lot]
            boxes = np.stack([each.bbox for each in lot])
            widths = np.array([picture.shape[1] for picture in pictures])
            if view == "mirrored":
                pictures = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
                boxes[:, 0] = widths - 1 - boxes[:, 0] - boxes[:, 2]
            crop = crop_of_bbox(boxes, layout.size, padding=layout.padding)
            if view == "moved":
                crop = replace(crop, centre=crop.centre + np.array(SHIFT) * crop.extent / layout.padding)
            affine = affine_to_input(crop, layout.size)  # (B, 2, 3)
            crops = np.stack([warp(each, to, layout.size) for each, to in zip(pictures, affine, strict=True)])
            seen = np.ascontiguousarray(crops[..., ::-1]) if group[0].reverses_colours else crops
            answer = layout.look(self.network, seen)
            for variant in group:
                poses = np.nan_to_num(variant.poses(answer), nan=-1e4, posinf=-1e4, neginf=-1e4)
                xy = transform_points(poses[..., :2], invert_affine(affine))
                poses = np.concatenate([xy, poses[..., 2:]], axis=-1)
                if view == "mirrored":
                    poses = poses[:, list(layout.skeleton.swap)]
                    poses[..., 0] = widths[:, None] - 1 - poses[..., 0]
                found.append(poses)
            if bar is not None:
                bar.advance(len(lot))
        return [np.concatenate(found[at :: len(group)]) for at in range(len(group))]

    def _judged(self, variant: Variant, poses: Sequence[np.ndarray]) -> Found:
        score = float(poses[0][..., 2].clip(0, 1).mean())
        if self.has_labels:
            theirs = variant.layout.skeleton
            return self.Found(self._oks(poses[0], theirs), score, self._oks(self._of_another(poses[0]), theirs))
        return self.Found(self._agreement(poses, variant.layout.skeleton), score)

    def _of_another(self, poses: np.ndarray) -> np.ndarray:
        """(N, K, 3) the poses of the persons before, each moved and scaled into this person's box."""
        box = np.stack([each.bbox for each in self.people])[:, None]  # (N, 1, 4) x y w h
        moved = np.roll(np.concatenate([(poses[..., :2] - box[..., :2]) / box[..., 2:], poses[..., 2:]], axis=-1), 1, 0)
        return np.concatenate([moved[..., :2] * box[..., 2:] + box[..., :2], moved[..., 2:]], axis=-1)

    def _oks(self, poses: np.ndarray, theirs: Skeleton) -> np.ndarray:
        """(N,) OKS over the keypoints that both have."""
        own = self.source.skeleton
        names = [same_keypoint(name, theirs.names) for name in own.names]
        if not any(names):
            raise UserError(
                f"teacher check: none of the data's keypoints ({', '.join(own.names[:3])}, ...) is among the network's "
                f"({', '.join(theirs.names[:3])}, ...)"
            )
        shown = []
        for person in self.people:
            assert person.keypoints is not None
            keypoints = person.keypoints.copy()
            keypoints[[name is None for name in names], 2] = 0
            shown.append(replace(person, keypoints=keypoints))
        at = [0 if name is None else theirs.names.index(name) for name in names]
        truth = oks.LabelledPeople.of(shown, len(own))
        if truth.labelled.any(axis=1).sum() < FEWEST:
            raise UserError("teacher check: hardly any person has a label of a keypoint that the network knows")
        return oks.mean_oks(poses[:, at, :2], truth, oks_sigmas=own.oks_sigmas)

    def _agreement(self, poses: Sequence[np.ndarray], skeleton: Skeleton) -> np.ndarray:
        """(N,) how well a network agrees with itself, as OKS, on crops that are moved and pictures that are mirrored.

        Confidence counts: a network that is sure of nothing agrees with itself easily.
        """
        straight, *others = poses
        area = np.array([0.53 * each.bbox[2] * each.bbox[3] for each in self.people])
        spread = 2 * (2 * np.array(skeleton.oks_sigmas)) ** 2 * np.maximum(area, 1.0)[:, None]  # (N, K)
        apart = [((other[..., :2] - straight[..., :2]) ** 2).sum(axis=-1) for other in others]  # (N, K) each
        alike = np.mean([np.exp(-each / spread) for each in apart], axis=0)
        return np.asarray((alike * straight[..., 2].clip(0, 1)).mean(axis=1))


def _best_first(named: Sequence[Variant], asked: _Asked) -> list[Variant]:
    """The layouts that a file may have by mean OKS; of equal ones first whose scores are about as high as that."""
    names = ", ".join(each.name for each in named)
    if not asked.has_labels:
        raise UserError(f"teacher check: the file may have the layouts {names}, which only labels tell: say which")
    found, failed = asked.values(named, "asking which layout it has")
    if not found:
        raise UserError(f"teacher check: none of the layouts {names} can be used: {failed[0]}")

    def rank(variant: Variant) -> tuple[float, float]:
        mean = float(np.nanmean(found[variant.name].value))
        return -round(mean, 6), abs(found[variant.name].score - mean)

    return sorted((each for each in named if each.name in found), key=rank)


def _chance(over: Difference) -> float:
    """One-sided: how often so large a gain, or a larger one, would be chance."""
    return over.p / 2 if over.mean > 0 else 1 - over.p / 2


def _lots(people: Sequence[Person]) -> Iterator[Sequence[Person]]:
    for start in range(0, len(people), LOT):
        yield people[start : start + LOT]


def _padded(layout: Layout, padding: float) -> Layout:
    changed = object.__new__(type(layout))
    changed.__dict__.update(layout.__dict__, padding=padding)
    return changed


def _exchanged(poses: np.ndarray, layout: Layout) -> np.ndarray:
    """Poses with x read as y; shares of one side are shares of the other, px are px."""
    in_px = isinstance(layout, PlainLayout) and getattr(layout.config.output, "unit", "") == "px"
    height, width = (1, 1) if in_px else layout.size
    return poses[..., [1, 0, 2]] * np.array([width / height, height / width, 1.0])
