"""What MONAI's schedulers get wrong, shown to be theirs and not ours.

Each test measures the defect in MONAI 1.6 too, and so says when a release has mended it.
"""

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from tests.trainer.diffusion.networks import network_of, no_noise, normal
from trainer.config import DiffusionConfig, SamplingConfig
from trainer.diffusion.process import Process, learned_log_variance
from trainer.diffusion.reverse_process import chain
from trainer.diffusion.sampling import sample
from trainer.respacing import timesteps

LINEAR = {"schedule": "linear_beta", "beta_start": 1e-4, "beta_end": 0.02}
MASK = normal(0, 1, 1, 16, 16).sign()


def linear(**settings: object) -> Process:
    return Process(DiffusionConfig(noise_schedule="linear", target="eps", **settings))


def rmse(x: Tensor) -> float:
    return (x - MASK).square().mean().sqrt().item()


@pytest.mark.parametrize(("steps", "theirs"), [(2, 1.20), (5, 0.65), (10, 0.40), (50, 0.095)])
def test_ddim_steps_to_the_timestep_that_is_next(steps, theirs):
    """MONAI's goes to t - T // N whatever is next, where the true noise no longer fits x_t."""
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=False, **LINEAR)
    scheduler.set_timesteps(steps)
    process, eps = linear(), normal(1, 1, 1, 16, 16)
    x = start = process.q_sample(MASK, torch.tensor([999]), eps)
    for t in scheduler.timesteps:
        x, _ = scheduler.step(eps, int(t), x)
    assert rmse(x) == pytest.approx(theirs, rel=0.1)

    sampling = SamplingConfig(method="ddim", timestep_respacing=steps)
    assert rmse(sample(process, lambda x_t, t: eps, start, sampling, no_noise)) < 1e-5


@pytest.mark.parametrize("steps", [50, 250])
def test_respaced_ddpm_has_the_noise_that_the_network_is_told(steps):
    """MONAI's takes the betas of 1000 steps for each of 250."""
    process = linear()

    def told(t: int) -> float:
        return (1 - process.alphas_cumprod[t]).sqrt().item()

    scheduler = DDPMScheduler(num_train_timesteps=1000, clip_sample=False, **LINEAR)
    scheduler.set_timesteps(steps)
    mask = normal(0, 1, 1, 64, 64).sign()
    x, ratios = normal(1, 1, 1, 64, 64), []
    generator = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps:
        a = process.alphas_cumprod[t].sqrt()
        ratios.append((x - a * mask).std().item() / told(int(t)))
        x, _ = scheduler.step(process.eps(mask, x, t.expand(1)), int(t), x, generator=generator)
    assert max(ratios) > 5

    ours = []

    def mask_of(x_t: Tensor, t: Tensor) -> Tensor:
        a = process.alphas_cumprod[t].sqrt()
        ours.append((x_t - a * mask).std().item() / told(int(t)))
        return mask

    sampling = SamplingConfig(method="ddpm", timestep_respacing=steps)
    sample(
        process,
        network_of(process, mask_of),
        normal(1, 1, 1, 64, 64),
        sampling,
        lambda i: normal(2 + i, 1, 1, 64, 64),
    )
    assert ours == pytest.approx([1.0] * steps, abs=0.06)


def test_learned_range_is_between_logarithms():
    """MONAI's interpolates the variances; halfway should be the geometric mean."""
    scheduler = DDPMScheduler(num_train_timesteps=1000, variance_type="learned_range", **LINEAR)
    small, large = (
        DDPMScheduler(num_train_timesteps=1000, variance_type=kind, **LINEAR)._get_variance(1)
        for kind in ("fixed_small", "fixed_large")
    )
    theirs = scheduler._get_variance(1, predicted_variance=torch.zeros(1))
    geometric = (small * large).sqrt()
    assert abs(theirs / geometric - 1) > 0.03

    step = chain(linear().alphas_cumprod, timesteps(1000, 1000))[-2]
    assert step.t == 1
    halfway = torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    ours = learned_log_variance(halfway, step.min_log_variance, step.max_log_variance).exp()
    assert ours.item() == pytest.approx(geometric.item(), rel=1e-3)


def test_eps_is_derived_again_from_a_clipped_x_start():
    """MONAI's keeps the network's eps, which does not fit the x_start that was clipped."""
    process, x = linear(), 2 * normal(1, 1, 1, 16, 16)
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=True, **LINEAR)
    scheduler.set_timesteps(2)
    # eps of 0 says that x_start is x_t / a, far outside [-1, 1]
    theirs, clipped = scheduler.step(torch.zeros_like(x), 999, x)
    assert clipped.abs().max() == 1
    a = process.alphas_cumprod[499].sqrt()
    torch.testing.assert_close(theirs, a * clipped, rtol=0, atol=1e-5)  # as if t = 499 had no noise

    seen = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t)
        return torch.zeros_like(x_t)

    sample(process, network, x, SamplingConfig(timestep_respacing=2), no_noise)
    fitting = process.eps(clipped.double(), x, torch.tensor([999]))
    expected = process.q_sample(clipped.double(), torch.tensor([499]), fitting)
    torch.testing.assert_close(seen[1], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("num_timesteps", "theirs"), [(100, 0.364), (50, 0.603)])
def test_linear_ends_at_nearly_pure_noise_at_every_length(num_timesteps, theirs):
    scheduler = DDPMScheduler(num_train_timesteps=num_timesteps, **LINEAR)
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(theirs, abs=1e-3)
    assert linear(num_timesteps=num_timesteps).alphas_cumprod[-1] < 1e-4


def test_a_half_precision_sample_leaves_the_tables_alone():
    """MONAI casts its table to the first sample's precision, for good: the last entry becomes 0."""
    scheduler = DDPMScheduler(num_train_timesteps=1000, schedule="cosine")
    half = torch.zeros(1, 1, 2, 2, dtype=torch.float16)
    scheduler.add_noise(half, half, torch.tensor([999]))
    assert scheduler.alphas_cumprod.dtype == torch.float16 and scheduler.alphas_cumprod[-1] == 0

    process = Process(DiffusionConfig(noise_schedule="cosine"))
    before = process.alphas_cumprod.clone()
    for dtype in (torch.float16, torch.bfloat16):
        process.q_sample(half.to(dtype), torch.tensor([999]), half.to(dtype))
    assert torch.equal(process.alphas_cumprod, before)
    assert len(process.snr(torch.arange(1000)).unique()) == 1000
