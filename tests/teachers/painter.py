"""A teacher that knows where all keypoints are, whatever crop it is shown, and notes whom it is asked about."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from posestill.codecs.coords import CoordsConfig
from posestill.codecs.heatmap import HeatmapConfig
from posestill.codecs.simcc import SimccConfig
from posestill.geometry import Framing, invert_batch, transform_batch
from posestill.teachers.base import Teacher, crops_of
from posestill.teachers.bridge import to_teacher
from posestill.types import Coords, Heatmaps, PoseOutput, SimCC

CODECS = {
    "maps": HeatmapConfig(stride=2, sigma=1.0, grid="cells"),  # mirrored twice, such maps are the same
    "bins": SimccConfig(split=2.0, sigma=(2.0, 2.0), flip_exact=False),
    "keypoints": CoordsConfig(),
}


class Painter(Teacher):
    """Its features are the crop's red and green, shrunk; its answers are drawn from where the dots of a source are."""

    provides = frozenset({"prediction", "features"})

    def __init__(
        self, source, *, size=(32, 24), student=(32, 24), gives="maps", flip_tested=True, sha256="of a painter"
    ):
        self.source, self.student, self.skeleton = source, Framing(student), source.skeleton
        self.input_size, self.codec = size, CODECS[gives].build(size)
        self.lineage = {"sha256": sha256}
        self.feature_shapes = ((3, size[0] // 2, size[1] // 2), (2, size[0] // 4, size[1] // 4))
        self.flip_tested = flip_tested
        self.asked: list[list[int]] = []
        """the persons of every batch, once for each question"""
        self.moved: list[str] = []

    def __call__(self, batch):
        self.asked.append(batch.index.tolist())
        crops = crops_of(batch).float() / 255
        prediction = self.drawn(batch)
        if self.flip_tested and len(self.asked) % 2 == 0:  # every second question is about the mirrored crops
            prediction = self.codec.flip(prediction, torch.tensor(self.skeleton.swap))
        return PoseOutput(prediction, (F.avg_pool2d(crops, 2), F.avg_pool2d(crops, 4)[:, :2]))

    def features(self, batch):
        crops = crops_of(batch).float() / 255
        return F.avg_pool2d(crops, 2), F.avg_pool2d(crops, 4)[:, :2]

    def places(self, batch):
        """(B, K, 2) where the dots are, px of the teacher's crops."""
        places = torch.from_numpy(
            np.stack([self.source.people[row].__dict__["places"] for row in batch.index.tolist()])
        )
        mirrored = batch.mirrored()
        places = torch.where(mirrored[:, None, None], places[:, list(self.skeleton.swap)], places).float()
        own = transform_batch(places, invert_batch(batch.to_image))
        return to_teacher(own, teacher=self.framing, student=self.student, mirrored=mirrored)

    def drawn(self, batch):
        target, _ = self.codec.encode(self.places(batch), torch.ones(len(batch), len(self.skeleton)))
        if self.codec.prediction_type is Heatmaps:
            return Heatmaps(target)
        if self.codec.prediction_type is SimCC:
            return SimCC(*target.split([self.codec.form.x, self.codec.form.y], dim=-1))
        return Coords(xy=target, score=torch.full(target.shape[:2], 0.5))

    def to(self, device):
        self.moved.append(device.type)
        return self


def chunks_asked(painter: Painter, *, questions: int = 2) -> list[int]:
    """The first person of each batch that it was asked about, once for so many questions."""
    return [persons[0] for persons in painter.asked[::questions]]
