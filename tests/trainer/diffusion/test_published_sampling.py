"""Sampling against improved-diffusion's rules re-derived here, and diffusers where it is right."""

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from tests.trainer.diffusion.networks import network_of, no_noise, normal, some_mask, some_network
from trainer.config import DiffusionConfig, SamplingConfig
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample
from trainer.diffusion.schedule import betas
from trainer.respacing import timesteps

TARGETS = ["eps", "x_start", "v"]
SCHEDULES = ["linear", "cosine", "sigmoid"]
VARIANCES = ["fixed_small", "fixed_large", "learned_range"]


class Iddpm:
    """Respacing and posterior as improved-diffusion computes them (respace.py, q_posterior)."""

    def __init__(self, base_betas: np.ndarray, use_timesteps: list[int]):
        self.timestep_map, new_betas, last = [], [], 1.0
        for i, alpha_cumprod in enumerate(np.cumprod(1.0 - base_betas)):
            if i in use_timesteps:
                new_betas.append(1 - alpha_cumprod / last)
                last = alpha_cumprod
                self.timestep_map.append(i)
        self.betas = np.array(new_betas)
        self.alphas_cumprod = np.cumprod(1.0 - self.betas)

    def sample(self, network, target, x: np.ndarray, draw, variance) -> np.ndarray:
        previous = np.append(1.0, self.alphas_cumprod[:-1])
        smallest = self.betas * (1 - previous) / (1 - self.alphas_cumprod)
        for i in reversed(range(len(self.betas))):
            beta, abar, abar_prev = self.betas[i], self.alphas_cumprod[i], previous[i]
            t = torch.full((len(x),), self.timestep_map[i])
            output, place = np.split(network(torch.from_numpy(x), t).numpy(), 2, axis=1)
            if target == "eps":
                pred = np.sqrt(1 / abar) * x - np.sqrt(1 / abar - 1) * output
            elif target == "v":
                pred = np.sqrt(abar) * x - np.sqrt(1 - abar) * output
            else:
                pred = np.tanh(output / 2)
            pred = np.clip(pred, -1, 1)
            mean = (
                beta * np.sqrt(abar_prev) / (1 - abar) * pred
                + (1 - abar_prev) * np.sqrt(1 - beta) / (1 - abar) * x
            )
            if i == 0:
                return mean
            share = {"fixed_small": 0, "fixed_large": 1, "learned_range": (place + 1) / 2}[variance]
            log_variance = share * np.log(beta) + (1 - share) * np.log(smallest[i])
            x = mean + np.exp(0.5 * log_variance) * draw(len(self.betas) - 1 - i)
        raise AssertionError("the last step returns")


def with_variance(x_t: Tensor, t: Tensor) -> Tensor:
    """some_network, and a variance somewhere between its bounds that depends on the pixel."""
    return torch.cat([some_network(x_t, t), torch.cos(5 * x_t)], dim=1)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("respacing", [1, 2, 7, 48, "ddim50", "3,4,5", 250])
@pytest.mark.one_in(5)
def test_ddpm_follows_improved_diffusions_rules(schedule, target, variance, respacing):
    config = DiffusionConfig(noise_schedule=schedule, target=target, variance=variance)
    noises = [normal(i, 2, 1, 3, 3) for i in range(250)]
    ours = sample(
        Process(config),
        with_variance if variance == "learned_range" else some_network,
        normal(99, 2, 1, 3, 3),
        SamplingConfig(method="ddpm", timestep_respacing=respacing),
        lambda i: noises[i],
    )
    oracle = Iddpm(betas(schedule, 1000).numpy(), timesteps(1000, respacing))
    theirs = oracle.sample(
        with_variance,
        target,
        normal(99, 2, 1, 3, 3).numpy(),
        lambda i: noises[i].numpy(),
        variance,
    )
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-8)


# diffusers' float32 tables cannot express the last cosine timesteps with target eps.
DIFFUSERS = [("linear", "eps"), ("linear", "v"), ("cosine", "v"), ("cosine", "x_start")]
DIFFUSERS += [("sigmoid", "v")]
DIFFUSERS_NAMES = {"eps": "epsilon", "v": "v_prediction", "x_start": "sample"}


@pytest.mark.parametrize("method", ["ddpm", "ddim"])
@pytest.mark.parametrize(("schedule", "target"), DIFFUSERS)
@pytest.mark.parametrize("respacing", [1, 5, 10, 50])
def test_equals_diffusers_where_the_spacing_divides(method, schedule, target, respacing):
    shared = dict(
        trained_betas=betas(schedule, 1000).tolist(),
        prediction_type=DIFFUSERS_NAMES[target],
        timestep_spacing="trailing",
        clip_sample=True,
    )
    if method == "ddpm":
        theirs, options = DDPMScheduler(**shared, variance_type="fixed_small"), {}
    else:
        theirs = DDIMScheduler(**shared, set_alpha_to_one=True)
        options = {"eta": 0.5, "use_clipped_model_output": True}
    theirs.set_timesteps(respacing)
    assert theirs.timesteps.tolist() == timesteps(1000, respacing)

    process = Process(DiffusionConfig(noise_schedule=schedule, target=target))
    start = normal(0, 2, 1, 3, 3)
    x, generator = start, torch.Generator().manual_seed(7)
    for t in theirs.timesteps:
        output = process.prediction(some_network(x, t.expand(2)))  # diffusers knows no logits
        x = theirs.step(output, t, x, generator=generator, **options).prev_sample

    generator.manual_seed(7)
    ours = sample(
        process,
        some_network,
        start,
        SamplingConfig(method=method, timestep_respacing=respacing, eta=0.5),
        lambda i: torch.randn(x.shape, generator=generator, dtype=x.dtype),
    )
    torch.testing.assert_close(ours, x, rtol=0, atol=2e-3)


@pytest.mark.parametrize("variance", ["fixed_large", "learned_range"])
@pytest.mark.parametrize(("schedule", "target"), DIFFUSERS)
@pytest.mark.parametrize("respacing", [5, 50])
def test_variance_is_diffusers(variance, schedule, target, respacing):
    theirs = DDPMScheduler(
        trained_betas=betas(schedule, 1000).tolist(),
        prediction_type=DIFFUSERS_NAMES[target],
        timestep_spacing="trailing",
        variance_type=variance,
    )
    theirs.set_timesteps(respacing)
    process = Process(DiffusionConfig(noise_schedule=schedule, target=target, variance=variance))
    network = with_variance if variance == "learned_range" else some_network
    start = normal(0, 2, 1, 3, 3)
    x, generator = start, torch.Generator().manual_seed(7)
    for t in theirs.timesteps:
        output = network(x, t.expand(2))
        output = torch.cat([process.prediction(output), output[:, 1:]], dim=1)
        step = theirs.step(output, t, x, generator=generator)
        x = step.prev_sample

    generator.manual_seed(7)
    ours = sample(
        process,
        network,
        start,
        SamplingConfig(method="ddpm", timestep_respacing=respacing),
        lambda i: torch.randn(x.shape, generator=generator, dtype=x.dtype),
    )
    # Their last step, t = 19 of trailing 50, adds noise to the result: only t = 0 would not.
    torch.testing.assert_close(ours, step.pred_original_sample, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("schedule", "target"),
    [("linear", "x_start"), ("linear", "v"), ("linear", "eps"), ("sigmoid", "v")],
)
@pytest.mark.parametrize("respacing", [1, 2, 5, 10, 20, 50])
def test_dpm_solver_is_diffusers(schedule, target, respacing):
    theirs = DPMSolverMultistepScheduler(
        trained_betas=betas(schedule, 1000).tolist(),
        prediction_type=DIFFUSERS_NAMES[target],
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    theirs.set_timesteps(respacing)
    process = Process(DiffusionConfig(noise_schedule=schedule, target=target))
    network = network_of(process, some_mask)  # within [-1, 1], since theirs does not clip
    x = start = normal(0, 2, 1, 3, 3)
    for t in theirs.timesteps:
        x = theirs.step(process.prediction(network(x, t.expand(2))), t, x).prev_sample.double()
    sampling = SamplingConfig(method="dpmpp_2m", timestep_respacing=respacing)
    ours = sample(process, network, start, sampling, no_noise)
    torch.testing.assert_close(ours, x, rtol=0, atol=2e-3)
