"""The variance-preserving diffusion of features: Song et al., ICLR 2021, continuous time; DDPM's schedule is its grid.

A clean feature z becomes x = a(t) z + s(t) noise, with a^2 + s^2 = 1, from almost clean (t near 0) to noise (t = 1).
All arithmetic is fp32, whatever the precision around it: 1 / a and 1 / s would not survive less.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FIRST, LAST = 0.1, 20.0
"""the rate of the diffusion, beta(t), at t = 0 and t = 1: 1e-4 and 2e-2 over DDPM's 1000 steps"""


def rate(time: Tensor) -> Tensor:
    """Beta(t)."""
    return FIRST + time * (LAST - FIRST)


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """The shares a(t) of what was clean and s(t) of the noise."""
    passed = FIRST * time + (LAST - FIRST) * time**2 / 2  # the integral of beta
    return torch.exp(-passed / 2), torch.sqrt(-torch.expm1(-passed))


def time_of(ratio: Tensor) -> Tensor:
    """The time at which s / a is `ratio`: how far into the diffusion an error of that spread lies."""
    passed = torch.log1p(ratio**2)
    return 2 * passed / (FIRST + torch.sqrt(FIRST**2 + 2 * (LAST - FIRST) * passed))


def perturbed(clean: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    """The forward diffusion of clean (B, ...) to time, a scalar or (B, 1, ...)."""
    signal, spread = signal_and_noise(time)
    return signal * clean + spread * noise


def ode_step(state: Tensor, clean: Tensor, time: Tensor, earlier: Tensor) -> Tensor:
    """The reverse diffusion without noise, from time to earlier, given an estimate of the clean feature.

    The exponential Euler step of the probability-flow equation, which is DDIM's.
    """
    (signal, spread), (signal_then, spread_then) = signal_and_noise(time), signal_and_noise(earlier)
    return signal_then * clean + spread_then * (state - signal * clean) / spread


def sde_step(state: Tensor, clean: Tensor, time: Tensor, earlier: Tensor, noise: Tensor) -> Tensor:
    """The reverse diffusion with noise: one step of Euler and Maruyama."""
    signal, spread = signal_and_noise(time)
    score = -(state - signal * clean) / spread**2
    span, beta = time - earlier, rate(time)
    return state + span * beta * (state / 2 + score) + torch.sqrt(beta * span) * noise


def noise_target(clean: Tensor, noise: Tensor, time: Tensor, *, predicts: str) -> Tensor:
    """What a network that predicts clean, noise or velocity should say."""
    if predicts == "clean":
        return clean
    if predicts == "noise":
        return noise
    signal, spread = signal_and_noise(time)
    return signal * noise - spread * clean


def clean_from(predicted: Tensor, state: Tensor, time: Tensor, *, predicts: str) -> Tensor:
    """The clean feature that such a prediction implies."""
    if predicts == "clean":
        return predicted
    signal, spread = signal_and_noise(time)
    if predicts == "noise":
        return (state - spread * predicted) / signal
    return signal * state - spread * predicted


def time_features(time: Tensor, count: int) -> Tensor:
    """(B, count) sines and cosines of times (B,) in [0, 1]."""
    frequency = torch.exp(torch.arange(count // 2, device=time.device) * (math.log(1000.0) / (count // 2 - 1)))
    angle = time[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
