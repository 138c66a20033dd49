"""The process against its definition, in both directions and every precision."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from trainer.config import DiffusionConfig
from trainer.diffusion.process import Process
from trainer.diffusion.schedule import betas

TARGETS = ["eps", "x_start", "v"]
SCHEDULES = ["linear", "cosine", "sigmoid"]


def draw(
    process: Process, b: int = 64, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_start (b, 1, 4, 4) in {-1, 1}, noise, and timesteps that include both ends."""
    generator = torch.Generator().manual_seed(0)
    x_start = torch.randn(b, 1, 4, 4, generator=generator, dtype=dtype).sign()
    noise = torch.randn(b, 1, 4, 4, generator=generator, dtype=dtype)
    return x_start, noise, torch.linspace(0, process.num_timesteps - 1, b).long()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("b", [1.0, 0.3])
def test_q_sample_equals_noising_step_by_step(schedule, b):
    config = DiffusionConfig(noise_schedule=schedule, num_timesteps=30, input_scale=b)
    process = Process(config)
    abar = process.alphas_cumprod
    mean, variance = 1.0, 0.0
    for t in range(30):
        beta = 1 - abar[t] / (abar[t - 1] if t else 1)
        mean, variance = mean * (1 - beta) ** 0.5, variance * (1 - beta) + beta
        one, zero = torch.ones(1, 1, 1, 1).double(), torch.zeros(1, 1, 1, 1).double()
        when = torch.tensor([t])
        assert process.q_sample(one, when, zero).item() == pytest.approx(float(mean), rel=1e-9)
        assert process.q_sample(zero, when, one).item() == pytest.approx(
            float(variance) ** 0.5, rel=1e-9
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("b", [1.0, 0.1])
def test_the_exact_output_gives_back_mask_and_noise(schedule, target, b):
    process = Process(DiffusionConfig(noise_schedule=schedule, target=target, input_scale=b))
    x_start, noise, t = draw(process)
    x_start = 0.9 * x_start  # a finite logit
    x_t = process.q_sample(x_start, t, noise)
    exact = process.target(x_start, noise, t)
    output = 2 * torch.atanh(exact) if target == "x_start" else exact
    recovered = process.x_start(output, x_t, t)
    torch.testing.assert_close(process.prediction(output), exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(recovered, x_start, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.eps(x_start, x_t, t), noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", ["x_start", "v"])
@pytest.mark.parametrize("b", [1.0, 0.1])
def test_pure_noise_is_pure_and_still_says_what_x_start_is(schedule, target, b):
    process = Process(
        DiffusionConfig(
            noise_schedule=schedule, target=target, input_scale=b, zero_terminal_snr=True
        )
    )
    x_start, noise, _ = draw(process)
    x_start, t = 0.9 * x_start, torch.full((64,), 999)
    assert torch.equal(process.q_sample(x_start, t, noise), noise)
    assert process.snr(t).tolist() == [0.0] * 64
    exact = process.target(x_start, noise, t)
    output = 2 * torch.atanh(exact) if target == "x_start" else exact
    torch.testing.assert_close(process.x_start(output, noise, t), x_start)
    torch.testing.assert_close(process.eps(x_start, noise, t), noise)


def test_v_is_the_rotation_of_mask_and_noise():
    process = Process(DiffusionConfig(target="v"))
    x_start, noise, t = draw(process)
    a = process.alphas_cumprod[t].sqrt()[:, None, None, None]
    s = (1 - process.alphas_cumprod[t]).sqrt()[:, None, None, None]
    torch.testing.assert_close(process.target(x_start, noise, t), a * noise - s * x_start)


def test_snr_and_the_magnification_of_an_eps_error():
    process = Process(DiffusionConfig(noise_schedule="cosine"))
    t = torch.tensor([900, 980, 998, 999])
    assert process.snr(t).dtype == torch.float64
    # Measured for cosine with T = 1000: sqrt((1 - abar) / abar)
    assert process.snr(t).rsqrt().tolist() == pytest.approx([6.4, 34, 642, 20291], rel=0.05)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_snr_is_diffusers(schedule):
    scheduler = DDPMScheduler(trained_betas=betas(schedule, 1000).tolist())
    t = torch.arange(0, 990, 10)
    ours = Process(DiffusionConfig(noise_schedule=schedule)).snr(t)
    torch.testing.assert_close(ours.float(), compute_snr(scheduler, t), rtol=5e-3, atol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_the_variance_channel_is_no_part_of_the_prediction(target):
    fixed = Process(DiffusionConfig(target=target))
    learned = Process(DiffusionConfig(target=target, variance="learned_range"))
    assert (fixed.output_channels, learned.output_channels) == (1, 2)
    x_start, noise, t = draw(fixed)
    x_t = fixed.q_sample(x_start, t, noise)
    both = torch.cat([noise, 7 * x_start], dim=1)
    assert torch.equal(learned.prediction(both), fixed.prediction(noise))
    assert torch.equal(learned.x_start(both, x_t, t), fixed.x_start(noise, x_t, t))
    assert torch.equal(learned.logits(both, x_t, t), fixed.logits(noise, x_t, t))


def test_self_conditioning_shows_the_estimate_beside_x_t():
    plain, process = Process(DiffusionConfig()), Process(DiffusionConfig(self_conditioning=0.5))
    x_start, noise, _ = draw(process)
    assert (plain.mask_channels, process.mask_channels) == (1, 2)
    assert plain.model_input(noise) is noise and plain.model_input(noise, x_start) is noise
    shown = process.model_input(noise, x_start)
    assert torch.equal(shown[:, :1], noise) and torch.equal(shown[:, 1:], x_start)
    assert torch.equal(process.model_input(noise), torch.cat([noise, 0 * noise], dim=1))


@pytest.mark.parametrize("target", TARGETS)
def test_logits_mean_the_same_mask_as_x_start(target):
    process = Process(DiffusionConfig(target=target))
    x_start, noise, t = draw(process)
    x_t = process.q_sample(x_start, t, noise)
    output = 3 * torch.randn(x_t.shape, dtype=torch.float64)
    logits, predicted = process.logits(output, x_t, t), process.x_start(output, x_t, t)
    assert torch.equal(logits > 0, predicted > 0)
    if target == "x_start":
        assert torch.equal(logits, output)
        torch.testing.assert_close(2 * torch.sigmoid(logits) - 1, predicted)
    else:
        torch.testing.assert_close(logits, 6 * predicted)
        assert predicted.abs().max() > 2  # nothing was clamped


@pytest.mark.parametrize("target", TARGETS)
def test_half_precision_is_computed_in_float32_and_leaves_the_tables_alone(target):
    process = Process(DiffusionConfig(target=target))
    untouched = process.alphas_cumprod.clone()
    x_start, noise, t = draw(process)
    single = process.q_sample(x_start.float(), t, noise.float())
    for dtype in (torch.bfloat16, torch.float16):
        half = process.q_sample(x_start.to(dtype), t, noise.to(dtype))
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, single, rtol=0, atol=0.02)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert process.x_start(noise.to(dtype), half, t).dtype == torch.float32
            assert process.logits(noise.to(dtype), half, t).dtype == torch.float32
    assert torch.equal(process.alphas_cumprod, untouched)
    assert process.q_sample(x_start, t, noise).dtype == torch.float64
