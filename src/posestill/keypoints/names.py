"""The usual ways of naming keypoints: `left_ankle`, `LAnkle`, `l_ankle`, `ankle.l` and `lankle` are one keypoint.

Mirror partners and the meeting of two skeletons go by the same reading of a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right", ""]
_SIDES: dict[str, Side] = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"
_OTHER: dict[Side, Side] = {"left": "right", "right": "left", "": ""}
_PARTS = frozenset({
    "eye", "ear", "shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot", "heel", "toe", "bigtoe",
    "smalltoe", "thumb", "pinky", "index",
})  # fmt: skip
"""parts that a side may be glued to, as in `rankle`"""
_SAME = {
    "mid hip": "pelvis", "midhip": "pelvis", "hip": "pelvis", "hip center": "pelvis", "root": "pelvis",
    "upper neck": "neck", "headtop": "head top", "top head": "head top", "bigtoe": "big toe", "smalltoe": "small toe",
}  # fmt: skip
"""other words for one keypoint; a hip without a side is the middle of both"""


@dataclass(frozen=True)
class KeypointName:
    """What a name says: which part of the body, and on which side."""

    part: str
    """words in lower case, such as `big toe`"""
    side: Side
    """empty on the midline"""
    is_glued: bool = False
    """True where the side is only a letter in front of a word (`rear` may mean a right ear, or the rear)"""

    @property
    def mirrored(self) -> tuple[str, Side]:
        """Part and side of the mirror partner."""
        return self.part, _OTHER[self.side]


def read_name(name: str) -> KeypointName:
    """The part and the side that a name speaks of."""
    words = [word.lower() for word in re.findall(_WORDS, name)]
    side: Side = ""
    is_glued = False
    for position, word in enumerate(words):
        if word in _SIDES and len(words) > 1:
            side = _SIDES[word]
            del words[position]
            break
    else:
        if words and words[0][:1] in "lr" and words[0][1:] in _PARTS:
            side, is_glued = _SIDES[words[0][0]], True
            words[0] = words[0][1:]
    part = " ".join(words)
    is_one_hip = bool(side) and part == "hip"
    return KeypointName(part if is_one_hip else _SAME.get(part, part), side, is_glued)


def partner_of(name: str, names: Sequence[str]) -> str | None:
    """The mirror partner of a name among others; None on the midline, or where there is no partner."""
    own = read_name(name)
    if not own.side:
        return None
    return next((each for each in names if each != name and _meaning(each) == own.mirrored), None)


def spelled_for_the_other_side(name: str) -> str:
    """A sided name as its partner would be spelled in the same style: `LAnkle` -> `RAnkle`."""
    swapped = {"left": "right", "l": "r", "lt": "rt", "right": "left", "r": "l", "rt": "lt"}
    for found in re.finditer(_WORDS, name):
        word = found[0]
        if word.lower() in swapped:
            other = swapped[word.lower()]
            other = other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
            return name[: found.start()] + other + name[found.end() :]
    return swapped.get(name[:1].lower(), name[:1]) + name[1:]


def needs_partner(name: str) -> bool:
    """True where a name says plainly that it is one of a pair."""
    own = read_name(name)
    return bool(own.side) and not own.is_glued


def same_keypoint(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that means the same keypoint in whatever style; None where none does, or several do."""
    if name in names:
        return name
    alike = [each for each in names if _meaning(each) == _meaning(name)]
    return alike[0] if len(alike) == 1 else None


def _meaning(name: str) -> tuple[str, Side]:
    found = read_name(name)
    return found.part, found.side
