"""The hybrid loss's variational term against improved-diffusion's rules re-derived here."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from trainer.config import DiffusionConfig
from trainer.diffusion.process import Process
from trainer.diffusion.vlb import vb_term


def published(process: Process, output: np.ndarray, x_start, x_t, t: np.ndarray) -> np.ndarray:
    """T/1000 times the bound at t: KL of full posteriors, or 8-bit bins' likelihood at t = 0."""
    abar = process.alphas_cumprod.numpy()
    previous = np.append(1.0, abar[:-1])
    beta = 1 - abar / previous
    variance = beta * (1 - previous) / (1 - abar)
    log_variance = np.log(np.append(variance[1], variance[1:]))

    def at(table: np.ndarray) -> np.ndarray:
        return table[t][:, None, None, None]

    def mean(x0: np.ndarray) -> np.ndarray:
        first = beta * np.sqrt(previous) / (1 - abar)
        second = (1 - previous) * np.sqrt(1 - beta) / (1 - abar)
        return at(first) * x0 + at(second) * x_t

    raw, place = output[:, :1], output[:, 1:]
    match process.predicts:
        case "x_start":
            predicted = np.tanh(raw / 2)
        case "eps":
            predicted = np.sqrt(1 / at(abar)) * x_t - np.sqrt(1 / at(abar) - 1) * raw
        case "v":
            predicted = np.sqrt(at(abar)) * x_t - np.sqrt(1 - at(abar)) * raw
    share = (place + 1) / 2
    model = share * np.log(at(beta)) + (1 - share) * at(log_variance)
    true, means = at(log_variance), (mean(x_start), mean(predicted))
    kl = 0.5 * (
        -1 + model - true + np.exp(true - model) + (means[0] - means[1]) ** 2 * np.exp(-model)
    )

    def cdf(x: np.ndarray) -> np.ndarray:
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    centred, precision = x_start - means[1], np.exp(-0.5 * model)
    upper, lower = cdf(precision * (centred + 1 / 255)), cdf(precision * (centred - 1 / 255))
    likelihood = np.where(
        x_start < -0.999, upper, np.where(x_start > 0.999, 1 - lower, upper - lower)
    )
    nll = -np.log(np.maximum(likelihood, 1e-12))
    bits = np.where(at(np.arange(len(abar)) == 0), nll, kl).mean(axis=(1, 2, 3)) / np.log(2)
    return bits * process.num_timesteps / 1000


def setting(num_timesteps: int, **settings: object):
    config = DiffusionConfig(num_timesteps=num_timesteps, variance="learned_range", **settings)
    process = Process(config)
    generator = torch.Generator().manual_seed(0)
    t = torch.tensor([0, 0, 1, 2, num_timesteps // 3, num_timesteps // 2, num_timesteps - 1])
    x_start, noise, place = torch.randn(3, len(t), 1, 4, 4, generator=generator).double()
    x_start = x_start.sign()
    x_t = process.q_sample(x_start, t, noise)
    exact = process.target(0.99 * x_start, noise, t)
    if process.predicts == "x_start":
        exact = 2 * torch.atanh(exact)
    return process, torch.cat([exact + 0.01 * noise, place], dim=1), x_start, x_t, t


@pytest.mark.parametrize("target", ["eps", "x_start", "v"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("num_timesteps", [1000, 50])
def test_term_is_improved_diffusions_number(target, schedule, num_timesteps):
    process, output, x_start, x_t, t = setting(
        num_timesteps, target=target, noise_schedule=schedule
    )
    ours = vb_term(process, output, x_start=x_start, x_t=x_t, t=t)
    theirs = published(process, output.numpy(), x_start.numpy(), x_t.numpy(), t.numpy())
    # 1 - cdf loses digits at the likelihood's floor, where the reference writes it so.
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)
    assert ours.dtype == torch.float64 and ours.shape == (7,)
    single = vb_term(process, output.float(), x_start=x_start.float(), x_t=x_t.float(), t=t)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, ours.float(), rtol=1e-3, atol=1e-3)


def test_a_perfect_mean_with_the_smallest_variance_costs_nothing_after_the_first_timestep():
    process, output, x_start, x_t, t = setting(1000, target="v")
    noise = process.eps(x_start, x_t, t)
    output = torch.cat([process.target(x_start, noise, t), -torch.ones_like(noise)], dim=1)
    cost = vb_term(process, output, x_start=x_start, x_t=x_t, t=t)
    torch.testing.assert_close(cost[t > 0], torch.zeros(5).double(), rtol=0, atol=1e-12)


def test_likelihood_is_a_normal_distributions_beyond_the_bin():
    process, output, x_start, x_t, t = setting(1000)
    output[:, :1] = 6.0 * x_start  # tanh(3) = 0.995
    output[:, 1:] = -1.0
    cost = vb_term(process, output, x_start=x_start, x_t=x_t, t=t)[0]
    abar = process.alphas_cumprod
    deviation = ((1 - abar[1] / abar[0]) * (1 - abar[0]) / (1 - abar[1])).sqrt().item()
    expected = -norm.logcdf((math.tanh(3) - 1 + 1 / 255) / deviation) / math.log(2)
    assert cost.item() == pytest.approx(expected, rel=0.02)  # the published cdf is approximate


@pytest.mark.parametrize("target", ["x_start", "v"])
def test_only_the_variance_is_trained_and_finds_its_optimum(target):
    process, output, x_start, x_t, t = setting(1000, target=target)
    output = output.clone().requires_grad_()
    vb_term(process, output, x_start=x_start, x_t=x_t, t=t).sum().backward()
    assert (output.grad[:, 0] == 0).all() and (output.grad[:, 1] != 0).any(dim=(1, 2)).all()

    # KL to a normal of the wrong mean is least at the true variance + the squared error of the mean
    generator = torch.Generator().manual_seed(1)
    guess = torch.cat([4 * x_start, 0 * x_start], dim=1)
    guess[:, :1] += torch.randn(x_start.shape, generator=generator).double()
    if target == "v":
        guess[:, :1] = process.target(x_start, process.eps(x_start, x_t, t), t) + 0.1
    place = torch.zeros_like(x_start, requires_grad=True)
    optimizer = torch.optim.LBFGS([place], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        output = torch.cat([guess[:, :1], place], dim=1)
        loss = vb_term(process, output, x_start=x_start, x_t=x_t, t=t)[t > 0].sum()
        loss.backward()
        return loss

    before = closure().item()
    optimizer.step(closure)
    assert closure().item() < 0.9 * before
    weight, low, high = process.posterior(t, x_start)
    share = (place.detach() + 1) / 2
    learned = (share * high + (1 - share) * low).exp()
    mean_error = weight * (process.x_start(guess, x_t, t) - x_start)
    torch.testing.assert_close(
        learned[t > 0], (low.exp() + mean_error**2)[t > 0], rtol=1e-2, atol=0
    )


def test_pure_noise_has_a_finite_term():
    process, output, x_start, x_t, t = setting(
        1000, target="v", zero_terminal_snr=True, noise_schedule="cosine", input_scale=0.3
    )
    cost = vb_term(process, output, x_start=x_start, x_t=x_t, t=t)
    assert cost.isfinite().all() and (cost >= 0).all()
