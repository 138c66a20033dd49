"""Sampling against the papers' rules re-derived here, diffusers where it is right, and oracles."""

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.config import DiffusionConfig, ModelConfig, SamplingConfig
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample, timesteps
from trainer.diffusion.schedule import betas
from trainer.models import build_model

TARGETS = ["eps", "x_start", "v"]
SCHEDULES = ["linear", "cosine"]
RESPACINGS = [1, 2, 5, 10, 50, 250]


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some_network(x_t: Tensor, t: Tensor) -> Tensor:
    """A smooth deterministic output that depends on both inputs."""
    return torch.sin(3 * x_t) + 0.3 * torch.cos(t.to(x_t.dtype) / 97)[:, None, None, None]


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 4000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_timesteps_fall_evenly_from_pure_noise(counts):
    num_timesteps, respacing = counts
    chosen = timesteps(num_timesteps, respacing)
    assert len(chosen) == respacing
    assert chosen[0] == num_timesteps - 1 and chosen[-1] >= 0
    gaps = -np.diff([*chosen, -1])
    assert (np.abs(gaps - num_timesteps / respacing) < 1).all() and (gaps >= 1).all()


@pytest.mark.parametrize("respacing", [0, 1001])
def test_impossible_respacing_is_refused(respacing):
    with pytest.raises(ValueError, match=rf"timestep_respacing is {respacing}, but must be in 1"):
        timesteps(1000, respacing)


@pytest.mark.parametrize("method", ["ddim", "ddpm"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_perfect_network_recovers_the_mask(method, schedule, target):
    process = Process(DiffusionConfig(noise_schedule=schedule, target=target))
    x_start = normal(0, 2, 1, 16, 16).sign()

    def perfect(x_t: Tensor, t: Tensor) -> Tensor:
        if target == "x_start":
            return 40 * x_start  # tanh(20) is 1 in float64
        return process.target(x_start, process.eps(x_start, x_t, t), t)

    for respacing in RESPACINGS:
        sampling = SamplingConfig(method=method, timestep_respacing=respacing)
        result = sample(
            process, perfect, normal(1, 2, 1, 16, 16), sampling, lambda i: normal(i, 2, 1, 16, 16)
        )
        assert (result - x_start).square().mean().sqrt() < 1e-5


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

    def sample(self, network, target, x: np.ndarray, draw) -> np.ndarray:
        previous = np.append(1.0, self.alphas_cumprod[:-1])
        for i in reversed(range(len(self.betas))):
            beta, abar, abar_prev = self.betas[i], self.alphas_cumprod[i], previous[i]
            t = torch.full((len(x),), self.timestep_map[i])
            output = network(torch.from_numpy(x), t).numpy()
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
            deviation = np.sqrt(beta * (1 - abar_prev) / (1 - abar))
            x = mean + (deviation * draw(len(self.betas) - 1 - i) if i > 0 else 0)
        return x


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("respacing", [1, 2, 7, 48, 1000])
def test_ddpm_follows_improved_diffusions_rules(schedule, target, respacing):
    config = DiffusionConfig(noise_schedule=schedule, target=target)
    noises = [normal(i, 2, 1, 3, 3) for i in range(respacing)]
    ours = sample(
        Process(config),
        some_network,
        normal(99, 2, 1, 3, 3),
        SamplingConfig(method="ddpm", timestep_respacing=respacing),
        lambda i: noises[i],
    )
    oracle = Iddpm(betas(schedule, 1000).numpy(), timesteps(1000, respacing))
    theirs = oracle.sample(
        some_network, target, normal(99, 2, 1, 3, 3).numpy(), lambda i: noises[i].numpy()
    )
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-8)


# diffusers' float32 tables cannot express the last cosine timesteps with target eps.
DIFFUSERS = [("linear", "eps"), ("linear", "v"), ("cosine", "v"), ("cosine", "x_start")]
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


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("method", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.6)])
@pytest.mark.parametrize("respacing", [4, 50, 250])
def test_every_step_sees_the_noise_level_it_is_told(schedule, method, eta, respacing):
    process = Process(DiffusionConfig(noise_schedule=schedule, target="eps"))
    x_start = normal(0, 1, 1, 128, 128).sign()
    noise = normal(1, 1, 1, 128, 128)
    levels = []

    def perfect(x_t: Tensor, t: Tensor) -> Tensor:
        abar = process.alphas_cumprod[t].item()
        residual = x_t - abar**0.5 * x_start
        levels.append(residual.std().item() / (1 - abar) ** 0.5)
        return process.eps(x_start, x_t, t)

    x_t = process.q_sample(x_start, torch.tensor([999]), noise)
    sampling = SamplingConfig(method=method, eta=eta, timestep_respacing=respacing)
    sample(process, perfect, x_t, sampling, lambda i: normal(2 + i, 1, 1, 128, 128))
    assert levels == pytest.approx([1.0] * respacing, abs=0.03)


@pytest.mark.parametrize(
    ("method", "eta", "calls"),
    [("ddim", 0.0, []), ("ddim", 0.5, [0, 1, 2, 3]), ("ddpm", 0.0, [0, 1, 2, 3])],
)
def test_noise_is_asked_for_only_where_it_is_used(method, eta, calls):
    asked = []

    def step_noise(i: int) -> Tensor:
        asked.append(i)
        return normal(i, 1, 1, 2, 2)

    sampling = SamplingConfig(method=method, eta=eta, timestep_respacing=5)
    sample(Process(DiffusionConfig()), some_network, normal(9, 1, 1, 2, 2), sampling, step_noise)
    assert asked == calls


@pytest.mark.parametrize("method", ["ddpm", "ddim"])
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


@pytest.mark.parametrize("method", ["ddpm", "ddim"])
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
