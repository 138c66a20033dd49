"""One weight on x_start's error, whatever the target expresses it in."""

import math

import pytest
import torch
from torch.nn import functional as F

from trainer.config import DiffusionConfig, LossConfig
from trainer.diffusion.process import Process
from trainer.diffusion.weighting import MIN_WEIGHT, error_scale

T = torch.arange(1000)
SCHEDULES = ["linear", "cosine", "sigmoid"]
CRITERIA = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}
WEIGHTINGS = {
    "uniform": {"noise_weighting": "uniform"},
    "min_snr": {"noise_weighting": "min_snr"},
    "min_snr_20": {"noise_weighting": "min_snr", "min_snr_gamma": 20.0},
    "sigmoid": {"noise_weighting": "sigmoid"},
    "sigmoid_-3": {"noise_weighting": "sigmoid", "sigmoid_bias": -3.0},
}


def process_for(schedule: str, target: str, **settings: object) -> Process:
    return Process(DiffusionConfig(noise_schedule=schedule, target=target, **settings))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("b", "zero_snr"), [(1.0, False), (0.3, False), (1.0, True)])
def test_equal_predictions_cost_the_same_under_every_target(
    criterion, weighting, schedule, b, zero_snr
):
    loss = LossConfig(**WEIGHTINGS[weighting])
    generator = torch.Generator().manual_seed(0)
    x_start, noise, guess = torch.randn(3, 1000, 1, 2, 2, generator=generator).double()
    costs = []
    for target in ["x_start", "v", *([] if zero_snr else ["eps"])]:
        process = process_for(schedule, target, input_scale=b, zero_terminal_snr=zero_snr)
        x_t = process.q_sample(x_start, T, noise)
        exact = process.target(x_start, noise, T)
        predicted = process.target(guess, process.eps(guess, x_t, T), T)
        error = error_scale(process, T, loss)[:, None, None, None] * (predicted - exact)
        pixels = CRITERIA[criterion](error, torch.zeros_like(error), reduction="none")
        costs.append(pixels.mean(dim=(1, 2, 3)))
    assert (costs[0] > 0).all()
    for other in costs[1:]:
        torch.testing.assert_close(other, costs[0], rtol=1e-6, atol=0)


def test_weights_are_the_published_ones():
    snr = Process(DiffusionConfig()).snr(T)
    visible = snr > 1e-4

    def weight(**settings: object) -> torch.Tensor:
        return error_scale(process_for("cosine", "x_start"), T, LossConfig(**settings)) ** 2

    torch.testing.assert_close(weight(noise_weighting="uniform"), torch.ones(1000).double())
    min_snr = weight(noise_weighting="min_snr", min_snr_gamma=7.0)
    torch.testing.assert_close(min_snr[visible], snr.clamp(max=7.0)[visible])
    sigmoid = weight(noise_weighting="sigmoid", sigmoid_bias=-1.5)
    expected = math.exp(-1.5) * torch.sigmoid(snr.log() + 1.5)
    torch.testing.assert_close(sigmoid[visible], expected[visible])


def test_min_snr_is_hang_et_als_for_eps_and_v():
    """min(SNR, gamma) / SNR for eps and / (SNR + 1) for v, as in diffusers' training scripts."""
    snr = process_for("linear", "eps").snr(T)
    loss = LossConfig(noise_weighting="min_snr")
    eps = error_scale(process_for("linear", "eps"), T, loss) ** 2
    torch.testing.assert_close(eps, snr.clamp(max=5) / snr)
    v = error_scale(process_for("linear", "v"), T, loss) ** 2
    torch.testing.assert_close(v, snr.clamp(max=5) / (snr + 1))


@pytest.mark.parametrize("target", ["x_start", "v", "eps"])
def test_plain_leaves_the_error_as_it_is(target):
    loss = LossConfig(noise_weighting="plain")
    assert error_scale(process_for("cosine", target), T, loss).tolist() == [1.0] * 1000


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("b", [1.0, 0.1])
@pytest.mark.parametrize(
    ("target", "zero_snr"),
    [("x_start", False), ("x_start", True), ("v", False), ("v", True), ("eps", False)],
)
def test_every_timestep_that_sampling_can_visit_has_a_weight(
    weighting, schedule, b, target, zero_snr
):
    process = process_for(schedule, target, input_scale=b, zero_terminal_snr=zero_snr)
    scale = error_scale(process, T, LossConfig(**WEIGHTINGS[weighting])).float()
    assert scale.isfinite().all() and (scale > 0).all()
    if target == "x_start":
        assert (scale**2 >= 0.999 * MIN_WEIGHT).all()
