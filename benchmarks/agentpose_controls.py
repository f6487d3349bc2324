"""What AgentPose must be told apart from: the same network without diffusion, and a teacher of other people.

posestill compare benchmarks/protocol-agentpose.yaml --plugin benchmarks/agentpose_controls.py

`agentpose_adapter`: the agent's network is a plain adapter, trained by the distillation and by nothing else; no noise,
no time, no reverse diffusion (control A10 of the specification). `agentpose_shuffled`: AgentPose with the features of
the next person of the batch (A11): what is left of a gain is not what the teacher sees.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from posestill import catalog
from posestill.methods.agentpose import AgentPose, AgentPoseConfig
from posestill.models.pose_model import PoseModel
from posestill.teachers.base import Teacher
from posestill.types import PoseBatch, PoseOutput


class AdapterConfig(AgentPoseConfig):
    """The agent's network without diffusion."""

    joint: bool = True

    def build(self, student: PoseModel, teacher: Teacher | None) -> Adapter:
        """The method around any student; needs a teacher's features."""
        return Adapter(student, teacher, self)


class Adapter(AgentPose):
    """The same losses but the diffusion's."""

    origin = "a control of posestill's: the agent's network as a plain adapter"

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        assert self.teacher is not None
        latent, rebuilding = self.autoencoder(self.teacher.features(batch)[-1])
        features = self.student.features(batch.image)
        output = self.student.read(self.balance.of_student(features))
        own = self._latent(self.balance.of_other(features))
        at_rest = torch.zeros(len(own), device=own.device)
        adapted = own + self.agent.network(own, at_rest)
        distance = F.mse_loss(self.leave(adapted).float(), latent) + self.config.direct * F.mse_loss(own, latent)
        return {
            "task": self.task_loss(output, batch),
            "distil": self.balance.at(self.ramp(progress)) * distance,
            "autoencoder": self.config.autoencoder_weight * rebuilding,
        }


class ShuffledConfig(AgentPoseConfig):
    """AgentPose with the features of other people."""

    def build(self, student: PoseModel, teacher: Teacher | None) -> Shuffled:
        """The method around any student; needs a teacher's features."""
        return Shuffled(student, None if teacher is None else _OfTheNext(teacher), self)


class Shuffled(AgentPose):
    """AgentPose, taught by what the teacher sees in the next person of the batch."""

    origin = "a control of posestill's: AgentPose with a shuffled teacher"


class _OfTheNext(Teacher):
    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.codec, self.skeleton, self.input_size = teacher.codec, teacher.skeleton, teacher.input_size
        self.provides, self.lineage = teacher.provides, teacher.lineage

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        return PoseOutput(self.teacher(batch).prediction, self.features(batch))

    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        return tuple(each.roll(1, dims=0) for each in self.teacher.features(batch))

    def to(self, device: torch.device) -> Teacher:
        self.teacher.to(device)
        return self


catalog.METHODS["agentpose_adapter"] = AdapterConfig
catalog.METHODS["agentpose_shuffled"] = ShuffledConfig
