"""Sampling of masks: DDPM and DDIM over any subset of the timesteps."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from trainer.config import SamplingConfig
from trainer.diffusion.process import Process, at_least_float32
from trainer.diffusion.respacing import timesteps


@torch.no_grad()
def sample(
    process: Process,
    model_fn: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sampling: SamplingConfig,
    step_noise: Callable[[int], Tensor],
) -> Tensor:
    """Sample clean masks from noise.

    The chosen timesteps are a diffusion of their own with betas re-derived from alphas_cumprod
    (Nichol & Dhariwal 2021, sec. 4). x_start is clipped to [-1, 1] at every step and eps derived
    again from the clipped value.

    All randomness is the caller's, so that a mask does not depend on which batch it was drawn in.

    Args:
        process: The process that the network was trained on.
        model_fn: Network (x_t, t) -> output, with x_t (b, 1, H, W) and t int64 (b,).
        noise: Standard normal x_T, (b, 1, H, W).
        sampling: Method, number of steps, and DDIM's eta.
        step_noise: Standard normal noise of the i-th step, shape of x_T; called only where the
            step adds noise: not by ddim with eta 0, and not in the last step.

    Returns:
        x_start in [-1, 1], (b, 1, H, W), float32 (float64 for float64 noise).
    """
    steps = timesteps(process.num_timesteps, sampling.timestep_respacing)
    kept = [*process.alphas_cumprod[steps].tolist(), 1.0]
    x_t = at_least_float32(noise)
    for i, (abar, abar_prev) in enumerate(pairwise(kept)):
        t = torch.full((len(x_t),), steps[i], dtype=torch.int64, device=x_t.device)
        x_start = process.x_start(model_fn(x_t, t), x_t, t).to(x_t.dtype).clamp(-1, 1)
        # Variance of q(x_{t-1} | x_t, x_start), Ho et al. 2020, eq. 7.
        beta = 1 - abar / abar_prev
        variance = beta * (1 - abar_prev) / (1 - abar)
        match sampling.method:
            case "ddpm":
                x_start_weight = math.sqrt(abar_prev) * beta / (1 - abar)
                x_t_weight = math.sqrt(abar / abar_prev) * (1 - abar_prev) / (1 - abar)
                x_t = x_start_weight * x_start + x_t_weight * x_t
            case "ddim":
                # Song et al. 2021, eq. 12 and 16.
                variance *= sampling.eta**2
                eps = process.eps(x_start, x_t, t)
                eps_weight = math.sqrt(max(0.0, 1 - abar_prev - variance))
                x_t = math.sqrt(abar_prev) * x_start + eps_weight * eps
        if variance > 0:
            x_t = x_t + math.sqrt(variance) * step_noise(i).to(x_t.dtype)
    return x_start
