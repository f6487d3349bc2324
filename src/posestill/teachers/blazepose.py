"""BlazePose (MediaPipe Pose): crops turned so that the person stands upright, found from a first, upright look.

    wide crop -> its middle -> network -> hips' middle and a second point -> turned crop -> network -> 33 keypoints

The second point tells how large the person is and which way is up: the turned crop has the hips' middle at its centre
and sides of 2.5 times the distance of the two points. Facts of the published networks; the code is ours.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from posestill.codecs.coords import CoordsConfig
from posestill.schema import UserError
from posestill.teachers.keypoint_sets import BLAZEPOSE_NAMES, KEYPOINT_SETS
from posestill.teachers.plain import Layout, as_fractions, check_float
from posestill.teachers.runtime import RuntimeNetwork
from posestill.types import Coords, Prediction, Size

_HIPS, _UP = 33, 34
"""two further points of the network: the middle of the hips, and one that tells size and direction"""
_REACH = 2.5
"""the turned crop's side, in distances of these two"""


class BlazePose(Layout):
    """33 keypoints of one person, with how visible each is as its score."""

    def __init__(self, network: RuntimeNetwork, *, turns: bool = True) -> None:
        """With `turns` false the upright crop is all that it sees, which costs accuracy on people who lie or lean."""
        self.name = "blazepose" if turns else "blazepose-upright"
        port = network.inputs[0]
        if len(network.inputs) != 1 or len(port.shape) != 4 or port.shape[-1] != 3:
            raise UserError(
                f"teacher.layout: {self.name} gives one picture (nhwc), and the file has: {network.describe()}"
            )
        points = [each.name for each in network.outputs if each.shape[-1:] == (195,)]
        if not points:
            raise UserError(f"teacher.layout: {self.name} reads an output of 195 numbers, and the file has: "
                            f"{network.describe()}")  # fmt: skip
        check_float(self.name, port)
        self.port, self.points, self.turns = port, points[0], turns
        self.keeps_crop = not turns
        self.side = int(port.shape[1] or 256)
        wide = self.side * 3 // 2 if turns else self.side
        self.size: Size = (wide, wide)
        self.padding = 1.25 * wide / self.side
        self.skeleton = KEYPOINT_SETS["blazepose"]
        self.codec = CoordsConfig().build(self.size)

    def look(self, network: RuntimeNetwork, crops: np.ndarray) -> dict[str, np.ndarray]:
        """`pose` (B, 33, 3) x y score, px of the crop from its edges, and inner tensors as the last look has them."""
        found = [self._look(network, crop) for crop in crops]
        inner = {name: np.concatenate([each[1][name] for each in found]) for name in network.inner}
        return {"pose": np.stack([each[0] for each in found]), **inner}

    def prediction(self, found: dict[str, np.ndarray]) -> Prediction:
        """Places and scores."""
        pose = torch.from_numpy(found["pose"]).float()
        xy = as_fractions(pose[..., :2] / pose.new_tensor([self.size[1], self.size[0]]), "edges", self.size)
        return Coords(xy=xy, score=pose[..., 2])

    def _look(self, network: RuntimeNetwork, crop: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(33, 3) x y score in px of the crop, counted from its edge."""
        margin = (self.size[0] - self.side) / 2
        upright = np.array([[1.0, 0.0, margin], [0.0, 1.0, margin]])  # px of the network's input -> px of the crop
        points, outputs = self._run(network, crop, upright)
        if self.turns:
            turned = self._turned(points)
            if turned is not None:
                points, outputs = self._run(network, crop, turned)
        return points[: len(BLAZEPOSE_NAMES)], outputs

    def _turned(self, points: np.ndarray) -> np.ndarray | None:
        """(2, 3) px of the network's input -> px of the crop, for the turned crop; None where nobody was found."""
        hips, up = points[_HIPS, :2], points[_UP, :2]
        reach = float(np.linalg.norm(up - hips))
        if not np.isfinite(reach) or reach < 2:
            return None
        scale = _REACH * reach / self.side
        angle = np.pi / 2 - np.arctan2(-(up[1] - hips[1]), up[0] - hips[0])
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.full(2, self.side / 2)
        return np.concatenate([turn, (hips - turn @ middle)[:, None]], axis=1)

    def _run(
        self, network: RuntimeNetwork, crop: np.ndarray, to_crop: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(39, 3) x y score in px of the crop, for the part of it that `to_crop` says."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        # OpenCV counts from px centres, the network from edges.
        shift = to_crop[:, :2] @ np.full(2, 0.5) - 0.5
        seen = cv2.warpAffine(
            crop, to_crop + np.pad(shift[:, None], ((0, 0), (2, 0))), (self.side, self.side), flags=flags
        )
        outputs = network({self.port.name: (seen[None].astype(np.float32) / 255).astype(self.port.dtype)})
        values = outputs[self.points].reshape(39, 5).astype(np.float64)  # x, y, z, visibility, presence
        places = values[:, :2] @ to_crop[:, :2].T + to_crop[:, 2]
        score = 1 / (1 + np.exp(-np.minimum(values[:, 3], values[:, 4])))
        return np.concatenate([places, score[:, None]], axis=1), outputs
