"""Noise schedules against closed forms and published rules."""

import math

import pytest
import torch

from trainer.config import DiffusionConfig
from trainer.diffusion.schedule import MAX_BETA, alphas_cumprod, betas

SCHEDULES = ["linear", "cosine"]


def kept(schedule: str, num_timesteps: int = 1000, b: float = 1.0) -> torch.Tensor:
    return alphas_cumprod(
        DiffusionConfig(noise_schedule=schedule, num_timesteps=num_timesteps, input_scale=b)
    )


def test_linear_is_ho_et_al_at_1000_timesteps():
    expected = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    assert betas("linear", 1000).tolist() == pytest.approx(expected, rel=1e-12)


def test_cosine_product_is_nichol_and_dhariwals_closed_form():
    def f(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [f((t + 1) / 1000) / f(0) for t in range(999)]  # the last beta is capped
    assert kept("cosine").tolist()[:999] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [2, 3, 10, 50, 100, 1000, 4000])
def test_every_length_falls_strictly_to_nearly_pure_noise(schedule, num_timesteps):
    table, variances = kept(schedule, num_timesteps), betas(schedule, num_timesteps)
    assert table.dtype == variances.dtype == torch.float64
    assert table.shape == variances.shape == (num_timesteps,)
    assert (variances > 0).all() and (variances <= MAX_BETA).all()
    assert (table.diff() < 0).all() and 0 < table[-1] < 1.01e-3
    # A linear schedule that is not rescaled with T ends at 0.364 for T = 100.


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("b", [1.0, 0.5, 0.1])
def test_input_scale_equals_scaling_the_mask_and_renormalising(schedule, b):
    gamma = kept(schedule)
    scaled = kept(schedule, b=b)
    # x_t = (a b x_start + s noise) / sqrt(a^2 b^2 + s^2): x_start's share of unit variance
    expected = (gamma * b**2) / (gamma * b**2 + 1 - gamma)
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("b", "share"), [(1, 0.496), (0.5, 0.289), (0.1, 0.056)])
def test_share_of_cosine_timesteps_with_more_signal_than_noise(b, share):
    assert (kept("cosine", b=b) > 0.5).double().mean().item() == pytest.approx(share, abs=1e-3)
