"""The bodies of synthetic people: joint angles to joints in space, to keypoints and drawable parts on an image.

The person's frame: x to its own left, y up, z the way it faces; metres. The camera's: x right, y down, z away. All is
computed for N people at once from N rows of uniform draws, so that listing thousands costs no rendering.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from posestill.data.synthetic.parts import PART_NAMES, add_parts
from posestill.schema import Config
from posestill.types import Size

NUM_DRAWS = 64
"""uniform draws that one person's body consumes"""


class Profile(Config):
    """A profile says how hard synthetic people are."""

    yaw: float
    """How far people are turned from the camera at most, to either side, in degrees; at 180 some are seen from
    behind."""
    roll: float
    """How far people are tilted in the image at most, to either side, in degrees."""
    poses: tuple[str, ...]
    """The classes of poses that people are drawn from, such as standing or walking. More classes vary the poses
    more."""
    looseness: float
    """How far joint angles stray from their pose class, as a multiple of the class's own spread. The larger, the more
    poses vary."""
    fill: tuple[float, float]
    """The least and the greatest share of the image that a figure takes along the side on which it fits most
    tightly."""
    clutter: int
    """The greatest number of shapes in the background."""
    occluders: float
    """The probability that something stands in front of a person and hides keypoints."""
    distractor: float
    """The probability that a second, unlabelled figure stands behind a person."""
    noise: float
    """The standard deviation of the image's grain, in grey levels."""


# Degrees, (mean, spread): torso lean forward, then per side (left, right): arm out, arm forward, elbow, forearm twist
# inwards, hip forward, leg out, knee.
_ANGLES = (
    "lean", "arm_out_l", "arm_out_r", "arm_forward_l", "arm_forward_r", "elbow_l", "elbow_r", "twist_l", "twist_r",
    "hip_l", "hip_r", "leg_out_l", "leg_out_r", "knee_l", "knee_r",
)  # fmt: skip
_REST = {"lean": (2, 4), "arm_out": (12, 8), "arm_forward": (0, 12), "elbow": (20, 14), "twist": (20, 20),
         "hip": (2, 6), "leg_out": (6, 4), "knee": (5, 5)}  # fmt: skip
_POSES: dict[str, dict[str, tuple[float, float]]] = {
    "standing": {},
    "walking": {"arm_forward_l": (28, 10), "arm_forward_r": (-28, 10), "hip_l": (-18, 8), "hip_r": (26, 8),
                "knee_l": (32, 14), "knee_r": (10, 6)},
    "raised": {"arm_out": (140, 18), "elbow": (25, 20), "twist": (60, 20)},
    "wide": {"arm_out": (85, 14), "elbow": (15, 14), "leg_out": (16, 6)},
    "reaching": {"arm_forward_l": (80, 18), "elbow_l": (18, 14), "arm_out_l": (20, 14)},
    "waving": {"arm_out_l": (75, 14), "elbow_l": (85, 20), "twist_l": (-80, 20)},
    "akimbo": {"arm_out": (42, 6), "elbow": (100, 10), "twist": (80, 10), "arm_forward": (-10, 6)},
    "bending": {"lean": (50, 14), "knee": (18, 10), "arm_forward": (20, 25), "hip": (4, 6)},
    "sitting": {"hip": (82, 9), "knee": (80, 12), "arm_forward": (25, 20), "elbow": (50, 25)},
    "lunging": {"hip_l": (65, 10), "knee_l": (70, 12), "hip_r": (-25, 8), "knee_r": (25, 12), "lean": (12, 8)},
}  # fmt: skip
ALL_POSES = tuple(_POSES)

PARTS = (
    "torso", "neck", "head", "upper_arm_l", "upper_arm_r", "forearm_l", "forearm_r", "thigh_l", "thigh_r", "shank_l",
    "shank_r", "foot_l", "foot_r",
)  # fmt: skip
_RADII = np.array([
    (0.12, 0.115), (0.05, 0.05), (0.1, 0.085), (0.052, 0.042), (0.052, 0.042), (0.04, 0.032), (0.04, 0.032),
    (0.082, 0.058), (0.082, 0.058), (0.055, 0.04), (0.055, 0.04), (0.042, 0.032), (0.042, 0.032),
])  # fmt: skip
"""(P, 2) metres at the two ends of each part"""
_KEYPOINT_PARTS: tuple[tuple[str, ...], ...] = (
    *[("head",)] * 5,
    ("torso", "upper_arm_l"), ("torso", "upper_arm_r"), ("upper_arm_l", "forearm_l"), ("upper_arm_r", "forearm_r"),
    ("forearm_l",), ("forearm_r",), ("torso", "thigh_l"), ("torso", "thigh_r"), ("thigh_l", "shank_l"),
    ("thigh_r", "shank_r"), ("shank_l", "foot_l"), ("shank_r", "foot_r"),
)  # fmt: skip
"""which parts each COCO keypoint lies in: they do not hide it"""
_AT_ONCE = 250
"""people whose 133 keypoints are tested for cover together: bounds the memory"""
_FACE_DEPTH = 0.02
"""metres behind the head's middle from which on its own curve hides a point of the face"""


@dataclass(frozen=True)
class Figures:
    """N people as their camera sees them."""

    keypoints: np.ndarray
    """(N, K, 2) image px; K is 17, or COCO-WholeBody's 133, which begin with the same 17"""
    hidden: np.ndarray
    """(N, K) bool: behind another part of the same body"""
    ends: np.ndarray
    """(N, P, 2, 2) image px: the two ends of each part"""
    radii: np.ndarray
    """(N, P, 2) px"""
    depth: np.ndarray
    """(N, P) camera z: larger is farther"""
    hull: np.ndarray
    """(N, 4, 2) image px: shoulders and hips, left, right, right, left"""
    facing: np.ndarray
    """(N,) 1 when the face looks into the camera, -1 when away"""
    bbox: np.ndarray
    """(N, 4) x y w h image px, before clipping"""

    def moved(self, scale: np.ndarray, offset: np.ndarray) -> Figures:
        """Put the same people elsewhere: places of person n are taken `scale[n]` times, then moved by `offset[n]` px.

        `scale` is (N,) and `offset` (N, 2).
        """

        def move(places: np.ndarray) -> np.ndarray:
            shape = (len(scale),) + (1,) * (places.ndim - 2)
            return places * scale.reshape(*shape, 1) + offset.reshape(*shape, 2)

        extent = self.bbox[:, 2:] * scale[:, None]
        return replace(
            self,
            keypoints=move(self.keypoints),
            ends=move(self.ends),
            radii=self.radii * scale[:, None, None],
            hull=move(self.hull),
            bbox=np.concatenate([move(self.bbox[:, :2]), extent], axis=-1),
        )


def pose_people(draws: np.ndarray, profile: Profile, size: Size, hand_draws: np.ndarray | None = None) -> Figures:
    """Bodies for (N, NUM_DRAWS) uniform draws on images of `size`.

    With `hand_draws` (N, NUM_HAND_DRAWS) they have COCO-WholeBody's 133 keypoints; the first 17 and all else are the
    same to the bit.
    """
    angles = _draw_angles(draws[:, 0:16], profile)
    joints = _joints_in_space(angles, draws[:, 16:32])
    if hand_draws is not None:
        joints = add_parts(joints, hand_draws)
    camera = _into_camera(joints, draws[:, 32:40], profile)
    return _project(camera, draws[:, 40:46], size, profile)


def _draw_angles(draws: np.ndarray, profile: Profile) -> dict[str, np.ndarray]:
    """Radians by name, (N,) each: a pose class, mirrored or not, and a spread around it."""
    chosen = (draws[:, 0] * len(profile.poses)).astype(int)
    means, spreads = (np.array([[_angle(pose, name)[part] for name in _ANGLES] for pose in profile.poses])
                      for part in (0, 1))  # fmt: skip
    # The sum of nothing but one uniform draw stays within +-1.7 spreads: limbs never bend to where limbs cannot.
    spread = (draws[:, 1:] - 0.5) * np.sqrt(12) * profile.looseness  # (N, 15)
    degrees = means[chosen] + spreads[chosen] * spread
    mirrored = draws[:, 0] * len(profile.poses) % 1 < 0.5
    names = list(_ANGLES)
    partner = [names.index(_other_side(name)) for name in names]
    degrees = np.where(mirrored[:, None], degrees[:, partner], degrees)
    values = dict(zip(names, np.deg2rad(degrees).T, strict=True))
    for name in ("elbow_l", "elbow_r", "knee_l", "knee_r"):
        values[name] = np.clip(values[name], 0, np.deg2rad(145))
    return values


def _angle(pose: str, name: str) -> tuple[float, float]:
    general = name.removesuffix("_l").removesuffix("_r")
    given = _POSES[pose]
    return given.get(name) or given.get(general) or _REST[general]


def _other_side(name: str) -> str:
    return name[:-1] + {"l": "r", "r": "l"}[name[-1]] if name[-2:] in ("_l", "_r") else name


def _joints_in_space(angles: dict[str, np.ndarray], draws: np.ndarray) -> dict[str, np.ndarray]:
    """Places (N, 3) in the person's frame by name."""
    count = len(draws)
    build = 0.9 + 0.2 * draws[:, 0]
    shoulder, hip = 0.19 * (0.88 + 0.24 * draws[:, 1]), 0.1 * (0.88 + 0.24 * draws[:, 2])
    torso, arm, leg = 0.5 * build, 0.29 * (0.92 + 0.16 * draws[:, 3]), 0.43 * (0.92 + 0.16 * draws[:, 4])

    def vector(x: np.ndarray | float, y: np.ndarray | float, z: np.ndarray | float) -> np.ndarray:
        return np.stack([np.broadcast_to(np.asarray(each, dtype=float), (count,)) for each in (x, y, z)], axis=-1)

    lean, side_lean = angles["lean"], np.deg2rad(8) * (2 * draws[:, 5] - 1)
    up = vector(-np.sin(side_lean), np.cos(lean) * np.cos(side_lean), np.sin(lean))  # (N, 3) along the spine
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    neck = up * torso[:, None]
    places = {"neck": neck, "pelvis": vector(0, 0, 0)}
    for side, sign in (("l", 1.0), ("r", -1.0)):
        places[f"shoulder_{side}"] = neck + vector(sign * shoulder, sign * shoulder * np.tan(-side_lean) * 0.3, 0)
        upper = _limb(angles[f"arm_out_{side}"], angles[f"arm_forward_{side}"], sign)
        twist = angles[f"twist_{side}"]
        towards = vector(-sign * np.sin(twist), 0.15, np.cos(twist))
        towards -= upper * (towards * upper).sum(axis=-1, keepdims=True)
        towards /= np.linalg.norm(towards, axis=-1, keepdims=True) + 1e-6
        elbow = angles[f"elbow_{side}"][:, None]
        fore = np.cos(elbow) * upper + np.sin(elbow) * towards
        places[f"elbow_{side}"] = places[f"shoulder_{side}"] + upper * arm[:, None]
        places[f"wrist_{side}"] = places[f"elbow_{side}"] + fore * arm[:, None] * 0.9
        places[f"hand_{side}"] = places[f"wrist_{side}"] + fore * 0.09
        places[f"hip_{side}"] = vector(sign * hip, -0.02, 0)
        thigh = _limb(angles[f"leg_out_{side}"], angles[f"hip_{side}"], sign)
        shank = _limb(angles[f"leg_out_{side}"] * 0.6, angles[f"hip_{side}"] - angles[f"knee_{side}"], sign)
        places[f"knee_{side}"] = places[f"hip_{side}"] + thigh * leg[:, None]
        places[f"ankle_{side}"] = places[f"knee_{side}"] + shank * leg[:, None] * 0.95
        # The foot points the way the shank does, a quarter turn forward.
        flat = vector(0, 0, 1) - shank * shank[:, 2:3]
        flat /= np.linalg.norm(flat, axis=-1, keepdims=True) + 1e-6
        places[f"toe_{side}"] = places[f"ankle_{side}"] + 0.15 * flat + 0.045 * shank
    _add_head(places, up, draws)
    return places


def _limb(out: np.ndarray, forward: np.ndarray, sign: float) -> np.ndarray:
    """(N, 3) the direction of a limb that hangs down, turned outwards and then forwards."""
    x, y = sign * np.sin(out), -np.cos(out)
    return np.stack([x, y * np.cos(forward), -y * np.sin(forward)], axis=-1)


def _add_head(places: dict[str, np.ndarray], up: np.ndarray, draws: np.ndarray) -> None:
    yaw, nod = np.deg2rad(30) * (2 * draws[:, 6] - 1), np.deg2rad(14) * (2 * draws[:, 7] - 1)
    zero = np.zeros_like(yaw)
    forward = np.stack([np.sin(yaw) * np.cos(nod), -np.sin(nod), np.cos(yaw) * np.cos(nod)], axis=-1)
    left = np.stack([np.cos(yaw), zero, -np.sin(yaw)], axis=-1)
    above = np.cross(forward, left)
    centre = places["neck"] + 0.19 * (0.7 * up + 0.3 * np.array([0.0, 1.0, 0.0]))
    places["head"], places["crown"] = centre, centre + 0.07 * above
    places["chin"] = centre - 0.06 * above
    places["nose"] = centre + 0.105 * forward - 0.015 * above
    for side, sign in (("l", 1.0), ("r", -1.0)):
        places[f"eye_{side}"] = centre + 0.085 * forward + sign * 0.036 * left + 0.025 * above
        places[f"ear_{side}"] = centre + sign * 0.085 * left - 0.01 * above
    places["face"] = forward  # a direction, turned like the places


def _into_camera(places: dict[str, np.ndarray], draws: np.ndarray, profile: Profile) -> dict[str, np.ndarray]:
    """The places as the camera sees them: turned by yaw and pitch, y down, z away."""
    yaw = np.deg2rad(profile.yaw) * (2 * draws[:, 0] - 1)
    pitch = np.deg2rad(10) * (2 * draws[:, 1] - 1)

    def turn(point: np.ndarray) -> np.ndarray:
        x = point[:, 0] * np.cos(yaw) + point[:, 2] * np.sin(yaw)
        z = -point[:, 0] * np.sin(yaw) + point[:, 2] * np.cos(yaw)
        y = point[:, 1] * np.cos(pitch) - z * np.sin(pitch)
        z = point[:, 1] * np.sin(pitch) + z * np.cos(pitch)
        return np.stack([x, -y, -z], axis=-1)  # one who faces the camera has its left at the image's right

    return {name: turn(point) for name, point in places.items()}


_KEYPOINTS = ("nose", "eye_l", "eye_r", "ear_l", "ear_r", "shoulder_l", "shoulder_r", "elbow_l", "elbow_r", "wrist_l",
              "wrist_r", "hip_l", "hip_r", "knee_l", "knee_r", "ankle_l", "ankle_r")  # fmt: skip
_FURTHER_PARTS: tuple[tuple[str, ...], ...] = (
    *[("foot_l", "shank_l")] * 3, *[("foot_r", "shank_r")] * 3, *[("head", "neck")] * 68, *[("forearm_l",)] * 21,
    *[("forearm_r",)] * 21,
)  # fmt: skip
"""the same for COCO-WholeBody's further keypoints"""
_OF_FACE = np.array([name.startswith("face") for name in PART_NAMES])
_PART_ENDS = (("neck", "pelvis"), ("neck", "head"), ("crown", "chin"), ("shoulder_l", "elbow_l"),
              ("shoulder_r", "elbow_r"), ("elbow_l", "hand_l"), ("elbow_r", "hand_r"), ("hip_l", "knee_l"),
              ("hip_r", "knee_r"), ("knee_l", "ankle_l"), ("knee_r", "ankle_r"), ("ankle_l", "toe_l"),
              ("ankle_r", "toe_r"))  # fmt: skip


def _project(camera: dict[str, np.ndarray], draws: np.ndarray, size: Size, profile: Profile) -> Figures:
    """Perspective, tilt, and a place in the image."""
    distance = 3.2 + 3.5 * draws[:, 0]  # m
    tilt = np.deg2rad(profile.roll) * (2 * draws[:, 1] - 1)
    cosine, sine = np.cos(tilt), np.sin(tilt)

    def flatten(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, M, 3) -> places (N, M, 2) in m at the body's distance, and their scale (N, M)."""
        scale = distance[:, None] / (distance[:, None] + points[..., 2])
        x, y = points[..., 0] * scale, points[..., 1] * scale
        turned = [cosine[:, None] * x - sine[:, None] * y, sine[:, None] * x + cosine[:, None] * y]
        return np.stack(turned, axis=-1), scale

    joints = np.stack([camera[name] for name in _KEYPOINTS], axis=1)  # (N, 17, 3)
    ends = np.stack([np.stack([camera[a], camera[b]], axis=1) for a, b in _PART_ENDS], axis=1)  # (N, P, 2, 3)
    count, parts = len(ends), len(PARTS)
    flat_ends, end_scale = flatten(ends.reshape(count, parts * 2, 3))
    flat_ends = flat_ends.reshape(count, parts, 2, 2)
    radii = _RADII * end_scale.reshape(count, parts, 2)  # (N, P, 2)
    flat_joints, _ = flatten(joints)

    low = (flat_ends - radii[..., None]).min(axis=(1, 2))  # (N, 2)
    high = (flat_ends + radii[..., None]).max(axis=(1, 2))
    height, width = size
    share = profile.fill[0] + (profile.fill[1] - profile.fill[0]) * draws[:, 2]
    room = np.array([width, height])
    scale = share * (room / (high - low)).min(axis=-1)  # (N,) px per metre
    extent = (high - low) * scale[:, None]
    origin = (room - extent) * (0.15 + 0.7 * draws[:, 3:5]) - low * scale[:, None]  # (N, 2) px

    def place(points: np.ndarray) -> np.ndarray:
        shape = (count,) + (1,) * (points.ndim - 2)
        return points * scale.reshape(*shape, 1) + origin.reshape(*shape, 2)

    keypoints, radii = place(flat_joints), radii * scale[:, None, None]
    cover = {"ends": place(flat_ends), "radii": radii, "end_depth": ends[..., 2]}
    hidden = _covered(joints, keypoints, own=_KEYPOINT_PARTS, **cover)
    head_depth = ends[:, PARTS.index("head"), :, 2].mean(axis=-1)[:, None]
    hidden[:, :5] |= joints[:, :5, 2] > head_depth + 0.03  # the far side of the head
    hull = keypoints[:, [5, 6, 12, 11]]
    depth = ends[..., 2].mean(axis=2)
    depth[:, 0] -= 0.02
    if PART_NAMES[0] in camera:
        further = np.stack([camera[name] for name in PART_NAMES], axis=1)  # (N, 116, 3)
        flat_further, _ = flatten(further)
        places = place(flat_further)
        covered = np.concatenate([
            _covered(further[some], places[some], own=_FURTHER_PARTS, **{name: of[some] for name, of in cover.items()})
            for some in (slice(at, at + _AT_ONCE) for at in range(0, count, _AT_ONCE))
        ])  # fmt: skip
        away = (further[..., 2] > head_depth + _FACE_DEPTH) | (camera["face"][:, 2:3] > 0.1)  # seen from behind
        covered |= away & _OF_FACE
        keypoints, hidden = np.concatenate([keypoints, places], axis=1), np.concatenate([hidden, covered], axis=1)
    return Figures(
        keypoints=keypoints,
        hidden=hidden,
        ends=cover["ends"],
        radii=radii,
        depth=depth,
        hull=hull,
        facing=-camera["face"][:, 2],
        bbox=np.concatenate([low * scale[:, None] + origin, extent], axis=-1),
    )


def _covered(
    joints: np.ndarray, keypoints: np.ndarray, *, own: tuple[tuple[str, ...], ...], ends: np.ndarray,
    radii: np.ndarray, end_depth: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(N, J) bool: the keypoint lies under a part that is nearer to the camera and that is not its `own`."""
    mine = np.array([[part in parts for part in PARTS] for parts in own])  # (J, P)
    start, along = ends[:, None, :, 0], ends[:, None, :, 1] - ends[:, None, :, 0]  # (N, 1, P, 2)
    offset = keypoints[:, :, None] - start  # (N, J, P, 2)
    share = (offset * along).sum(axis=-1) / ((along**2).sum(axis=-1) + 1e-9)
    share = share.clip(0, 1)  # (N, J, P)
    distance = np.linalg.norm(offset - share[..., None] * along, axis=-1)
    radius = radii[:, None, :, 0] + share * (radii[:, None, :, 1] - radii[:, None, :, 0])
    depth = end_depth[:, None, :, 0] + share * (end_depth[:, None, :, 1] - end_depth[:, None, :, 0])
    metres = _RADII[:, 0] + share * (_RADII[:, 1] - _RADII[:, 0])
    nearer = (distance < 0.85 * radius) & (depth - metres * 0.5 < joints[:, :, None, 2] - 0.03)  # (N, J, P)
    covered: np.ndarray = (nearer & ~mine).any(axis=-1)
    return covered
