"""Readings of OCD's abstract that posestill leaves out, each tried once beside the one that it keeps.

posestill compare benchmarks/protocol-ocd.yaml --plugin benchmarks/ocd_variants.py

`head_only`: the heatmap loss does not reach the backbone . `drawn`, `drawn_labels`: the head
loss on maps, to the helper's or to the labels' . `mutual`: the head loss both ways . `decay`, `drop_last`:
its schedule. `argmax`, `soft`: how the helper's maps are read.
`labels`, `everything`: which keypoints it teaches.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from posestill import catalog
from posestill.codecs.heatmap import decode_maps, simulated_heatmaps
from posestill.methods.ocd import Ocd, OcdConfig
from posestill.types import Coords, Heatmaps, PoseBatch, PoseOutput

Variant = Literal[
    "head_only", "drawn", "drawn_labels", "mutual", "decay", "drop_last", "argmax", "soft", "labels",
    "everything",
]  # fmt: skip


class OcdVariantConfig(OcdConfig):
    """OCD in another reading."""

    variant: Variant = "head_only"


class OcdVariant(Ocd):
    """OCD with one part exchanged."""

    config: OcdVariantConfig

    def for_head(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return features

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        variant, features = self.config.variant, output.features
        of_helper = tuple(each.detach() for each in features) if variant == "head_only" else features
        drawn = self.helper(of_helper)
        target, weight = self.helper.codec.encode(batch.keypoints, batch.weight)
        fixed = Heatmaps(maps=drawn.maps.detach())
        places = self.helper.places(drawn)
        if variant == "argmax":
            cells, _ = decode_maps(fixed.maps, "quarter", sigma=self.config.sigma)
            xy = self.helper.codec.form.to_input(cells)
        elif variant == "soft":
            xy = self.helper.codec.form.to_input(_soft_argmax(fixed.maps, beta=20.0))
        else:
            xy = places.xy
        confidence = places.score.clamp(0, 1) * (places.score > self.config.threshold)
        if variant == "labels":
            confidence = batch.weight
        elif variant == "everything":
            confidence = torch.ones_like(confidence)
        if variant in ("drawn", "drawn_labels"):
            wanted = fixed.maps if variant == "drawn" else target
            head = self._drawn(output.prediction, wanted, confidence, progress)
        else:
            head = self.head_loss(output, xy, confidence)
        if variant == "mutual":
            own = self.student.codec.decode(output.prediction).xy.detach()
            soft, _ = decode_maps(drawn.maps, "local", sigma=self.config.sigma)
            error = (soft - self.helper.codec.form.to_map(own)).abs().mean(-1) / max(self.helper.codec.form.size)
            head = head + (confidence * error).mean()
        schedule = 1 - progress if variant == "decay" else 1.0
        helped = 0.0 if variant == "drop_last" and progress >= 0.9 else 1.0
        return {
            "task": self.task_loss(output, batch),
            "heatmap": helped * self.heatmap_weight.weight * self.helper.codec.loss(drawn, target, weight),
            "head": schedule * self.config.head_weight * head,
        }

    def _drawn(self, prediction: object, wanted: Tensor, confidence: Tensor, progress: float) -> Tensor:
        """The squared error of Gaussians at the student's places, whose spread shrinks from 8 to 2 map px."""
        assert isinstance(prediction, Coords)
        form = self.helper.codec.form
        extent = prediction.xy.new_tensor([form.input_size[1], form.input_size[0]])
        place = form.to_map(prediction.xy * extent)
        spread = torch.full_like(place, 8 * (1 - progress) + 2 * progress)
        error = (simulated_heatmaps(place, spread, form.size) - wanted).square().mean((-2, -1))  # (B, K)
        return (confidence * error).mean()


def _soft_argmax(maps: Tensor, *, beta: float) -> Tensor:
    """(B, K, 2) map px: the expectation under the softmax of a whole map."""
    height, width = maps.shape[-2:]
    mass = F.softmax(beta * maps.flatten(2), dim=-1).unflatten(-1, (height, width))
    x = (mass.sum(-2) * torch.arange(width, device=maps.device)).sum(-1)
    y = (mass.sum(-1) * torch.arange(height, device=maps.device)).sum(-1)
    return torch.stack([x, y], dim=-1)


OcdVariantConfig.distiller = OcdVariant
catalog.METHODS["ocd_variant"] = OcdVariantConfig
