"""AgentPose (ICASSP 2025): a diffusion feature agent moves a student's features towards the teacher's, step by step.

    teacher: image -> backbone -> features -> autoencoder -> latent z -------------------- distil, direct
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
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from posestill.methods.base import Distiller, MethodConfig
from posestill.models.agent import (
    LONGEST,
    Agent,
    AgentConfig,
    AgentNeck,
    DiffKDAgentConfig,
    PaperAgentConfig,
    Standardise,
    gaussian,
    noise_of_this_step,
)
from posestill.models.average import move_average, warm_decay
from posestill.models.balance import BalancedWeight
from posestill.models.pose_model import PoseModel, evaluating
from posestill.models.resize import resized
from posestill.schema import UserError
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import blank_batch, need_one_aspect
from posestill.types import PoseBatch, Size

FINEST = 16
"""rows of the grid on which latents live: finer features are cut into patches, which keep where things are, if a patch
divides them"""


class AgentPoseConfig(MethodConfig):
    """The agent, what trains it, and how hard it pulls."""

    agent: AgentConfig = AgentConfig()
    """a kept agent (`model.neck: agent`) has its settings there; these must be the same"""
    latest: float = Field(default=0.6, gt=0, le=1)
    """the time up to which teacher features are perturbed; without `agent.begin` the reverse diffusion begins by 0.4"""
    distil_weight: NonNegativeFloat | Literal["auto"] = 1.0
    """of the distillation, as in DiffKD; auto: so that it pulls half as hard at the student's features as the task loss
    does, which was too little wherever we tried it"""
    direct: NonNegativeFloat = 0.5
    """share of the plain distance between the student's projected features and the teacher's latents"""
    diffusion_weight: NonNegativeFloat = 1.0
    autoencoder_weight: NonNegativeFloat = 1.0
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """share of the training in which the agent learns and the student is left alone"""
    decays: bool = True
    """the distillation falls to nothing towards the end, so that the last word is the labels'"""
    joint: bool = False
    """the distillation trains the agent, too; otherwise the student is guided by its running average, but for a kept
    agent, which is always trained by everything"""
    literal: bool = False
    """DiffKD's details: affine batch norms in the place of unit variance, plain errors, a random last convolution"""

    def build(self, student: PoseModel, teacher: Teacher | None) -> AgentPose:
        """The method around any student; needs a teacher's features."""
        return AgentPose(student, teacher, self)


class AgentPosePaperConfig(AgentPoseConfig):
    """As the paper's words suggest; its weights are not known."""

    agent: PaperAgentConfig = PaperAgentConfig()
    latest: float = Field(default=1.0, gt=0, le=1)
    direct: NonNegativeFloat = 0.0
    warmup: float = Field(default=0.0, ge=0, lt=1)
    decays: bool = False
    joint: bool = True


class DiffKDConfig(AgentPoseConfig):
    """DiffKD (NeurIPS 2023), as its code has it: five of DDPM's steps without noise, a learnt mix with noise."""

    agent: DiffKDAgentConfig = DiffKDAgentConfig()
    latest: float = Field(default=1.0, gt=0, le=1)
    direct: NonNegativeFloat = 0.0
    warmup: float = Field(default=0.0, ge=0, lt=1)
    decays: bool = False
    joint: bool = True
    literal: bool = True

    def build(self, student: PoseModel, teacher: Teacher | None) -> DiffKD:
        """The method around any student; needs a teacher's features."""
        return DiffKD(student, teacher, self)


class AgentPose(Distiller):
    """The task loss, the agent's own losses, and the distance of what the agent makes of the student's features."""

    steps: Tensor
    needs = frozenset({"features"})
    origin = "AgentPose, ICASSP 2025; reconstructed: no equation of the paper could be read"

    def __init__(self, student: PoseModel, teacher: Teacher | None, config: AgentPoseConfig) -> None:
        super().__init__(student, teacher)
        assert self.teacher is not None
        self.config = config
        neck = student.neck
        self.kept = isinstance(neck, AgentNeck)
        _check(config, kept=self.kept)
        need_one_aspect(self.teacher, student)
        blank = blank_batch(student, self.teacher)
        with torch.no_grad(), evaluating(student):
            taught = self.teacher.features(blank)[-1].shape[1:]
            own = _raw(student.features(blank.image), kept=self.kept)[-1].shape[1:]
        channels = config.agent.channels
        grid = (own[1], own[2]) if self.kept else None
        self.autoencoder = Autoencoder(taught, channels, grid, literal=config.literal)
        if isinstance(neck, AgentNeck):
            if neck.agent.config.model_dump() != config.agent.model_dump():  # whatever preset they come from
                raise UserError(
                    "method.agent: the kept agent (model.neck.agent) has other settings: give both the same"
                )
        else:
            self.project = nn.Conv2d(own[0], channels, 1)
            self.standardise = nn.Identity() if config.literal else Standardise(channels)
            self.agent = Agent(config.agent)
        self.leave = _last_convolution(channels, literal=config.literal)
        learns = config.joint or self.kept
        self.guide = None if learns else copy.deepcopy(self._agent()).eval().requires_grad_(False)
        first = 1.0 if config.distil_weight == "auto" else config.distil_weight
        self.balance = BalancedWeight(first, measures=config.distil_weight == "auto", share=0.5)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # that the average has taken in
        self.chosen = (
            f"{type(self).__name__}: the agent is {'kept in the model' if self.kept else 'dropped afterwards'}"
        )

    def forward(self, batch: PoseBatch, progress: float) -> dict[str, Tensor]:
        """The task loss, the distillation, and the losses of agent and autoencoder."""
        assert self.teacher is not None
        generator = noise_of_this_step(batch.image.device)
        latent, rebuilding = self.autoencoder(self.teacher.features(batch)[-1])  # (B, D, h, w), a scalar
        features = self.student.features(batch.image)
        output = self.student.read(self.balance.of_student(features))
        own = self._latent(self.balance.of_other(_raw(features, kept=self.kept)))  # (B, D, h, w)
        agent = self._agent()
        if self.training:
            agent.note_error(own, latent)
        guided = self.leave((self.guide or agent).denoise(own, gaussian(own.shape, generator))).float()
        distance = F.mse_loss(guided, latent) + self.config.direct * F.mse_loss(own.float(), latent)
        diffusion = agent.loss(latent, generator, latest=self.config.latest)
        return {
            "task": self.task_loss(output, batch),
            "distil": self.balance.at(self.ramp(progress)) * distance,
            "diffusion": self.config.diffusion_weight * diffusion,
            "autoencoder": self.config.autoencoder_weight * rebuilding,
        }

    def ramp(self, progress: float) -> float:
        """How much the distillation counts: nothing while the agent warms up, all, and then less and less."""
        warmup = self.config.warmup
        rising = min(1.0, max(0.0, (progress - warmup) / (warmup / 2))) if warmup else 1.0
        return rising * ((1 - progress) if self.config.decays else 1.0)

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


class DiffKD(AgentPose):
    """The same machinery as DiffKD has it."""

    origin = "DiffKD, NeurIPS 2023, after its code; times on the continuous schedule, within 1e-3 of its own"


class Autoencoder(nn.Module):
    """Latents of the teacher's features by one convolution, trained by rebuilding them and by nothing else."""

    def __init__(self, taught: tuple[int, ...], channels: int, grid: Size | None, *, literal: bool) -> None:
        """For features (C, h, w); on `grid` where one is given, else on their own, in patches if that is too fine."""
        super().__init__()
        given, height, width = taught
        patch = _patch(height, width, FINEST if grid is None else grid[0])
        self.grid: Size = (height // patch, width // patch) if grid is None else (grid[0], grid[1])
        self.literal = literal
        self.encode = nn.Conv2d(given, channels, patch, stride=patch)
        self.standardise = nn.BatchNorm2d(channels) if literal else Standardise(channels)
        resizes = (height // patch, width // patch) != self.grid
        self.again = Standardise(channels) if resizes and not literal else nn.Identity()  # resizing takes variance
        self.decode = nn.Sequential(nn.Conv2d(channels, given * patch**2, 1), nn.PixelShuffle(patch))

    def forward(self, taught: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, D, h, w) that no other loss changes, and the error of rebuilding as a share of the variance."""
        latent = self.standardise(self.encode(taught))
        error = F.mse_loss(self.decode(latent).float(), taught.float())
        if not self.literal:
            error = error / taught.float().var().clamp(min=1e-6)
        on_grid: Tensor = self.again(resized(latent.detach().float(), self.grid))
        return on_grid, error


def _patch(height: int, width: int, rows: int) -> int:
    """The smallest patch that brings a grid down to so many rows at most, and half of them at least; else 1."""
    fits = [
        each
        for each in range(1, min(height, width) + 1)
        if height % each == 0 and width % each == 0 and rows / 2 <= height // each <= rows
    ]
    return min(fits, default=1)


def _check(config: AgentPoseConfig, *, kept: bool) -> None:
    """Refuse settings that would leave a part untrained, or two parts of different scales."""
    agent = config.agent
    if config.literal and kept:
        raise UserError(
            "method.literal: DiffKD's affine norms are not those of a kept agent (model.neck): set "
            "method.literal=false or, to drop the agent, model.neck=null"
        )
    if agent.entry == "mixed" and not (config.joint or kept):
        raise UserError("method.agent.entry: mixed learns its share of noise from the distillation: set joint=true")
    begins = max(agent.times or (agent.begin or LONGEST,))
    if begins > config.latest:
        raise UserError(
            f"method.latest: the agent learns times up to {config.latest:g} and is asked at {begins:g}: raise it"
        )


def _raw(features: tuple[Tensor, ...], *, kept: bool) -> tuple[Tensor, ...]:
    """The backbone's features, without what a kept agent made of them."""
    return features[:-1] if kept else features


def _last_convolution(channels: int, *, literal: bool) -> nn.Module:
    layer = nn.Conv2d(channels, channels, 1)
    if literal:
        return nn.Sequential(layer, nn.BatchNorm2d(channels))
    nn.init.dirac_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
