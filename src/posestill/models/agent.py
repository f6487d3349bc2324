"""A feature agent: a small network that takes noise and errors off features by the reverse of a diffusion.

`Agent` is the network with its sampler; `AgentNeck` keeps one in a model that ships (AgentPose, ICASSP 2025; what of it
is known, derived and designed is told in methods/agentpose.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from posestill.models.pose_model import NeckConfig
from posestill.models.ranks import mean_over_ranks, normal_by_person, shared_seed, uniform_by_person
from posestill.models.vp_sde import (
    clean_from,
    noise_target,
    ode_step,
    perturbed,
    sde_step,
    signal_and_noise,
    time_features,
    time_of,
)
from posestill.schema import Config

SEED = 20250114
"""of the noise that a kept agent draws where it ships, if it draws any: the same for every crop and every run"""
SHORTEST, LONGEST = 0.02, 0.4
"""the times between which the reverse diffusion may begin"""


class AgentConfig(Config):
    """These settings describe the agent's network and how it is sampled."""

    channels: PositiveInt = 128
    """The channels of the latent features and of the network. More channels keep more of the teacher's features and
    cost more."""
    blocks: PositiveInt = 2
    """The number of residual blocks in the network. More blocks make it stronger and slower."""
    network: Literal["depthwise", "bottleneck", "diffkd"] = "depthwise"
    """The kind of network. `depthwise`: residual blocks of a depthwise 3x3 convolution and an MLP, told the time by
    scale and shift. `diffkd`: DiffKD's bottlenecks (NeurIPS 2023) with batch norms and a learnt table of times.
    `bottleneck`: these with group norms, which do not mix noise levels."""
    predicts: Literal["clean", "noise", "velocity"] = "clean"
    """What the network estimates from a noisy feature. `clean`: the clean one, which is best with one or two
    evaluations. `noise`: the noise, and so the score, as the paper's words suggest. `velocity`: a mix of both."""
    entry: Literal["scaled", "noised", "mixed"] = "scaled"
    """How a student's feature becomes a state of the diffusion. `scaled`: its own error stands for the noise. `noised`:
    the forward diffusion adds some, as the paper says. `mixed`: DiffKD's, a learnt share of noise for each sample."""
    begin: PositiveFloat | None = Field(default=None, le=1)
    """The diffusion time, from 0 (clean) to 1 (noise), at which denoising begins; the larger it is, the more the agent
    changes. None: where the noise is a quarter larger than the student's measured error, from 0.02 to 0.4."""
    evaluations: PositiveInt = 2
    """How often the network is evaluated in one denoising (NFE). More evaluations take smaller steps and cost more."""
    times: tuple[PositiveFloat, ...] | None = None
    """The diffusion times of the evaluations, as many as these, falling and at most 1; `begin` must then be None. None:
    they fall evenly from `begin`."""
    stochastic: bool = False
    """False: denoising follows the ODE, by DDIM's steps. True: it follows the reverse SDE, by Euler and Maruyama, which
    adds noise between the evaluations."""

    @model_validator(mode="after")
    def _times_are_the_evaluations(self) -> AgentConfig:
        if self.times is None:
            return self
        if any(later >= earlier for earlier, later in pairwise(self.times)) or max(self.times, default=2) > 1:
            raise ValueError(f"times must fall, from 1 at most: {self.times}")
        if self.begin is not None or self.evaluations != len(self.times):
            raise ValueError(
                f"times are {len(self.times)} evaluations and say where they begin: set evaluations={len(self.times)} "
                "and begin=null, or times=null"
            )
        return self


class Agent(nn.Module):
    """Denoises features (B, D, h, w) of unit variance; its noise is handed in, apart from all other randomness."""

    error: Tensor

    def __init__(self, config: AgentConfig) -> None:
        super().__init__()
        self.config = config
        self.network: nn.Module = (
            _DepthwiseNetwork(config.channels, config.blocks)
            if config.network == "depthwise"
            else _BottleneckNetwork(config.channels, config.blocks, batch_norm=config.network == "diffkd")
        )
        self.mix = _Mix(config.channels) if config.entry == "mixed" else None
        self.register_buffer("error", torch.tensor(0.5))  # running spread of the student's error, in latent deviations

    def loss(self, latent: Tensor, generator: torch.Generator, *, max_noise_time: float) -> Tensor:
        """How badly it denoises latents (B, D, h, w) that were perturbed to random times up to `max_noise_time`."""
        latent = latent.float()
        uniform = uniform_by_person((len(latent),), generator)
        time = uniform * (max_noise_time - 1e-3) + 1e-3  # (B,)
        noise = normal_by_person(tuple(latent.shape), generator)
        wide = time[:, None, None, None]
        state = perturbed(latent, wide, noise)
        said = self._ask(state, time)
        return F.mse_loss(said, noise_target(latent, noise, wide, predicts=self.config.predicts))

    def draws(self) -> int:
        """How often one denoising draws noise."""
        config = self.config
        return (config.entry != "scaled") + config.stochastic * (len(config.times or range(config.evaluations)) - 1)

    def denoise(self, feature: Tensor, noises: Iterator[Tensor]) -> Tensor:
        """The clean feature that the reverse diffusion finds from a student's (B, D, h, w).

        `noises` gives a tensor of that shape, or one that broadcasts to it, for each of its `draws`.
        """
        feature = feature.float()
        times = self.times().to(feature.device)

        state = self._enter(feature, times[0], noises)
        for number, time in enumerate(times):
            clean = self._clean(state, time)
            if number + 1 < len(times):  # the last evaluation's estimate is the answer
                earlier = times[number + 1]
                if self.config.stochastic:
                    state = sde_step(state, clean, time, earlier, next(noises))
                else:
                    state = ode_step(state, clean, time, earlier)
        return clean

    def times(self) -> Tensor:
        """Of the evaluations, falling."""
        config = self.config
        if config.times is not None:
            return torch.tensor(config.times, device=self.error.device)
        # Beginning too late is nearly free, too early is not: hence a quarter more than the error.
        begin = time_of(1.25 * self.error).clamp(SHORTEST, LONGEST) if config.begin is None else config.begin
        return begin * (1 - torch.arange(config.evaluations, device=self.error.device) / config.evaluations)

    @torch.no_grad()
    def note_error(self, feature: Tensor, latent: Tensor, decay: float = 0.99) -> None:
        """Keep account of how far students' features are from the teacher's; shared over processes."""
        found = (feature.float() - latent.float()).square().mean()
        found = mean_over_ranks(found)
        moved = (decay * self.error**2 + (1 - decay) * found).sqrt()
        self.error.copy_(torch.where(moved.isfinite(), moved, self.error))  # a step that overflowed is not taken

    def _enter(self, feature: Tensor, time: Tensor, noises: Iterator[Tensor]) -> Tensor:
        signal, _ = signal_and_noise(time)
        if self.config.entry == "scaled":
            return signal * feature
        if self.mix is not None:
            share = self.mix(feature)
            return share * feature + (1 - share) * next(noises)
        return perturbed(feature, time, next(noises))

    def _clean(self, state: Tensor, time: Tensor) -> Tensor:
        said = self._ask(state, time.expand(state.shape[0]))  # not len(): an exported graph would keep the batch size
        return clean_from(said, state, time, predicts=self.config.predicts)

    def _ask(self, state: Tensor, time: Tensor) -> Tensor:
        """What the network, of whatever precision, says of states (B, D, h, w) at times (B,), in fp32."""
        said: Tensor = self.network(state.to(next(self.network.parameters()).dtype), time)
        return said.float()


class _DepthwiseNetwork(nn.Module):
    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(_DepthwiseBlock(channels) for _ in range(blocks))
        self.leave = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        told = time_features(time, 32).to(state.dtype)  # (B, 32)
        maps = self.enter(state)
        for block in self.blocks:
            maps = block(maps, told)
        found: Tensor = self.leave(maps)
        return found


class _DepthwiseBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels, batch_norm=False)
        self.time = nn.Sequential(nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2 * channels))
        self.spread = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 2 * channels, 1), nn.SiLU(),
                                 nn.Conv2d(2 * channels, channels, 1))  # fmt: skip

    def forward(self, maps: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.time(told)[..., None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        found: Tensor = self.mlp(self.spread(self.norm(maps) * (1 + scale) + shift))
        return maps + found


class _BottleneckNetwork(nn.Module):
    """DiffKD's noise predictor, with its batch norms or with group norms."""

    def __init__(self, channels: int, blocks: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.time = nn.Embedding(1280, channels)
        self.blocks = nn.ModuleList(_Bottleneck(channels, channels // 4, batch_norm=batch_norm) for _ in range(blocks))
        self.leave = nn.Sequential(nn.Conv2d(channels, channels, 1), _norm(channels, batch_norm=batch_norm))

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        index = ((time * 1000).round().long() - 1).clamp(min=0)  # DDPM counts its thousand steps from 0
        maps = state + self.time(index)[..., None, None]
        for block in self.blocks:
            maps = block(maps)
        found: Tensor = self.leave(maps)
        return found


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, inner: int, *, batch_norm: bool) -> None:
        super().__init__()
        inner = max(1, inner)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inner, 1), _norm(inner, batch_norm=batch_norm), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1), _norm(inner, batch_norm=batch_norm), nn.ReLU(),
            nn.Conv2d(inner, channels, 1), _norm(channels, batch_norm=batch_norm),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.layers(maps)
        return maps + found


def _norm(channels: int, *, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.GroupNorm(math.gcd(8, channels), channels)


class _Mix(nn.Module):
    """DiffKD's noise adapter: how much of a sample is kept, (B, 1, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = _Bottleneck(channels, channels // 8, batch_norm=True)
        self.decide = nn.Linear(channels, 2)

    def forward(self, feature: Tensor) -> Tensor:
        share = self.decide(self.look(feature).mean(dim=(-2, -1))).softmax(dim=-1)[:, :1]
        return share[..., None, None].float()


class Standardise(nn.Module):
    """Features (B, C, h, w) at mean 0 and variance 1 a channel: a batch norm without scale and shift.

    Nothing is learnt: times and weights of the diffusion mean what they say only at unit variance. In training the
    moments are the batch's, over all processes, with their gradients: with running ones alone, a projection could come
    nearer to its target by shrinking.
    """

    mean: Tensor
    variance: Tensor
    known: Tensor

    def __init__(self, channels: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("known", torch.tensor(False))

    def forward(self, feature: Tensor) -> Tensor:
        """Of the same shape, fp32."""
        feature = feature.float()
        mean, variance = self._moments(feature) if self.training else (self.mean, self.variance)
        return (feature - mean[:, None, None]) * torch.rsqrt(variance + 1e-5)[:, None, None]

    def _moments(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        moments = torch.stack([feature.mean(dim=(0, 2, 3)), feature.square().mean(dim=(0, 2, 3))])  # (2, C)
        moments = mean_over_ranks(moments)
        mean, variance = moments[0], (moments[1] - moments[0] ** 2).clamp(min=0)
        finite = moments.detach().isfinite().all()  # else the step, which overflowed, is not taken
        share = (1 - self.decay * self.known) * finite
        self.mean.lerp_(torch.where(finite, mean.detach(), self.mean), share)
        self.variance.lerp_(torch.where(finite, variance.detach(), self.variance), share)
        self.known.logical_or_(finite)
        return mean, variance


class PaperAgentConfig(AgentConfig):
    """These values follow the paper's words: noise on the student's feature, too, a score, and the reverse SDE."""

    network: Literal["depthwise", "bottleneck", "diffkd"] = "bottleneck"
    predicts: Literal["clean", "noise", "velocity"] = "noise"
    entry: Literal["scaled", "noised", "mixed"] = "noised"
    begin: PositiveFloat | None = Field(default=0.4, le=1)
    evaluations: PositiveInt = 5
    stochastic: bool = True


class DiffKDAgentConfig(AgentConfig):
    """These values are those of DiffKD's denoiser, as its code has it."""

    network: Literal["depthwise", "bottleneck", "diffkd"] = "diffkd"
    predicts: Literal["clean", "noise", "velocity"] = "noise"
    entry: Literal["scaled", "noised", "mixed"] = "mixed"
    times: tuple[PositiveFloat, ...] | None = (0.401, 0.301, 0.201, 0.101, 0.001)
    """The diffusion times of the evaluations: by default DDPM's steps 400, 300, 200, 100 and 0 of 1000."""
    evaluations: PositiveInt = 5


class AgentNeckConfig(NeckConfig):
    """An agent that ships stands between the backbone's last feature map and the head; `agentpose` trains it."""

    trained_by_labels: ClassVar[bool] = False
    agent: AgentConfig = AgentConfig()
    """The agent's network and how it is sampled; the method that trains it must be given the same settings."""

    def build(self, feature_shape: tuple[int, int, int]) -> nn.Module:
        """The network for a last feature map of (C, h, w)."""
        return AgentNeck(feature_shape, self.agent)


class PaperAgentNeckConfig(AgentNeckConfig):
    """The paper's agent, with a fixed seed, stands before the head; `agentpose_paper` trains it."""

    agent: PaperAgentConfig = PaperAgentConfig()


class AgentNeck(nn.Module):
    """Adds to the last feature map what the agent makes of it, by a gate that opens from zero."""

    noise: Tensor

    def __init__(self, feature_shape: tuple[int, int, int], config: AgentConfig) -> None:
        super().__init__()
        channels, height, width = feature_shape
        self.project = nn.Conv2d(channels, config.channels, 1)
        self.standardise = Standardise(config.channels)
        self.agent = Agent(config)
        self.back = nn.Conv2d(config.channels, channels, 1)
        self.gate = nn.Parameter(torch.zeros(()))
        given, shape = torch.Generator().manual_seed(SEED), (1, config.channels, height, width)
        drawn = [torch.randn(shape, generator=given) for _ in range(self.agent.draws())]
        # (draws, 1, D, h, w), for every crop the same, so that what is said of one depends on no other. Not stored: it
        # is made of the seed.
        self.register_buffer("noise", torch.stack(drawn) if drawn else torch.zeros(0), persistent=False)

    def latent(self, features: tuple[Tensor, ...]) -> Tensor:
        """The last map as the agent reads it (B, D, h, w), of unit variance."""
        found: Tensor = self.standardise(self.project(features[-1]))
        return found

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features as they were and, after them, what `Bridged` reads: the head reads the last of all."""
        own = self.latent(features)
        if self.training:
            denoised = self.agent.denoise(own, gaussian(own.shape, noise_of_this_step(own.device, stream=1)))
        else:
            denoised = self.agent.denoise(own, iter(self.noise if self.agent.draws() else ()))
        bridged = features[-1] + self.gate * self.back(denoised.to(self.back.weight.dtype))
        return (*features, own, denoised, bridged.to(features[-1].dtype))


@dataclass(frozen=True)
class Bridged:
    """The features (B, C, h, w) of a model with an `AgentNeck`, each by its name."""

    raw: tuple[Tensor, ...]
    """as the backbone gave them"""
    own: Tensor
    """the last of them as the agent reads it, (B, D, h, w)"""
    denoised: Tensor
    """what the agent made of that, (B, D, h, w)"""

    @classmethod
    def of(cls, features: tuple[Tensor, ...]) -> Bridged:
        """Of all that the neck returned, the bridged map left out."""
        *raw, own, denoised, _ = features
        return cls(tuple(raw), own, denoised)


def noise_of_this_step(device: torch.device, *, stream: int = 0) -> torch.Generator:
    """Apart from all other draws, and following from the step as these do: switching an agent on changes no other."""
    return torch.Generator(device).manual_seed((shared_seed() ^ (0xA6E47 + stream)) & 0x7FFF_FFFF)


def gaussian(shape: tuple[int, ...], generator: torch.Generator) -> Iterator[Tensor]:
    """Gaussian noise for a batch (B, ...), anew each time, where the generator lies; it follows the person."""
    while True:
        yield normal_by_person(shape, generator)
