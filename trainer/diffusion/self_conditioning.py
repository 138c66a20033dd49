"""The network's own x_start as its input in training: self-conditioning and recycling."""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.diffusion.process import Process


@torch.no_grad()
def own_estimate(
    process: Process, model_fn: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, t: Tensor
) -> Tensor:
    """Return the x_start that the network finds in x_t without an earlier estimate.

    For self-conditioning: the training pass is given it beside x_t (Chen et al. 2023, arXiv
    2208.04202, sec. 3.2).

    Args:
        process: The diffusion process.
        model_fn: Network (model_input, t) -> output.
        x_t: Noisy mask, (b, 1, H, W).
        t: Timesteps, int64, (b,).

    Returns:
        x_start in [-1, 1], (b, 1, H, W), without gradient.
    """
    x_start = process.x_start(model_fn(process.model_input(x_t), t), x_t, t).clamp(-1, 1)
    # Under autocast, older torch would use the weights cast here in the training pass again,
    # which would then find no way back to the weights themselves (its issue 112583).
    torch.clear_autocast_cache()
    return x_start


def recycled(
    process: Process, model_fn: Callable[[Tensor, Tensor], Tensor], noise: Tensor, t: Tensor
) -> Tensor:
    """Return the x_t that sampling would meet at t, made of the network's own first prediction.

    Fu et al. 2023 (arXiv 2303.06040): x_start is predicted from pure noise at T - 1 and noised
    to t; the loss still compares with the truth. The noise is the same both times, as in DDIM's
    first step, so that no other is drawn.

    Args:
        process: The diffusion process.
        model_fn: Network (model_input, t) -> output.
        noise: Standard normal, (b, 1, H, W).
        t: Timesteps to train at, int64, (b,).

    Returns:
        x_t, (b, 1, H, W), without gradient.
    """
    last = torch.full_like(t, process.num_timesteps - 1)
    return process.q_sample(own_estimate(process, model_fn, noise, last), t, noise)
