"""What COCO-WholeBody adds to a synthetic body: feet, a rigid face and curling hands, as places in the person's frame.

The person's frame is that of `figure.py`: x to its own left, y up, z the way it faces; metres.
"""

from __future__ import annotations

import numpy as np

from posestill.skeletons import COCO_WHOLEBODY, FACE_PAIRS

PART_NAMES = COCO_WHOLEBODY.names[17:]
"""the 116 places that a body of 17 keypoints does not have"""
NUM_HAND_DRAWS = 20
"""uniform draws that one person's hands consume"""
FINGERS = tuple(tuple(range(first, first + 4)) for first in (1, 5, 9, 13, 17))
"""the joints of a hand, thumb first, each finger from its root to its tip; 0 is the wrist"""
_HAND_DRAWS = NUM_HAND_DRAWS // 2

# Metres from the head's centre to its left, up and forward; the right half and the midline, the rest is mirrored.
_JAW_TURN = np.linspace(-1, 0, 9) * np.pi / 2  # ear to chin
_JAW = np.stack(
    [0.078 * np.sin(0.95 * _JAW_TURN), -0.005 - 0.125 * np.cos(_JAW_TURN) ** 0.9, 0.015 + 0.06 * np.cos(_JAW_TURN)],
    axis=-1,
)  # (9, 3)
_HALF_FACE: dict[int, tuple[float, float, float]] = {
    **{index: (float(x), float(y), float(z)) for index, (x, y, z) in enumerate(_JAW)},
    17: (-0.062, 0.043, 0.068), 18: (-0.052, 0.052, 0.078), 19: (-0.040, 0.055, 0.085), 20: (-0.027, 0.053, 0.089),
    21: (-0.014, 0.048, 0.091),
    27: (0, 0.028, 0.093), 28: (0, 0.013, 0.097), 29: (0, -0.001, 0.102), 30: (0, -0.015, 0.105),
    31: (-0.017, -0.028, 0.089), 32: (-0.009, -0.031, 0.094), 33: (0, -0.033, 0.096),
    36: (-0.051, 0.025, 0.077), 37: (-0.042, 0.031, 0.085), 38: (-0.031, 0.031, 0.087), 39: (-0.021, 0.024, 0.085),
    40: (-0.031, 0.019, 0.086), 41: (-0.042, 0.019, 0.084),
    48: (-0.027, -0.066, 0.082), 49: (-0.017, -0.058, 0.090), 50: (-0.007, -0.055, 0.094), 51: (0, -0.057, 0.095),
    57: (0, -0.081, 0.091), 58: (-0.008, -0.080, 0.090), 59: (-0.017, -0.075, 0.088),
    60: (-0.022, -0.066, 0.083), 61: (-0.008, -0.063, 0.092), 62: (0, -0.063, 0.093),
    66: (0, -0.071, 0.092), 67: (-0.008, -0.070, 0.091),
}  # fmt: skip

# Metres from the wrist towards the fingers and towards the thumb's side; the lengths of the three bones beyond.
_ROOTS = np.array([(0.025, 0.026), (0.085, 0.026), (0.088, 0.006), (0.082, -0.014), (0.074, -0.032)])
_BONES = np.array([
    (0.040, 0.032, 0.026), (0.038, 0.023, 0.019), (0.042, 0.026, 0.020), (0.038, 0.024, 0.019), (0.030, 0.018, 0.017),
])  # fmt: skip
_FAN = np.deg2rad([48, 9, 1, -7, -16])
"""how far each finger points to the thumb's side when the hand is spread as usual"""
_CURL = np.deg2rad([(10, 25, 40), (25, 75, 115), (25, 75, 115), (25, 75, 115), (25, 75, 115)])
"""how far each bone of each finger turns to the palm in a loose fist"""


def add_parts(places: dict[str, np.ndarray], draws: np.ndarray) -> dict[str, np.ndarray]:
    """The places (N, 3) of a body by name, and those of its 116 further keypoints; `draws` is (N, NUM_HAND_DRAWS)."""
    feet = [_foot(places, side, sign) for side, sign in _SIDES]
    hands = [
        _hand(places, side, sign, draws[:, index * _HAND_DRAWS : (index + 1) * _HAND_DRAWS])
        for index, (side, sign) in enumerate(_SIDES)
    ]
    parts = np.concatenate([*feet, _face(places), *hands], axis=1)  # (N, 116, 3)
    return {**places, **{name: parts[:, index] for index, name in enumerate(PART_NAMES)}}


_SIDES = (("l", 1.0), ("r", -1.0))


def _foot(places: dict[str, np.ndarray], side: str, sign: float) -> np.ndarray:
    """(N, 3, 3) big toe, small toe, heel."""
    ankle = places[f"ankle_{side}"]
    down = _unit(ankle - places[f"knee_{side}"])
    forward = _across(places[f"toe_{side}"] - ankle, down)
    outwards = sign * np.cross(forward, down)
    return np.stack(
        [
            ankle + 0.170 * forward + 0.050 * down - 0.018 * outwards,
            ankle + 0.135 * forward + 0.050 * down + 0.034 * outwards,
            ankle - 0.040 * forward + 0.045 * down,
        ],
        axis=1,
    )


def _face(places: dict[str, np.ndarray]) -> np.ndarray:
    """(N, 68, 3) the points of a face, fixed to the head."""
    forward, above = places["face"], _unit(places["crown"] - places["head"])
    frame = np.stack([np.cross(above, forward), above, forward], axis=1)  # (N, 3, 3)
    return places["head"][:, None] + _FACE @ frame


def _whole_face() -> np.ndarray:
    partner = {**dict(FACE_PAIRS), **{other: one for one, other in FACE_PAIRS}}
    mirrored = {partner[index]: (-x, y, z) for index, (x, y, z) in _HALF_FACE.items() if index in partner}
    every = {**mirrored, **_HALF_FACE}
    return np.array([every[index] for index in range(68)])


_FACE = _whole_face()
"""(68, 3) metres to the head's left, up and forward"""


def _hand(places: dict[str, np.ndarray], side: str, sign: float, draws: np.ndarray) -> np.ndarray:
    """(N, 21, 3) wrist and fingers: along the forearm, turned about it, fanned and curled."""
    wrist = places[f"wrist_{side}"]
    along = _unit(places[f"hand_{side}"] - wrist)
    thumbwards = _across(np.broadcast_to([-0.3 * sign, 0.5, 1.0], wrist.shape), along)  # a hanging arm's thumb: forward
    palm = sign * np.cross(along, thumbwards)  # the palm of a hanging arm faces the thigh
    roll = np.deg2rad(50) * (2 * draws[:, 0:1] - 1)
    thumbwards, palm = np.cos(roll) * thumbwards + np.sin(roll) * palm, np.cos(roll) * palm - np.sin(roll) * thumbwards
    spread = 0.6 + 0.8 * draws[:, 1:2]
    curl = (draws[:, 2:3] ** 1.5 + 0.3 * (draws[:, 3:8] - 0.5)).clip(0, 1)  # (N, 5)

    fan = _FAN * spread  # (N, 5)
    pointing = np.cos(fan)[..., None] * along[:, None] + np.sin(fan)[..., None] * thumbwards[:, None]  # (N, 5, 3)
    bend = _CURL * curl[..., None]  # (N, 5, 3 bones)
    bones = np.cos(bend)[..., None] * pointing[:, :, None] + np.sin(bend)[..., None] * palm[:, None, None]
    roots = wrist[:, None] + _ROOTS[:, 0:1] * along[:, None] + _ROOTS[:, 1:2] * thumbwards[:, None]  # (N, 5, 3)
    beyond = roots[:, :, None] + (bones * _BONES[..., None]).cumsum(axis=2)  # (N, 5, 3 bones, 3)
    fingers = np.concatenate([roots[:, :, None], beyond], axis=2).reshape(len(wrist), 20, 3)
    return np.concatenate([wrist[:, None], fingers], axis=1)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector, axis=-1, keepdims=True) + 1e-9)


def _across(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The direction (N, 3) of `vector` without what points along the unit vector `axis`."""
    return _unit(vector - axis * (vector * axis).sum(axis=-1, keepdims=True))
