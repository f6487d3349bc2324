"""The part of a model that goes into a file: from px to raw predictions, or to keypoints."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from posestill.models.fold import folded
from posestill.models.pose_model import PoseModel
from posestill.types import Coords, Heatmaps, Prediction, SimCC

Order = Literal["nchw", "nhwc"]
Precision = Literal["fp32", "fp16", "int8"]
Decode = Literal["outside", "inside"]
INPUT = "image"
"""the name of the input"""


class Graph(nn.Module):
    """RGB px from 0 to 255, float32, to the outputs by name; normalisation is inside."""

    def __init__(
        self, model: PoseModel, *, decode: Decode = "outside", order: Order = "nchw", half: bool = False
    ) -> None:
        """`half` calculates in float16, but for normalisation, coordinates and decoding."""
        super().__init__()
        self.model = folded(model)
        self.decodes, self.order, self.half_inside = decode == "inside", order, half
        if half:
            self.model.backbone.half()
            self.model.neck.half()
            self.model.head.half()
            for name, layer in self.model.head.named_modules():
                # Coordinates need more digits than float16 has; heads hand these layers what these are made of.
                if name in ("coordinates", "output.norm", "output.linear"):
                    layer.float()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) or, by its order, (B, H, W, 3) to what `outputs` names."""
        if self.order == "nhwc":
            image = image.permute(0, 3, 1, 2)
        model = self.model
        normalised = ((image / 255 - model.mean) / model.std).contiguous(memory_format=torch.channels_last)
        if self.half_inside:
            normalised = normalised.half()
        prediction = model.read(model.neck(model.backbone(normalised))).prediction
        assert prediction is not None
        if not self.decodes:
            return outputs_of(prediction)
        found = model.codec.decode(prediction)
        return {"keypoints": torch.cat([found.xy, found.score[..., None]], dim=-1)}


def outputs_of(prediction: Prediction) -> dict[str, Tensor]:
    """A prediction as float32 tensors by the names that they have in a file.

    `maps` (B, K, h, w); `simcc_x` and `simcc_y` (B, K, bins); or `numbers` (B, K, n): x and y as shares of width and
    height, then a confidence and the spread of both, where the model has them.
    """
    if isinstance(prediction, Heatmaps):
        return {"maps": prediction.maps.float()}
    if isinstance(prediction, SimCC):
        return {"simcc_x": prediction.x.float(), "simcc_y": prediction.y.float()}
    parts = [prediction.xy]
    if prediction.score is not None:
        parts.append(prediction.score[..., None])
    if prediction.scale is not None:
        parts.append(prediction.scale)
    return {"numbers": torch.cat([part.float() for part in parts], dim=-1)}


def prediction_of(outputs: dict[str, Tensor], like: Prediction) -> Prediction:
    """The prediction that such outputs were made of; `like` is one of the same model."""
    if isinstance(like, Heatmaps):
        return Heatmaps(maps=outputs["maps"])
    if isinstance(like, SimCC):
        return SimCC(x=outputs["simcc_x"], y=outputs["simcc_y"])
    numbers = outputs["numbers"]
    return Coords(
        xy=numbers[..., :2],
        score=None if like.score is None else numbers[..., 2],
        scale=None if like.scale is None else numbers[..., -2:],
    )
