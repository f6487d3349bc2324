"""AgentPose (ICASSP 2025): a diffusion feature agent moves a student's features towards the teacher's, step by step.

    teacher: image -> backbone -> features -> autoencoder -> latent z -------------------- distil
                                                |               '-- noise --> agent ------ diffusion
                                           autoencoder                          | (running average)
    student: image -> backbone -+-> project -> standardise -> u -> enter -> agent, several times -> guided
                                '-> head -> prediction -------- task ----- labels

Known (abstract, caption, summaries): a light agent is trained on teacher features perturbed by the forward VP-SDE and
calibrates the student's noisy feature by the reverse one; an autoencoder and two convolutions keep it cheap; the losses
are task, diffusion and distillation. Derived from its ancestors, DiffKD (NeurIPS 2023) and score-based diffusion (ICLR
2021): all formulas. Designed: the default's entry, its two evaluations, unit variance, the average, the weights.

The agent is dropped after training, unless the model has it as its neck (`model.neck: agent`): then it ships.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from posestill.methods.base import MethodConfig, TaughtDistiller
from posestill.models.agent import (
    LONGEST,
    Agent,
    AgentConfig,
    AgentNeck,
    Bridged,
    DiffKDAgentConfig,
    PaperAgentConfig,
    Standardise,
    gaussian,
    noise_of_this_step,
)
from posestill.models.average import move_average, warm_decay
from posestill.models.balance import BalancedWeight
from posestill.models.pose_model import PoseModel
from posestill.models.ranks import count, mean_over_ranks
from posestill.models.resize import resized
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import need_one_aspect
from posestill.types import FeatureShape, PoseBatch, PoseOutput, Size

FINEST = 16
"""rows of the grid on which latents live: finer features are cut into patches, which keep where things are, if a patch
divides them"""


class AgentPoseConfig(MethodConfig):
    """These settings describe the agent, what trains it, and how hard it pulls at the student."""

    agent: AgentConfig = AgentConfig()
    """The network that takes noise and errors off features, and how it is sampled. An agent that is kept in the model
    (`model.neck: agent`) has its settings there, and these must be the same."""
    max_noise_time: float = Field(default=0.6, gt=0, le=1)
    """The diffusion time, from 0 (clean) to 1 (noise), up to which the teacher's features are perturbed to train the
    agent. A larger one also teaches it stronger noise, a smaller one keeps it to weak noise. It must cover the time at
    which denoising begins, which is 0.4 at most where neither `agent.begin` nor `agent.times` sets it."""
    distil_weight: NonNegativeFloat | Literal["auto"] = 1.0
    """The weight of the distillation; 1 is DiffKD's. The larger it is, the harder the student's features are pulled to
    the teacher's. `auto`: so that it pulls half as hard at the student's features as the task loss does, which was too
    little wherever it was tried here."""
    direct_weight: NonNegativeFloat = 0.5
    """The weight, inside the distillation, of the plain distance between the student's projected features and the
    teacher's latent ones; the distance of what the agent makes of them has weight 1. At 0 only the latter counts."""
    diffusion_weight: NonNegativeFloat = 1.0
    """The weight of the loss by which the agent learns to take noise off the teacher's latent features. A larger weight
    puts more of the agent's training into this. Nothing else trains an agent that is dropped, unless
    `distillation_trains_agent` is true."""
    autoencoder_weight: NonNegativeFloat = 1.0
    """The weight of the error of rebuilding the teacher's features from their latent ones. Nothing else trains this
    autoencoder: a larger weight trains it harder, and at 0 it stays as it was initialised."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """The share of the training, at its beginning, in which the agent learns and the student is not distilled; then the
    distillation rises to its full weight within half as long again. A longer warm-up gives a better trained agent and
    leaves less time for the distillation."""
    fades_out: bool = True
    """True: the distillation falls linearly to nothing by the end of the training, so that the last word is the
    labels'. False: it keeps its weight to the end."""
    distillation_trains_agent: bool = False
    """True: the distillation trains the agent, too. False: the student is guided by the agent's running average, which
    the distillation does not change. An agent that is kept in the model is always trained by everything."""


class AgentPosePaperConfig(AgentPoseConfig):
    """These values do what the paper's words suggest; the weights of its losses are not known."""

    agent: PaperAgentConfig = PaperAgentConfig()
    max_noise_time: float = Field(default=1.0, gt=0, le=1)
    direct_weight: NonNegativeFloat = 0.0
    warmup: float = Field(default=0.0, ge=0, lt=1)
    fades_out: bool = False
    distillation_trains_agent: bool = True


class DiffKDConfig(AgentPoseConfig):
    """These values are those of DiffKD's code (NeurIPS 2023): five of DDPM's steps after a learnt mix with noise."""

    agent: DiffKDAgentConfig = DiffKDAgentConfig()
    max_noise_time: float = Field(default=1.0, gt=0, le=1)
    direct_weight: NonNegativeFloat = 0.0
    warmup: float = Field(default=0.0, ge=0, lt=1)
    fades_out: bool = False
    distillation_trains_agent: bool = True


class AgentPose(TaughtDistiller):
    """The task loss, the agent's own losses, and the distance of what the agent makes of the student's features."""

    steps: Tensor
    needs = frozenset({"features"})
    origin = "AgentPose, ICASSP 2025; reconstructed: no equation of the paper could be read"
    config: AgentPoseConfig

    def __init__(self, student: PoseModel, teacher: Teacher, config: AgentPoseConfig) -> None:
        super().__init__(student, teacher, config)
        neck = student.neck
        self.kept = self.owns_head = isinstance(neck, AgentNeck)
        _check_agent(config, kept=self.kept)
        need_one_aspect(teacher, student)
        channels = config.agent.channels
        own = student.feature_shapes[-1]  # of a kept agent, the bridged map has the backbone's shape
        self.autoencoder = self._new_autoencoder(teacher.feature_shapes[-1], own[1:] if self.kept else None)
        if isinstance(neck, AgentNeck):
            if neck.agent.config.model_dump() != config.agent.model_dump():  # whatever preset they come from
                raise UserError(
                    "method.agent: the kept agent (model.neck.agent) has other settings: give both the same"
                )
        else:
            self.project = nn.Conv2d(own[0], channels, 1)
            self.standardise = self._new_norm(channels)
            self.agent = Agent(config.agent)
        self.leave = self._new_last_convolution(channels)
        learns = config.distillation_trains_agent or self.kept
        self.guide = None if learns else copy.deepcopy(self._agent()).eval().requires_grad_(False)
        first = 1.0 if config.distil_weight == "auto" else config.distil_weight
        self.balance = BalancedWeight(first, measures=config.distil_weight == "auto", share=0.5)
        self.follows_progress = config.fades_out or config.warmup > 0
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # that the average has taken in
        self.chosen = (
            f"{type(self).__name__}: the agent is {'kept in the model' if self.kept else 'dropped afterwards'}"
        )

    def for_head(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features, with the gradient that the head sends back measured."""
        return self.balance.measure_student(features)

    def losses(self, output: PoseOutput, answer: PoseOutput, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, the distillation, and the losses of agent and autoencoder."""
        generator = noise_of_this_step(batch.image.device)
        latent, rebuilding = self.autoencoder(answer.features[-1])  # (B, D, h, w), a scalar
        own, denoised = self._denoised(output.features, latent, generator)  # (B, D, h, w) each
        guided = self.leave(denoised).float()
        agent = self._agent()
        distance = F.mse_loss(guided, latent) + self.config.direct_weight * F.mse_loss(own.float(), latent)
        diffusion = agent.loss(latent, generator, max_noise_time=self.config.max_noise_time)
        return {
            "task": self.task_loss(output, batch),
            "distil": self.balance.follow_schedule(self.ramp(progress)) * distance,
            "diffusion": self.config.diffusion_weight * diffusion,
            "autoencoder": self.config.autoencoder_weight * rebuilding,
        }

    def _denoised(
        self, features: tuple[Tensor, ...], latent: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The student's own latent (B, D, h, w), whose error is noted in training, and what the agent makes of it.

        What a kept agent made on the way to the head serves here, too, unless it drew noise, which is to be another
        here, or the gradient of this alone is to be measured.
        """
        agent = self._agent()
        if self.kept and not self.balance.measures and not agent.draws():
            bridged = Bridged.of(features)
            if self.training:
                agent.note_error(bridged.own, latent)
            return bridged.own, bridged.denoised
        raw = Bridged.of(features).raw if self.kept else features
        own = self._latent(self.balance.measure_other(raw))
        if self.training:
            agent.note_error(own, latent)
        return own, (self.guide or agent).denoise(own, gaussian(own.shape, generator))

    def ramp(self, progress: float) -> float:
        """How much the distillation counts: nothing while the agent warms up, all, and then less and less."""
        warmup = self.config.warmup
        rising = min(1.0, max(0.0, (progress - warmup) / (warmup / 2))) if warmup else 1.0
        return rising * ((1 - progress) if self.config.fades_out else 1.0)

    def after_step(self) -> None:
        """Move the running average of the agent, and measure the balance of the gradients."""
        self.balance.after_step()
        if self.guide is not None:
            move_average(self.guide, self._agent(), warm_decay(0.999, self.steps))
            self.guide.error.copy_(self._agent().error)
        self.steps += 1

    def watch(self) -> dict[str, float]:
        """The weight of the distillation, the student's error in latent deviations, and where denoising begins."""
        agent = self._agent()
        return {
            "distil_weight": self.balance.weight.item(),
            "student_error": agent.error.item(),
            "begin": agent.times()[0].item(),
        }

    def train(self, mode: bool = True) -> AgentPose:
        """As every module, but for the guide, which never trains."""
        super().train(mode)
        if self.guide is not None:
            self.guide.eval()
        return self

    def _agent(self) -> Agent:
        if isinstance(self.student.neck, AgentNeck):
            return self.student.neck.agent
        return self.agent

    def _latent(self, features: tuple[Tensor, ...]) -> Tensor:
        if isinstance(self.student.neck, AgentNeck):
            return self.student.neck.latent(features)
        found: Tensor = self.standardise(resized(self.project(features[-1]), self.autoencoder.grid))
        return found

    def _new_autoencoder(self, taught: FeatureShape, grid: Size | None) -> Autoencoder:
        return Autoencoder(taught, self.config.agent.channels, grid)

    def _new_norm(self, channels: int) -> nn.Module:
        return Standardise(channels)

    def _new_last_convolution(self, channels: int) -> nn.Module:
        layer = nn.Conv2d(channels, channels, 1)
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return layer


AgentPoseConfig.distiller = AgentPose
AgentPosePaperConfig.distiller = AgentPose


class Autoencoder(nn.Module):
    """Latents of the teacher's features by one convolution, trained by rebuilding them and by nothing else."""

    unit_variance: ClassVar[bool] = True
    """latents at mean 0 and variance 1 a channel, and errors as a share of the features' variance"""

    def __init__(self, taught: FeatureShape, channels: int, grid: Size | None) -> None:
        """For features (C, h, w); on `grid` where one is given, else on their own, in patches if that is too fine."""
        super().__init__()
        given, height, width = taught
        patch = _patch(height, width, FINEST if grid is None else grid[0])
        self.grid: Size = (height // patch, width // patch) if grid is None else (grid[0], grid[1])
        self.encode = nn.Conv2d(given, channels, patch, stride=patch)
        self.standardise = Standardise(channels) if self.unit_variance else nn.BatchNorm2d(channels)
        resizes = (height // patch, width // patch) != self.grid
        # Resizing takes variance away.
        self.again = Standardise(channels) if resizes and self.unit_variance else nn.Identity()
        self.decode = nn.Sequential(nn.Conv2d(channels, given * patch**2, 1), nn.PixelShuffle(patch))

    def forward(self, taught: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, D, h, w) that no other loss changes, and the error of rebuilding."""
        latent = self.standardise(self.encode(taught))
        error = F.mse_loss(self.decode(latent).float(), taught.float())
        if self.unit_variance:
            error = error / _variance(taught.float()).clamp(min=1e-6)
        on_grid: Tensor = self.again(resized(latent.detach().float(), self.grid))
        return on_grid, error


def _variance(taught: Tensor) -> Tensor:
    """Of all numbers in the joint batch, a scalar."""
    if count() == 1:
        return taught.var()
    squares = mean_over_ranks((taught - mean_over_ranks(taught.mean())).square().mean())
    numbers = taught.numel() * count()
    return squares * numbers / (numbers - 1)


class DiffKD(AgentPose):
    """The same machinery with DiffKD's details: affine batch norms, plain errors, a random last convolution."""

    origin = "DiffKD, NeurIPS 2023, after its code; times on the continuous schedule, within 1e-3 of its own"

    def __init__(self, student: PoseModel, teacher: Teacher, config: DiffKDConfig) -> None:
        if isinstance(student.neck, AgentNeck):
            raise UserError(
                "method: diffkd has affine norms, which are not those of a kept agent (model.neck): choose agentpose "
                "or, to drop the agent, model.neck=null"
            )
        super().__init__(student, teacher, config)

    def _new_autoencoder(self, taught: FeatureShape, grid: Size | None) -> Autoencoder:
        return _DiffKDAutoencoder(taught, self.config.agent.channels, grid)

    def _new_norm(self, channels: int) -> nn.Module:
        return nn.Identity()

    def _new_last_convolution(self, channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))


DiffKDConfig.distiller = DiffKD


class _DiffKDAutoencoder(Autoencoder):
    unit_variance = False


def _patch(height: int, width: int, rows: int) -> int:
    """The smallest patch that brings a grid down to so many rows at most, and half of them at least; else 1."""
    fits = [
        each
        for each in range(1, min(height, width) + 1)
        if height % each == 0 and width % each == 0 and rows / 2 <= height // each <= rows
    ]
    return min(fits, default=1)


def _check_agent(config: AgentPoseConfig, *, kept: bool) -> None:
    """Refuse settings that would leave a part untrained, or ask the agent for what it does not learn."""
    agent = config.agent
    if agent.entry == "mixed" and not (config.distillation_trains_agent or kept):
        raise UserError(
            "method.agent.entry: mixed learns its share of noise from the distillation: set "
            "method.distillation_trains_agent=true"
        )
    begins = max(agent.times or (agent.begin or LONGEST,))
    if begins > config.max_noise_time:
        raise UserError(
            f"method.max_noise_time: the agent learns times up to {config.max_noise_time:g} and is asked at "
            f"{begins:g}: raise it"
        )
