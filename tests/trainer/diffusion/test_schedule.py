"""Noise schedules against closed forms and published rules."""

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from pydantic import ValidationError

from trainer.config import DiffusionConfig
from trainer.diffusion.schedule import MAX_BETA, alphas_cumprod, betas

SCHEDULES = ["linear", "cosine", "sigmoid"]


def kept(
    schedule: str, num_timesteps: int = 1000, b: float = 1.0, zero_snr: bool = False
) -> torch.Tensor:
    return alphas_cumprod(
        DiffusionConfig(
            noise_schedule=schedule,
            num_timesteps=num_timesteps,
            input_scale=b,
            zero_terminal_snr=zero_snr,
        )
    )


def test_linear_is_ho_et_al_at_1000_timesteps():
    expected = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    assert betas("linear", 1000).tolist() == pytest.approx(expected, rel=1e-12)


def test_cosine_product_is_nichol_and_dhariwals_closed_form():
    def f(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [f((t + 1) / 1000) / f(0) for t in range(999)]  # the last beta is capped
    assert kept("cosine").tolist()[:999] == pytest.approx(expected, rel=1e-9)


def test_sigmoid_product_is_jabri_et_als_closed_form():
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    start, end = sigmoid(-3), sigmoid(3)
    expected = [(end - sigmoid(-3 + 6 * (t + 1) / 1000)) / (end - start) for t in range(999)]
    assert kept("sigmoid").tolist()[:999] == pytest.approx(expected, rel=1e-9)
    assert kept("sigmoid")[499].item() == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [2, 10, 1000])
def test_zero_terminal_snr_is_lin_et_als_rescaling(schedule, num_timesteps):
    base, table = kept(schedule, num_timesteps), kept(schedule, num_timesteps, zero_snr=True)
    assert table[-1].item() == 0.0
    assert table[0].item() == pytest.approx(base[0].item(), rel=1e-12)
    assert (table.diff() < 0).all()
    # Of the square roots, linearly: equal differences up to one factor.
    ratios = table.sqrt().diff() / base.sqrt().diff()
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-6, atol=0)
    theirs = (1 - rescale_zero_terminal_snr(betas(schedule, num_timesteps))).cumprod(0)
    torch.testing.assert_close(table, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("target", ["x_start", "v"])
def test_zero_terminal_snr_is_refused_with_eps_only(target):
    DiffusionConfig(target=target, zero_terminal_snr=True)
    with pytest.raises(ValidationError, match="with target eps pure noise says nothing of x_start"):
        DiffusionConfig(target="eps", zero_terminal_snr=True)


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
@pytest.mark.parametrize("zero_snr", [False, True])
def test_input_scale_equals_scaling_the_mask_and_renormalising(schedule, b, zero_snr):
    gamma = kept(schedule, zero_snr=zero_snr)
    scaled = kept(schedule, b=b, zero_snr=zero_snr)
    assert not zero_snr or scaled[-1].item() == 0.0
    # x_t = (a b x_start + s noise) / sqrt(a^2 b^2 + s^2): x_start's share of unit variance
    expected = (gamma * b**2) / (gamma * b**2 + 1 - gamma)
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("b", "share"), [(1, 0.496), (0.5, 0.289), (0.1, 0.056)])
def test_share_of_cosine_timesteps_with_more_signal_than_noise(b, share):
    assert (kept("cosine", b=b) > 0.5).double().mean().item() == pytest.approx(share, abs=1e-3)
