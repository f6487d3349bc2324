"""Sets of keypoints that published networks know, by name, each in the order of its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posestill.keypoints.metainfo import checked_metainfo
from posestill.schema import UserError
from posestill.skeletons import COCO_17, COCO_WHOLEBODY, Skeleton, from_category

_SIDES = ("left", "right")
HALPE26_NAMES = (
    *COCO_17.names, "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
    "left_heel", "right_heel",
)  # fmt: skip
"""The 26 keypoints of Halpe's body and feet; `hip` is the middle of both."""
BLAZEPOSE_NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right",
    *(f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle",
                                    "heel", "foot_index") for side in _SIDES),
)  # fmt: skip
"""The 33 keypoints of BlazePose."""
_SAPIENS_HAND = tuple(
    f"{finger}{joint}" for finger in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
    for joint in ("4", "3", "2", "_third_joint")
)  # fmt: skip
SAPIENS_NAMES = (
    *(name for name in COCO_17.names if "wrist" not in name), *COCO_WHOLEBODY.names[17:23],
    *(f"right_{name}" for name in (*_SAPIENS_HAND, "wrist")), *(f"left_{name}" for name in (*_SAPIENS_HAND, "wrist")),
    *(f"{side}_{part}" for part in ("olecranon", "cubital_fossa", "acromion") for side in _SIDES), "neck",
    *(f"sapiens_face_{index}" for index in range(70, 308)),
)  # fmt: skip
"""The 308 keypoints of Sapiens: body, feet and hands by name, those of the face by number."""
KEYPOINT_SETS: dict[str, Skeleton] = {
    "coco": COCO_17,
    "halpe26": from_category({"name": "halpe26", "keypoints": HALPE26_NAMES}),
    "blazepose": from_category({"name": "blazepose", "keypoints": BLAZEPOSE_NAMES}),
    "coco-wholebody": COCO_WHOLEBODY,
    # Numbers do not tell which keypoints of the face are mirror partners.
    "sapiens": from_category({"name": "sapiens", "keypoints": SAPIENS_NAMES}).model_copy(
        update={"partners_known": False}
    ),
}


def keypoint_set(
    wanted: str | tuple[str, ...] | None, *, count: int | None, where: str, told: Mapping[str, Any] | None = None
) -> Skeleton:
    """The keypoints that a layout names, or the known set of as many as its file gives.

    `count` is how many the file gives, None where that is not known beforehand. `told`: mirror partners and spreads
    that the layout gives, in the keys of a metainfo file. A `UserError` opened by `where` says which sets there are, or
    that there are not as many.
    """
    known = ", ".join(f"{name} with {len(each)}" for name, each in KEYPOINT_SETS.items())
    if wanted is None:
        wanted = next((name for name, each in KEYPOINT_SETS.items() if len(each) == count), None)
        if wanted is None:
            raise UserError(
                f"{where}: the file gives {count} keypoints, and no known set has as many ({known}): list their names "
                "in a layout of your own (docs/own-layout.md)"
            )
    if isinstance(wanted, str):
        if wanted not in KEYPOINT_SETS:
            raise UserError(f"{where}: no set of keypoints '{wanted}' (known: {known}); or list their names")
        skeleton = KEYPOINT_SETS[wanted]
    else:
        skeleton = from_category({"name": where, "keypoints": wanted})
    if count is not None and count != len(skeleton):
        raise UserError(f"{where}: it has {len(skeleton)} keypoints, and the file gives {count}")
    if told:
        info = checked_metainfo({"skeleton": skeleton.edges, **told}, skeleton.names, where=where)
        info["partners_known"] = told.get("partners_known", True)
        return from_category({"name": where, "keypoints": skeleton.names}, info, where=where)
    return skeleton
