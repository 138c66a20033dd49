"""Sampling against closed forms and networks that know the answer."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.diffusion.networks import network_of, no_noise, normal, some_mask, some_network
from trainer.config import DiffusionConfig, SamplingConfig
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample
from trainer.model_config import ModelConfig
from trainer.models import build_model
from trainer.respacing import timesteps

SCHEDULES = ["linear", "cosine", "sigmoid"]
METHODS = ["ddpm", "ddim", "dpmpp_2m"]
RESPACINGS = [1, 2, 5, 10, 50, 250, "ddim50", "10,20,30"]
VARIANCES = ["fixed_small", "fixed_large", "learned_range"]


TARGETS = [("eps", False), ("x_start", False), ("v", False), ("x_start", True), ("v", True)]
COMBINATIONS = [
    # All pairs of settings are in the quick ones.
    pytest.param(
        target,
        zero_snr,
        schedule,
        method,
        b,
        marks=() if (i + j) % 3 == k and (i + j) % 2 == n else pytest.mark.slow,
    )
    for i, (target, zero_snr) in enumerate(TARGETS)
    for j, schedule in enumerate(SCHEDULES)
    for k, method in enumerate(METHODS)
    for n, b in enumerate((1.0, 0.1))
]


@pytest.mark.parametrize(("target", "zero_snr", "schedule", "method", "b"), COMBINATIONS)
def test_a_perfect_network_recovers_the_mask(method, schedule, b, target, zero_snr):
    config = DiffusionConfig(
        noise_schedule=schedule, target=target, input_scale=b, zero_terminal_snr=zero_snr
    )
    process = Process(config)
    x_start = normal(0, 2, 1, 8, 8).sign()
    perfect = network_of(process, lambda x_t, t: x_start)
    for respacing in RESPACINGS:
        sampling = SamplingConfig(method=method, timestep_respacing=respacing, eta=0.3)
        result = sample(
            process, perfect, normal(1, 2, 1, 8, 8), sampling, lambda i: normal(i, 2, 1, 8, 8)
        )
        assert (result - x_start).square().mean().sqrt() < 1e-5


@pytest.mark.parametrize("method", ["ddim", "dpmpp_2m"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("target", "zero_snr"), [("eps", False), ("v", False), ("v", True)])
def test_the_noise_that_made_x_t_leads_back_to_the_mask(method, schedule, target, zero_snr):
    """Unlike a network that knows the mask, this one forgives no step to a wrong noise level."""
    config = DiffusionConfig(noise_schedule=schedule, target=target, zero_terminal_snr=zero_snr)
    process = Process(config)
    x_start, noise = normal(0, 1, 1, 8, 8).sign(), normal(1, 1, 1, 8, 8)
    for respacing in RESPACINGS:
        first = torch.tensor([timesteps(1000, respacing)[0]])
        result = sample(
            process,
            lambda x_t, t: process.target(x_start, noise, t),
            process.q_sample(x_start, first, noise),
            SamplingConfig(method=method, timestep_respacing=respacing),
            no_noise,
        )
        assert (result - x_start).square().mean().sqrt() < 1e-5


@pytest.mark.parametrize("variance", VARIANCES)
def test_a_perfect_network_recovers_the_mask_at_every_variance(variance):
    process = Process(DiffusionConfig(variance=variance))
    x_start = normal(0, 2, 1, 8, 8).sign()

    def perfect(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.cat([40 * x_start, x_t], dim=1)[:, : process.output_channels]

    for respacing in RESPACINGS:
        sampling = SamplingConfig(method="ddpm", timestep_respacing=respacing)
        result = sample(
            process, perfect, normal(1, 2, 1, 8, 8), sampling, lambda i: normal(i, 2, 1, 8, 8)
        )
        assert (result - x_start).square().mean().sqrt() < 1e-5


@pytest.mark.parametrize("target", ["x_start", "v"])
@pytest.mark.parametrize("method", METHODS)
def test_pure_noise_is_the_limit_of_nearly_pure_noise(method, target):
    """A first timestep with an SNR of 0 leads where one of 1e-12 leads."""

    def drawn(abar_last: float) -> Tensor:
        config = DiffusionConfig(target=target, zero_terminal_snr=True, num_timesteps=100)
        process = Process(config)
        process.alphas_cumprod[-1] = abar_last
        return sample(
            process,
            network_of(process, some_mask),
            normal(0, 2, 1, 4, 4),
            SamplingConfig(method=method, timestep_respacing=5, eta=0.5),
            lambda i: normal(i, 2, 1, 4, 4),
        )

    # dpmpp_2m's second step leans on the first by h / h_first, which falls like 1 / log SNR only.
    tolerance = 0.05 if method == "dpmpp_2m" else 1e-4
    torch.testing.assert_close(drawn(1e-12), drawn(0.0), rtol=0, atol=tolerance)
    torch.testing.assert_close(drawn(1e-250), drawn(0.0), rtol=0, atol=tolerance / 10)


def error_at(timestep: int, method: str, respacing: int) -> float:
    """Distance at one timestep from the exact solution of the probability-flow equation.

    Of masks with independent normal pixels of deviation c, x_start's expectation given x_t is
    a c^2 / (a^2 c^2 + s^2) x_t, and the solution a fixed multiple of sqrt(a^2 c^2 + s^2).
    """
    process, c = Process(DiffusionConfig(noise_schedule="linear", target="v")), 0.3
    spread = process.alphas_cumprod * c**2 + 1 - process.alphas_cumprod
    errors = {}

    def mean(x_t: Tensor, t: Tensor) -> Tensor:
        now = int(t[0])
        errors[now] = (x_t / spread[now].sqrt() - start).abs().max().item()
        return process.alphas_cumprod[now].sqrt() * c**2 / spread[now] * x_t

    start = normal(0, 1, 1, 4, 4).clamp(-2, 2)
    sampling = SamplingConfig(method=method, timestep_respacing=respacing)
    noise = start * spread[-1].sqrt()
    sample(process, network_of(process, mean), noise, sampling, no_noise)
    return errors[timestep]


def test_dpm_solver_converges_at_second_order_and_ddim_at_first():
    steps = [20, 40, 80, 160]
    second = [error_at(499, "dpmpp_2m", n) for n in steps]
    first = [error_at(499, "ddim", n) for n in steps]
    orders = np.log2(np.divide(second[:-1], second[1:]))
    assert orders[-1] == pytest.approx(2, abs=0.25), orders
    assert np.log2(first[-2] / first[-1]) == pytest.approx(1, abs=0.15)
    assert all(a < b / 2 for a, b in zip(second, first, strict=True))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("method", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.6)])
@pytest.mark.parametrize("respacing", [4, 50, 250, "ddim50", "10,20,30"])
@pytest.mark.parametrize(("b", "zero_snr"), [(1.0, False), (0.3, True)])
@pytest.mark.one_in(7)
def test_every_step_sees_the_noise_level_it_is_told(schedule, method, eta, respacing, b, zero_snr):
    config = DiffusionConfig(
        noise_schedule=schedule, target="v", input_scale=b, zero_terminal_snr=zero_snr
    )
    process = Process(config)
    x_start, noise, levels = normal(0, 1, 1, 80, 80).sign(), normal(1, 1, 1, 80, 80), []

    def mask(x_t: Tensor, t: Tensor) -> Tensor:
        abar = process.alphas_cumprod[t].item()
        residual = x_t - abar**0.5 * x_start
        levels.append(residual.std().item() / (1 - abar) ** 0.5)
        return x_start

    visited = timesteps(1000, respacing)
    x_t = process.q_sample(x_start, torch.tensor([visited[0]]), noise)
    sampling = SamplingConfig(method=method, eta=eta, timestep_respacing=respacing)
    draws = torch.randn(260, 80, 80, generator=torch.Generator().manual_seed(2)).double()
    sample(process, network_of(process, mask), x_t, sampling, lambda i: draws[i][None, None])
    assert levels == pytest.approx([1.0] * len(visited), abs=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["x_start", "v"])
def test_self_conditioning_carries_the_estimate_from_step_to_step(method, target):
    process = Process(DiffusionConfig(target=target, self_conditioning=0.5))
    shown, estimates = [], []

    def network(x: Tensor, t: Tensor) -> Tensor:
        shown.append(x)
        output = 2 * some_network(x[:, :1], t) + 0.5 * x[:, 1:]
        estimates.append(process.x_start(output, x[:, :1], t).clamp(-1, 1))
        return output

    sampling = SamplingConfig(method=method, timestep_respacing=4)
    result = sample(
        process, network, normal(0, 2, 1, 3, 3), sampling, lambda i: normal(i, 2, 1, 3, 3)
    )
    assert torch.equal(shown[0][:, :1], normal(0, 2, 1, 3, 3))
    assert (shown[0][:, 1:] == 0).all()
    for x, estimate in zip(shown[1:], estimates, strict=False):
        assert torch.equal(x[:, 1:], estimate)
    assert len(shown) == 4 and torch.equal(result, estimates[-1])


@pytest.mark.parametrize(
    ("method", "eta", "calls"),
    [
        ("ddim", 0.0, []),
        ("ddim", 0.5, [0, 1, 2, 3]),
        ("ddpm", 0.0, [0, 1, 2, 3]),
        ("dpmpp_2m", 0.5, []),
    ],
)
def test_noise_is_asked_for_only_where_it_is_used(method, eta, calls):
    asked = []

    def step_noise(i: int) -> Tensor:
        asked.append(i)
        return normal(i, 1, 1, 2, 2)

    sampling = SamplingConfig(method=method, eta=eta, timestep_respacing=5)
    sample(Process(DiffusionConfig()), some_network, normal(9, 1, 1, 2, 2), sampling, step_noise)
    assert asked == calls


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_does_not_depend_on_the_batch_it_was_drawn_in(method):
    torch.manual_seed(0)
    config = ModelConfig(width=8, depth=2)
    model = build_model(config, in_channels=2, image_size=8, outputs_logits=False).double().eval()
    process = Process(DiffusionConfig(target="v"))
    cond = normal(0, 3, 2, 8, 8)
    noises = [normal(1 + i, 3, 1, 8, 8) for i in range(6)]
    sampling = SamplingConfig(method=method, eta=1.0, timestep_respacing=5)

    def draw(rows: slice) -> Tensor:
        return sample(
            process,
            lambda x_t, t: model(x_t, t, model.condition(cond[rows])),
            noises[5][rows],
            sampling,
            lambda i: noises[i][rows],
        )

    one_by_one = torch.cat([draw(slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(draw(slice(0, 3)), one_by_one, rtol=0, atol=1e-9)
    assert one_by_one.std() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_result_is_a_float32_mask_in_range_for_an_absurd_half_precision_network(method):
    result = sample(
        Process(DiffusionConfig(target="eps")),
        lambda x_t, t: (1e4 * torch.cos(x_t)).bfloat16(),
        normal(0, 2, 1, 4, 4, dtype=torch.float32),
        SamplingConfig(method=method, eta=1.0),
        lambda i: normal(i, 2, 1, 4, 4, dtype=torch.float32),
    )
    assert result.dtype == torch.float32
    assert result.abs().max() <= 1 and result.isfinite().all()
