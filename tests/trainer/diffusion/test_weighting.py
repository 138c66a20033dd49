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
@pytest.mark.one_in(7)
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
    floor = error_scale(process_for(schedule, "x_start", input_scale=b), T, loss) ** 2 <= MIN_WEIGHT
    for target, other in zip(["v", "eps"], costs[1:], strict=False):
        # eps has no floor, since it would be divided by the SNR there.
        equal = ~floor if target == "eps" else torch.ones_like(floor)
        torch.testing.assert_close(other[equal], costs[0][equal], rtol=1e-6, atol=0)


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


def snr_of(process: Process, b: float) -> torch.Tensor:
    """The signal's variance over the noise's, by q(x_t | x_start) of a constant image."""
    x_t = process.q_sample(torch.ones(1000, 1, 1, 1).double(), T, torch.zeros(1000, 1, 1, 1))
    noise = process.q_sample(torch.zeros(1000, 1, 1, 1), T, torch.ones(1000, 1, 1, 1).double())
    return (x_t / noise).square().flatten()


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("b", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_min_snr_is_hang_et_als(schedule, b, gamma):
    """min(SNR, gamma) for x_start, / SNR for eps and / (SNR + 1) for v, as diffusers has them."""
    loss = LossConfig(noise_weighting="min_snr", min_snr_gamma=gamma)
    published = {
        "x_start": lambda snr: snr.clamp(max=gamma),
        "eps": lambda snr: snr.clamp(max=gamma) / snr,
        "v": lambda snr: snr.clamp(max=gamma) / (snr + 1),
    }
    for target, formula in published.items():
        process = process_for(schedule, target, input_scale=b)
        snr = snr_of(process, b)
        found = error_scale(process, T, loss) ** 2
        above = torch.ones_like(snr, dtype=torch.bool) if target == "eps" else snr > MIN_WEIGHT
        torch.testing.assert_close(found[above], formula(snr)[above], rtol=1e-6, atol=0)
        if target == "eps":
            assert found.max() <= 1 + 1e-9
            assert found[T >= 990].sum() <= 0.011 * 1000  # no more than their share of the steps


@pytest.mark.parametrize("bias", [0.0, -3.0])
@pytest.mark.parametrize("b", [1.0, 0.1])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sigmoid_is_hoogeboom_et_als_for_eps(schedule, b, bias):
    """Their weight of x_start's error, over the SNR: e^bias sigmoid(log SNR - bias) / SNR."""
    process = process_for(schedule, "eps", input_scale=b)
    snr = snr_of(process, b)
    loss = LossConfig(noise_weighting="sigmoid", sigmoid_bias=bias)
    expected = torch.sigmoid(bias - snr.log())
    torch.testing.assert_close(error_scale(process, T, loss) ** 2, expected, rtol=1e-5, atol=0)


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
@pytest.mark.one_in(7)
def test_every_timestep_that_sampling_can_visit_has_a_weight(
    weighting, schedule, b, target, zero_snr
):
    process = process_for(schedule, target, input_scale=b, zero_terminal_snr=zero_snr)
    scale = error_scale(process, T, LossConfig(**WEIGHTINGS[weighting])).float()
    assert scale.isfinite().all() and (scale > 0).all()
    if target == "x_start":
        assert (scale**2 >= 0.999 * MIN_WEIGHT).all()
