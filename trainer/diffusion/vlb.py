"""The variational bound that trains the variance of a reverse step."""

import math

import torch
from torch import Tensor

from trainer.diffusion.process import Process, at_least_float32, learned_log_variance

HALF_BIN = 1 / 255
"""Half the width of a pixel value's bin in the decoder's likelihood, improved-diffusion's."""

MIN_LIKELIHOOD = 1e-12


def vb_term(process: Process, output: Tensor, *, x_start: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return each image's variational term of improved-diffusion's hybrid loss.

    L_hybrid = L_simple + 0.001 L_vlb (Nichol & Dhariwal 2021, eq. 16), where L_vlb is a sum over T
    timesteps and training sees one of them: T/1000 times the term at t is right beside a mean
    squared error of weight 1. That term is KL(q(x_prev | x_t, x_start) || p(x_prev | x_t)), and at
    t = 0 -log p(x_start | x_t), in bits, averaged over the pixels (Ho et al. 2020, eq. 5). The mean
    of p is detached, so that only the variance, the output's channel 1, is trained by it.

    Args:
        process: The diffusion process, with variance learned_range.
        output: Network output, (b, 2, H, W).
        x_start: Clean mask, -1 or 1, (b, 1, H, W).
        x_t: Noisy mask that the network saw, (b, 1, H, W).
        t: Timesteps, int64, (b,).

    Returns:
        T/1000 times the term, (b,), float32 (float64 for float64 output).
    """
    output = at_least_float32(output)
    x_start_weight, true_log_variance, largest = process.posterior(t, output)
    log_variance = learned_log_variance(output, true_log_variance, largest)
    error = process.amplitude * (process.x_start(output.detach(), x_t, t) - x_start)
    # Both means have the same share of x_t.
    mean_error = x_start_weight * error
    kl = 0.5 * (
        log_variance
        - true_log_variance
        - 1
        + torch.exp(true_log_variance - log_variance)
        + mean_error**2 * torch.exp(-log_variance)
    )
    # At t = 0 the mean is the predicted x_start, and a value of +-1 is everything beyond its bin.
    inside = x_start * error + HALF_BIN
    likelihood = _normal_cdf(inside * torch.exp(-0.5 * log_variance))
    nll = -likelihood.clamp(min=MIN_LIKELIHOOD).log()
    nats = torch.where(t == 0, nll.mean(dim=(1, 2, 3)), kl.mean(dim=(1, 2, 3)))
    return nats / math.log(2) * (process.num_timesteps / 1000)


def _normal_cdf(x: Tensor) -> Tensor:
    """Return improved-diffusion's approximation of the normal distribution function."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
