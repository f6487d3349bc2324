"""The keypoints of a dataset: names, mirror partners, edges, OKS spreads. A skeleton travels with data and models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from posestill.keypoints.names import needs_partner, partner_of, read_name, spelled_for_the_other_side
from posestill.schema import Config, UserError, did_you_mean, validate


class Skeleton(Config):
    """A skeleton is K keypoints and how they belong together. All indices are 0-based."""

    names: tuple[str, ...]
    """The names of the K keypoints; no two are the same."""
    swap: tuple[int, ...]
    """The index of each keypoint's mirror partner, K of them; a keypoint on the midline is its own."""
    edges: tuple[tuple[int, int], ...] = ()
    """Pairs of keypoints between which a line is drawn in a picture of a pose."""
    oks_sigmas: tuple[float, ...]
    """The spread of each keypoint in OKS (COCO's `sigmas`), K of them. A larger spread forgives larger errors."""
    upper: tuple[int, ...] = ()
    """The keypoints of the upper half, for the augmentation that shows half a body; where it is empty, that
    augmentation does nothing."""
    pck_pair: tuple[int, int] | None = None
    """The two keypoints whose distance normalises PCK, where both are labelled. None: the longer side of the bbox
    does."""
    parts: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """The (start, stop) of the keypoints of each part by its name, `stop` not included: parts are also evaluated by
    themselves."""
    partners_known: bool = True
    """False: nothing tells which keypoints are mirror partners, so that nothing is mirrored in training or tests."""

    @model_validator(mode="after")
    def _fits_together(self) -> Skeleton:
        count = len(self.names)
        for field in ("swap", "oks_sigmas"):
            if len(getattr(self, field)) != count:
                raise ValueError(f"{field} has {len(getattr(self, field))} entries for {count} keypoint names")
        indices = [*self.swap, *self.upper, *(self.pck_pair or ()), *(end for edge in self.edges for end in edge)]
        if any(not 0 <= index < count for index in indices):
            raise ValueError(f"an index lies outside 0..{count - 1}")
        if any(self.swap[self.swap[index]] != index for index in range(count)):
            raise ValueError("swap must be its own inverse: the partner of a keypoint's partner is the keypoint")
        if len(set(self.names)) != count:
            raise ValueError("two keypoints share a name")
        if not all(sigma > 0 for sigma in self.oks_sigmas):
            raise ValueError("oks_sigmas must be above 0: OKS divides by them")
        for part, (start, stop) in self.parts.items():
            if not 0 <= start < stop <= count:
                raise ValueError(f"part '{part}' is {start}..{stop}, which is no range of {count} keypoints")
        return self

    def __len__(self) -> int:
        return len(self.names)

    def as_metainfo(self) -> dict[str, Any]:
        """What names alone do not tell: mirror partners, or that nobody knows them, and spreads.

        `from_category` reads it, as a metainfo or beside the names of a category.
        """
        pairs = [[index, partner] for index, partner in enumerate(self.swap) if index < partner]
        partners: dict[str, Any] = {"flip_pairs": pairs} if self.partners_known else {"partners_known": False}
        return {**partners, "sigmas": list(self.oks_sigmas)}

    @property
    def lower(self) -> tuple[int, ...]:
        """The keypoints that are not in the upper half."""
        return tuple(index for index in range(len(self)) if index not in self.upper)


def from_category(
    category: Mapping[str, Any], metainfo: Mapping[str, Any] | None = None, *, where: str = ""
) -> Skeleton:
    """The skeleton of a COCO category, completed by `metainfo` (see `read_metainfo`) where the category is silent.

    A COCO category's `skeleton` is 1-based. Mirror partners come from the sides in the names; `partners_known` is False
    where neither these nor `flip_pairs` tell any, or where `metainfo` has `partners_known: False`. Spreads that nothing
    gives are taken from the COCO keypoint of the same name, else 0.079 (CrowdPose's value for the head and neck).
    `where` is the metainfo's file, for messages.
    """
    metainfo = metainfo or {}
    names = tuple(metainfo.get("names") or category.get("keypoints") or ())
    if not names:
        raise UserError(f"category '{category.get('name')}' lists no keypoints: a pose dataset needs their names")
    if category.get("keypoints") and tuple(category["keypoints"]) != names:
        raise UserError(
            f"the metainfo file names {len(names)} keypoints ({names[0]}, ...) and the category "
            f"{len(category['keypoints'])} ({category['keypoints'][0]}, ...): they must be the same, in the same order"
        )
    pairs = metainfo.get("flip_pairs")
    swap = _swap_of_names(names) if pairs is None else _swap_of_pairs(pairs, names, where=where)
    edges = metainfo.get("skeleton")
    if edges is None:
        edges = [[int(start) - 1, int(end) - 1] for start, end in category.get("skeleton") or []]
    upper = metainfo.get("upper_body")
    if upper is None:
        upper = [index for index, name in enumerate(names) if _is_upper(name)]
    pair = metainfo.get("pck_norm")
    settings = {
        "names": names,
        "swap": swap,
        "edges": tuple((int(start), int(end)) for start, end in edges),
        "oks_sigmas": tuple(metainfo.get("sigmas") or known_sigmas(names)),
        "upper": tuple(upper),
        "pck_pair": (names.index(pair[0]), names.index(pair[1])) if pair else None,
        "partners_known": metainfo.get("partners_known", True)
        and (pairs is not None or len(names) == 1 or swap != tuple(range(len(names)))),
    }
    return validate(Skeleton, settings, where=f"category '{category.get('name')}' (a category's skeleton is 1-based)")


def known_sigmas(names: Sequence[str]) -> list[float]:
    """The OKS spread of each keypoint: COCO's for the same part of the body, else 0.079."""
    return [_known_sigma(name) for name in names]


def _swap_of_pairs(pairs: Sequence[Sequence[int]], names: Sequence[str], *, where: str) -> tuple[int, ...]:
    """Partners by pairs of indices, which must not contradict the sides in the names."""
    swap = list(range(len(names)))
    for one, other in pairs:
        swap[one], swap[other] = other, one
    for index, name in enumerate(names):
        partner = partner_of(name, names)
        if partner is not None and names[swap[index]] != partner:
            found = "gives it no partner" if swap[index] == index else f"pairs it with '{names[swap[index]]}'"
            raise UserError(
                f"{f'{where}: ' if where else ''}'{name}' and '{partner}' are mirror partners by their names, and "
                f"flip_pairs (flip_idx) {found}: correct it (indices count from 0), or leave it out"
            )
    return tuple(swap)


def _swap_of_names(names: tuple[str, ...]) -> tuple[int, ...]:
    position = {name: index for index, name in enumerate(names)}
    partners = []
    for index, name in enumerate(names):
        partner = partner_of(name, names)
        if partner is None and needs_partner(name):
            wanted = spelled_for_the_other_side(name)
            hint = did_you_mean(wanted, names)
            raise UserError(f"keypoint '{name}' has no partner '{wanted}'{hint}: rename it or give flip_pairs")
        partners.append(index if partner is None else position[partner])
    return tuple(partners)


_UPPER_WORDS = ("nose", "eye", "ear", "head", "neck", "shoulder", "elbow", "wrist", "hand", "face", "thorax")


def _is_upper(name: str) -> bool:
    return bool(_words(name) & set(_UPPER_WORDS))


def _words(name: str) -> set[str]:
    """`leftEar_top` -> {left, ear, top}: whole words, so that a `forearm` is no ear; `lear` -> {lear, ear}."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    return words | set(read_name(name).part.split())


_COCO_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107,
    "knee": 0.087, "ankle": 0.089,
}  # fmt: skip
"""The published spreads of COCO's keypoint evaluation, by body part."""


def _known_sigma(name: str) -> float:
    return next((sigma for part, sigma in _COCO_SIGMAS.items() if part in _words(name)), 0.079)


_COCO_17_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip

COCO_17 = Skeleton(
    names=_COCO_17_NAMES,
    swap=_swap_of_names(_COCO_17_NAMES),
    edges=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    oks_sigmas=tuple(_known_sigma(name) for name in _COCO_17_NAMES),
    upper=tuple(range(11)),
    pck_pair=(5, 12),
)  # fmt: skip
"""COCO's 17 body keypoints."""

_FOOT_NAMES = (
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_FACE_NAMES = tuple(f"face-{index}" for index in range(68))
_HAND_NAMES = tuple(f"{side}_hand_{index}" for side in ("left", "right") for index in range(21))
_WHOLEBODY_NAMES = (*_COCO_17_NAMES, *_FOOT_NAMES, *_FACE_NAMES, *_HAND_NAMES)

FACE_PAIRS = (
    *((index, 16 - index) for index in range(8)),  # jaw
    *((17 + index, 26 - index) for index in range(5)),  # eyebrows
    (31, 35), (32, 34),  # nostrils
    (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),  # eyes
    (48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67),  # mouth
)  # fmt: skip
"""Mirror partners among the 68 points of a face (iBUG's order); the others lie on the midline."""

_FOOT_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041,
    0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012,
    0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034,
    0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008,
    0.008, 0.008, 0.010, 0.008,
)  # fmt: skip
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021, 0.021,
    0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip


def _wholebody_swap() -> tuple[int, ...]:
    swap = list(_swap_of_names(_WHOLEBODY_NAMES))  # the face's names tell no side
    first = _WHOLEBODY_NAMES.index("face-0")
    for one, other in FACE_PAIRS:
        swap[first + one], swap[first + other] = first + other, first + one
    return tuple(swap)


def _hand_edges(root: int) -> tuple[tuple[int, int], ...]:
    """Five chains of four joints, thumb first, from the wrist of a hand."""
    return tuple((root + (joint - 1 if joint % 4 != 1 else 0), root + joint) for joint in range(1, 21))


COCO_WHOLEBODY = Skeleton(
    names=_WHOLEBODY_NAMES,
    swap=_wholebody_swap(),
    edges=(
        *COCO_17.edges, (15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22), *_hand_edges(91), *_hand_edges(112),
    ),
    oks_sigmas=(*COCO_17.oks_sigmas, *_FOOT_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    upper=(*range(11), *range(23, 133)),
    pck_pair=COCO_17.pck_pair,
    parts={"body": (0, 17), "foot": (17, 23), "face": (23, 91), "lefthand": (91, 112), "righthand": (112, 133)},
)  # fmt: skip
"""COCO-WholeBody's 133 keypoints; spreads: github.com/jin-s13/COCO-WholeBody, evaluation/myeval_wholebody.py."""
