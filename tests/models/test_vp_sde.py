import math
from itertools import pairwise

import pytest
import torch

from posestill.models import vp_sde


def test_signal_and_noise_keep_the_variance_and_are_those_of_the_table():
    time = torch.tensor([0.02, 0.1, 0.2, 0.4, 1.0], dtype=torch.float64)
    signal, noise = vp_sde.signal_and_noise(time)
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(signal, torch.tensor([0.997, 0.947, 0.811, 0.442, 0.0066]).double(), atol=5e-4, rtol=0)
    torch.testing.assert_close(noise, torch.tensor([0.077, 0.322, 0.585, 0.897, 1.0]).double(), atol=6e-4, rtol=0)


def test_a_ratio_of_noise_to_signal_has_its_time():
    time = torch.linspace(0.01, 0.9, 50, dtype=torch.float64)
    signal, noise = vp_sde.signal_and_noise(time)
    assert (vp_sde.time_of(noise / signal) - time).abs().max() < 1e-9
    assert vp_sde.time_of(torch.tensor(0.5)).item() == pytest.approx(0.145, abs=1e-3)


def test_ddpms_thousand_steps_lie_on_it():
    betas = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    discrete = torch.cumprod(1 - betas, 0).sqrt()
    signal, _ = vp_sde.signal_and_noise(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    assert (discrete - signal).abs().max() < 1.1e-3


@pytest.mark.parametrize("predicts", ["clean", "noise", "velocity"])
def test_what_a_perfect_network_says_gives_the_clean_feature_back(predicts):
    clean, noise = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    time = torch.tensor([[0.05], [0.2], [0.4], [0.7]], dtype=torch.float64)
    state = vp_sde.perturbed(clean, time, noise)
    said = vp_sde.noise_target(clean, noise, time, predicts=predicts)
    torch.testing.assert_close(vp_sde.clean_from(said, state, time, predicts=predicts), clean)


def test_the_best_guess_of_a_standard_normal_is_its_share_of_the_state():
    """Tweedie's formula for N(0, 1), whose score is -x: x0 = a x."""
    time, state = torch.tensor(0.3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    signal, spread = vp_sde.signal_and_noise(time)
    torch.testing.assert_close(vp_sde.clean_from(spread * state, state, time, predicts="noise"), signal * state)


@pytest.mark.parametrize("with_noise", [False, True])
def test_the_reverse_diffusion_of_a_normal_gives_its_moments_back(with_noise):
    """Features of N(1, 0.5^2), whose exact estimate is known at every time."""
    generator = torch.Generator().manual_seed(0)
    mean, deviation, steps = 1.0, 0.5, 200
    times = torch.linspace(1.0, 1e-3, steps + 1, dtype=torch.float64)
    state = torch.randn(40000, dtype=torch.float64, generator=generator)

    def best(state, time):
        signal, spread = vp_sde.signal_and_noise(time)
        variance = signal**2 * deviation**2 + spread**2
        return mean + signal * deviation**2 / variance * (state - signal * mean)

    for time, earlier in pairwise(times):
        clean = best(state, time)
        if with_noise:
            noise = torch.randn(state.shape, dtype=torch.float64, generator=generator)
            state = vp_sde.sde_step(state, clean, time, earlier, noise)
        else:
            state = vp_sde.ode_step(state, clean, time, earlier)
    assert state.mean().item() == pytest.approx(mean, abs=0.02)
    assert state.std().item() == pytest.approx(deviation, abs=0.02)


def test_one_step_without_noise_is_the_one_worked_by_hand():
    clean, noise = torch.tensor([2.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    late, early = torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
    state = vp_sde.perturbed(clean, late, noise)
    wanted = vp_sde.perturbed(clean, early, noise)  # the same noise, less of it
    torch.testing.assert_close(vp_sde.ode_step(state, clean, late, early), wanted)


def test_time_features_start_at_rest_and_tell_near_times_apart():
    found = vp_sde.time_features(torch.tensor([0.0, 0.1, 0.101]), 32)
    assert found.shape == (3, 32)
    assert torch.equal(found[0, :16], torch.zeros(16))
    assert (found[1] - found[2]).abs().max() > 0.05
    assert math.isclose(found[1, 0].item(), math.sin(0.1), rel_tol=1e-5)
