"""Sampling of masks: DDPM, DDIM and DPM-Solver++(2M) over any subset of the timesteps."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from trainer.config import SamplingConfig
from trainer.diffusion.process import Process, at_least_float32, learned_log_variance
from trainer.diffusion.reverse_process import Step, chain
from trainer.respacing import timesteps


class State(NamedTuple):
    """Where a reverse process is at one of its steps; both (b, 1, H, W)."""

    t: int
    x_t: Tensor
    x_start: Tensor
    """What the network makes of x_t, in [-1, 1]."""


def sample(
    process: Process,
    model_fn: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sampling: SamplingConfig,
    step_noise: Callable[[int], Tensor],
) -> Tensor:
    """Sample clean masks from noise; arguments as for `states`.

    Returns:
        The last step's x_start in [-1, 1], (b, 1, H, W), float32 (float64 for float64 noise).
    """
    for state in states(process, model_fn, noise, sampling, step_noise):
        x_start = state.x_start
    return x_start


@torch.no_grad()
def states(
    process: Process,
    model_fn: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sampling: SamplingConfig,
    step_noise: Callable[[int], Tensor],
) -> Iterator[State]:
    """Go from noise to clean masks, step by step.

    The chosen timesteps are a diffusion of their own with betas re-derived from alphas_cumprod
    (Nichol & Dhariwal 2021, sec. 4). x_start is clipped to [-1, 1] at every step and eps derived
    again from the clipped value; the last step's is the result. With self-conditioning the network
    sees the x_start of the step before.

    All randomness is the caller's, so that a mask does not depend on which batch it was drawn in.

    Args:
        process: The process that the network was trained on.
        model_fn: Network (x_t, t) -> output, with x_t (b, process.mask_channels, H, W) and t int64
            (b,).
        noise: Standard normal x_T, (b, 1, H, W).
        sampling: Method, timesteps, and DDIM's eta.
        step_noise: Standard normal noise of the i-th step, shape of x_T; called only where the
            step adds noise: not by dpmpp_2m, nor by ddim with eta 0, and not in the last step.

    Yields:
        A state a timestep, falling.
    """
    steps = chain(
        process.alphas_cumprod, timesteps(process.num_timesteps, sampling.timestep_respacing)
    )
    x_t = at_least_float32(noise)
    x_start: Tensor | None = None
    for i, step in enumerate(steps):
        t = torch.full((len(x_t),), step.t, dtype=torch.int64, device=x_t.device)
        output, earlier = model_fn(process.model_input(x_t, x_start), t), x_start
        x_start = process.x_start(output, x_t, t).to(x_t.dtype).clamp(-1, 1)
        yield State(step.t, x_t, x_start)
        if step is steps[-1]:
            return
        variance: float | Tensor = 0.0
        match sampling.method:
            case "ddpm":
                variance = _ddpm_variance(process, step, output, x_t)
                x_t = step.x_start_weight * process.signal(x_start) + step.x_t_weight * x_t
            case "ddim":
                # Song et al. 2021, eq. 12 and 16.
                variance = step.variance * sampling.eta**2
                eps = process.eps(x_start, x_t, t)
                eps_weight = math.sqrt(max(0.0, 1 - step.abar_prev - variance))
                x_t = math.sqrt(step.abar_prev) * process.signal(x_start) + eps_weight * eps
            case "dpmpp_2m":
                before = None if earlier is None else process.signal(earlier)
                x_t = _dpmpp_2m(steps, i, x_t, process.signal(x_start), before)
            case _:
                assert_never(sampling.method)
        if isinstance(variance, Tensor):
            x_t = x_t + variance.sqrt() * step_noise(i).to(x_t.dtype)
        elif variance > 0:
            x_t = x_t + math.sqrt(variance) * step_noise(i).to(x_t.dtype)


def _ddpm_variance(process: Process, step: Step, output: Tensor, x_t: Tensor) -> float | Tensor:
    match process.variance:
        case "fixed_small":
            return step.variance
        case "fixed_large":
            return step.beta
        case "learned_range":
            low, high = step.min_log_variance, step.max_log_variance
            return learned_log_variance(output, low, high).to(x_t.dtype).exp()
        case _:
            assert_never(process.variance)


def _dpmpp_2m(
    steps: list[Step], i: int, x_t: Tensor, x_start: Tensor, earlier: Tensor | None
) -> Tensor:
    """Return x_t after the i-th step (Lu et al. 2022, arXiv 2211.01095, alg. 2).

    The paper's e^{-h} is the ratio of alpha / sigma before and after the step, which has a value at
    pure noise too, 0, where h has none.
    """
    step = steps[i]
    a, s = math.sqrt(step.abar), math.sqrt(1 - step.abar)
    a_prev, s_prev = math.sqrt(step.abar_prev), math.sqrt(1 - step.abar_prev)
    direction = x_start
    # From pure noise every earlier step is infinitely long, and D's correction 0. The last step,
    # which has no second order either, is x_start itself and not made here.
    if earlier is not None and steps[i - 1].abar > 0:
        h, h_before = _log_snr_gain(step), _log_snr_gain(steps[i - 1])
        direction = x_start + h / (2 * h_before) * (x_start - earlier)
    return s_prev / s * x_t + a_prev * (1 - a * s_prev / (s * a_prev)) * direction


def _log_snr_gain(step: Step) -> float:
    """Return twice the paper's h: the log-SNR after a step less that before it."""
    after, before = step.abar_prev / (1 - step.abar_prev), step.abar / (1 - step.abar)
    return math.log(after / before)
