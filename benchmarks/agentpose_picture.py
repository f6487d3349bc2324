"""The picture of docs/methods/agentpose.md: what the teacher's head sees in the student's features.

python benchmarks/agentpose_picture.py [--out docs/methods/agentpose.jpg]     (two minutes; trains the student of gap-4)

Rows: the crop, then what the teacher's head draws from the student's projected features, from what the agent makes of
them after each evaluation, and from its own features. All go through the autoencoder, so that they can be compared.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from posestill import catalog
from posestill.data.topdown import Labels, TopDownDataset
from posestill.draw import encode_image
from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.methods.agentpose import AgentPose, AgentPoseConfig
from posestill.models.pose_model import PoseModel
from posestill.models.vp_sde import ode_step, signal_and_noise
from posestill.teachers.base import ModelTeacher, Teacher
from posestill.types import Heatmaps, PoseBatch

PEOPLE, HEIGHT, GAP = 8, 144, 4
KEYPOINTS = ("left_wrist", "right_wrist", "left_ankle", "right_ankle")
RUN = [
    "model.backbone={name: small_resnet, channels: [16, 32, 64]}", "model.head={name: deconv, channels: [32, 32]}",
    "model.codec={name: heatmap, sigma: 1.5}", "teacher=bundled", "train.steps=1000",
    "data.labelled=1600", "data.labelled_per_batch=24", "train.optimiser.learning_rate=1e-2",
    "method={name: seen, agent: {channels: 64}}",
]  # fmt: skip
TRAINED: list[AgentPose] = []


class SeenConfig(AgentPoseConfig):
    """AgentPose, kept after the training to be looked at."""

    def build(self, student: PoseModel, teacher: Teacher | None) -> AgentPose:
        TRAINED.append(super().build(student, teacher))
        return TRAINED[-1]


catalog.METHODS["seen"] = SeenConfig


def states(method: AgentPose, batch: PoseBatch) -> list[Tensor]:
    """Latents (B, D, h, w): the student's own, the clean estimate of each evaluation, and the teacher's."""
    assert method.teacher is not None
    assert method.guide is not None
    latent, _ = method.autoencoder(method.teacher.features(batch)[-1])
    own = method._latent(method.student.features(batch.image))
    times = method.guide.times()
    state, found = signal_and_noise(times[0])[0] * own, [own]
    for number, time in enumerate(times):
        clean = method.guide._clean(state, time)
        found.append(clean)
        if number + 1 < len(times):
            state = ode_step(state, clean, time, times[number + 1])
    return [*found, latent]


def drawn(method: AgentPose, latent: Tensor) -> Tensor:
    """(B, K, h, w) what the teacher's head draws from latents."""
    assert isinstance(method.teacher, ModelTeacher)
    prediction = method.teacher.head((method.autoencoder.decode(latent),))
    assert isinstance(prediction, Heatmaps)
    return prediction.maps


def shown(maps: Tensor, crop: np.ndarray) -> np.ndarray:
    """The highest of some keypoints' maps (n, h, w) at every place, over the greyed crop."""
    height, width = crop.shape[:2]
    peak = cv2.resize(maps.clamp(0, 1).amax(dim=0).numpy(), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    grey = crop.mean(axis=-1, keepdims=True).repeat(3, axis=-1) * 0.45
    return (grey * (1 - peak) + np.array([255, 170, 40]) * peak).astype(np.uint8)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/methods/agentpose.jpg"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = load_run("protocol/synthetic", RUN)
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        fit(config, Path(folder) / "run", quiet=True)
    method = TRAINED[-1].eval()
    size = config.model.size
    labels = Labels(np.arange(PEOPLE), np.ones(PEOPLE, dtype=bool))
    dataset = TopDownDataset(config.data.val.build(), size=size, labels=labels)
    batch = dataset.__getitems__([(0, index) for index in range(PEOPLE)])
    kinds = [method.student.skeleton.names.index(name) for name in KEYPOINTS]
    crops = [
        cv2.resize(image.permute(1, 2, 0).numpy(), (round(size[1] * HEIGHT / size[0]), HEIGHT),
                   interpolation=cv2.INTER_CUBIC)
        for image in batch.image
    ]  # fmt: skip
    rows = [crops]
    for latent in states(method, batch):
        maps = drawn(method, latent)[:, kinds]
        rows.append([shown(each, crop) for each, crop in zip(maps, crops, strict=True)])
    framed = [np.concatenate([_framed(each) for each in row], axis=1) for row in rows]
    asked.out.write_bytes(encode_image(np.concatenate(framed, axis=0)))


def _framed(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
