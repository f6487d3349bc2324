"""What AgentPose must be told apart from, and readings of the paper that no setting reaches.

posestill compare benchmarks/protocol-agentpose-few.yaml --plugin benchmarks/agentpose_controls.py

`agentpose_adapter`: the agent's network is a plain adapter, trained by the distillation and by nothing else; no noise,
no time, no reverse diffusion. `agentpose_shuffled`: AgentPose with the features of
the next person of the batch: what is left of a gain is not what the teacher sees. `agentpose_variant`, each tried
once and no part of the method (docs/studies/agentpose.md says how they did):

    decoded      distance of what the decoder makes of the guided latents from the teacher's features
    divergence   divergence of where each channel looks, as CWD, in the place of the squared distance
    states       distance of every state on the way from the teacher's own, perturbed with the same noise
    score        distance of what the agent says of the student's and the teacher's perturbed features
    partial      the noise that the student's own error lacks is added where it enters
    straight     the gradient goes past the agent, to the student's feature as it is
    schedule     the reverse diffusion begins at 0.3 and, towards the end of the training, at 0.05
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from posestill import catalog
from posestill.methods.agentpose import AgentPose, AgentPoseConfig
from posestill.models.agent import gaussian, noise_of_this_step
from posestill.models.pose_model import PoseModel
from posestill.models.vp_sde import ode_step, perturbed, signal_and_noise
from posestill.teachers.base import Teacher
from posestill.types import PoseBatch, PoseOutput


class AdapterConfig(AgentPoseConfig):
    """The agent's network without diffusion."""

    distillation_trains_agent: bool = True


class Adapter(AgentPose):
    """The same losses but the diffusion's."""

    origin = "a control of posestill's: the agent's network as a plain adapter"

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        latent, rebuilding = self.autoencoder(answer.features[-1])
        own = self._latent(self.balance.measure_other(output.features))
        at_rest = torch.zeros(len(own), device=own.device)
        adapted = own + self.agent.network(own, at_rest)
        distance = F.mse_loss(self.leave(adapted).float(), latent) + self.config.direct_weight * F.mse_loss(own, latent)
        return {
            "task": self.task_loss(output, batch),
            "distil": self.balance.follow_schedule(self.ramp(progress)) * distance,
            "autoencoder": self.config.autoencoder_weight * rebuilding,
        }


class ShuffledConfig(AgentPoseConfig):
    """AgentPose with the features of other people."""


class Shuffled(AgentPose):
    """AgentPose, taught by what the teacher sees in the next person of the batch."""

    origin = "a control of posestill's: AgentPose with a shuffled teacher"

    def __init__(self, student: PoseModel, teacher: Teacher, config: ShuffledConfig) -> None:
        super().__init__(student, _OfTheNext(teacher), config)


class _OfTheNext(Teacher):
    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.codec, self.skeleton, self.input_size = teacher.codec, teacher.skeleton, teacher.input_size
        self.provides, self.lineage = teacher.provides, teacher.lineage
        self.feature_shapes = teacher.feature_shapes

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        return PoseOutput(self.teacher(batch).prediction, self.features(batch))

    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        return tuple(each.roll(1, dims=0) for each in self.teacher.features(batch))

    def to(self, device: torch.device) -> Teacher:
        self.teacher.to(device)
        return self


class VariantConfig(AgentPoseConfig):
    """AgentPose, its agent dropped, but for one thing."""

    variant: Literal["decoded", "divergence", "states", "score", "partial", "straight", "schedule"] = "decoded"


class Variant(AgentPose):
    """The same losses but for the first half of the distillation."""

    origin = "a variant of posestill's AgentPose, tried once"
    config: VariantConfig

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        assert self.guide is not None
        generator = noise_of_this_step(batch.image.device)
        taught = answer.features[-1].float()
        latent, rebuilding = self.autoencoder(taught)
        own = self._latent(self.balance.measure_other(output.features))
        if self.training:
            self.agent.note_error(own, latent)
        if self.config.variant == "schedule":
            begin = 0.05 + 0.25 * (1 + math.cos(math.pi * progress)) / 2
            self.guide.config = self.guide.config.model_copy(update={"begin": begin})
        distance = self._distance(own, latent, taught, generator) + self.config.direct_weight * F.mse_loss(own, latent)
        return {
            "task": self.task_loss(output, batch),
            "distil": self.balance.follow_schedule(self.ramp(progress)) * distance,
            "diffusion": self.agent.loss(latent, generator, max_noise_time=self.config.max_noise_time),
            "autoencoder": rebuilding,
        }

    def _distance(self, own: Tensor, latent: Tensor, taught: Tensor, generator: torch.Generator) -> Tensor:
        assert self.guide is not None
        variant, noise = self.config.variant, next(gaussian(own.shape, generator))
        if variant == "states":
            return torch.stack([F.mse_loss(state, wanted) for state, wanted in self._states(own, latent, noise)]).mean()
        if variant == "score":
            time = torch.empty(len(own), device=own.device).uniform_(0.02, 0.4, generator=generator)
            wide = time[:, None, None, None]
            one, other = (self.guide._clean(perturbed(each, wide, noise), time) for each in (own, latent))
            return F.mse_loss(one, other.detach())
        if variant == "partial":
            signal, spread = signal_and_noise(self.guide.times()[0])
            missing = (spread**2 - (signal * self.guide.error) ** 2).clamp(min=0).sqrt()
            own = own + missing / signal * noise
        clean = self.guide.denoise(own, iter(()))
        guided = self.leave(own + (clean - own).detach() if variant == "straight" else clean).float()
        if variant == "decoded":
            kept = {name: value.detach() for name, value in self.autoencoder.decode.named_parameters()}
            rebuilt = torch.func.functional_call(self.autoencoder.decode, kept, (guided,))
            return F.mse_loss(rebuilt, taught) / taught.var().clamp(min=1e-6)
        if variant == "divergence":
            said, wanted = guided.flatten(2).log_softmax(-1), latent.flatten(2).log_softmax(-1)
            return (wanted.exp() * (wanted - said)).sum(-1).mean()
        return F.mse_loss(guided, latent)

    def _states(self, own: Tensor, latent: Tensor, noise: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The student's states on the way down and the teacher's at the same times; at the end both are clean."""
        assert self.guide is not None
        times = self.guide.times()
        state, found = perturbed(own, times[0], noise), []
        for number, time in enumerate(times):
            found.append((state, perturbed(latent, time, noise)))
            clean = self.guide._clean(state, time)
            if number + 1 < len(times):
                state = ode_step(state, clean, time, times[number + 1])
        return [*found, (clean, latent)]


AdapterConfig.distiller = Adapter
ShuffledConfig.distiller = Shuffled
VariantConfig.distiller = Variant
catalog.METHODS["agentpose_adapter"] = AdapterConfig
catalog.METHODS["agentpose_shuffled"] = ShuffledConfig
catalog.METHODS["agentpose_variant"] = VariantConfig
