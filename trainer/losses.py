"""Training losses: one value per sample and term, and the weights of the terms over time."""

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import LossConfig
from trainer.diffusion.process import Process, at_least_float32

DICE_SMOOTHING = 1e-3
"""Share of a slice's pixels added to Dice's numerator and denominator (see soft_dice_loss)."""


def loss_terms(
    output: Tensor,
    *,
    process: Process,
    x_start: Tensor,
    x_t: Tensor,
    noise: Tensor,
    t: Tensor,
    config: LossConfig,
    segments_directly: bool,
) -> dict[str, Tensor]:
    """Return the raw loss terms of each sample; a term whose weight is 0 is left out.

    noise is the mean squared error in the space of the diffusion target; dice and bce compare the
    predicted mask's logits with the mask. With target eps, a sample with less signal than
    config.snr_gate has dice and bce of exactly 0 and no gradient from them: there x_start is the
    output magnified by up to 20,000.

    Args:
        output: Network output, (b, 1, H, W); mask logits if segments_directly.
        process: The diffusion process.
        x_start: Clean mask, -1 or 1, (b, 1, H, W).
        x_t: Noisy mask that the network saw, (b, 1, H, W).
        noise: Noise in x_t, (b, 1, H, W).
        t: Timesteps, int64, (b,).
        config: Which terms, and the gate.
        segments_directly: The network ignores diffusion: no noise term, no gate.

    Returns:
        Any of "noise", "dice" and "bce", each (b,), float32 (float64 for float64 output).
    """
    output = at_least_float32(output)
    terms = {}
    if config.noise > 0 and not segments_directly:
        error = process.prediction(output) - process.target(x_start, noise, t)
        terms["noise"] = error.square().mean(dim=(1, 2, 3))
    if config.dice == config.bce == 0:
        return terms

    gated = process.predicts == "eps" and not segments_directly
    open_gate = process.snr(t) >= config.snr_gate if gated else torch.ones_like(t, dtype=torch.bool)
    # Selected before the division by a_t and again after the loss: a magnified or non-finite output
    # behind a closed gate would otherwise reach the gradient as 0 * inf.
    output = torch.where(open_gate[:, None, None, None], output, 0)
    logits = output if segments_directly else process.logits(output, x_t, t)
    mask = (x_start > 0).to(logits.dtype)
    if config.dice > 0:
        terms["dice"] = torch.where(open_gate, soft_dice_loss(logits, mask), 0)
    if config.bce > 0:
        bce = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
        terms["bce"] = torch.where(open_gate, bce.mean(dim=(1, 2, 3)), 0)
    return terms


def soft_dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - soft Dice of each sample.

    Numerator and denominator carry 0.1 % of the slice's pixels (4 of 64 x 64). So an empty slice
    costs 0 when nothing is predicted and rises smoothly with the predicted area, rather than
    jumping to 1 at the first false pixel, and equally at every image size.

    Args:
        logits: Mask logits, (b, 1, H, W).
        mask: 0 or 1, (b, 1, H, W).

    Returns:
        Loss in [0, 1), (b,).
    """
    prob = torch.sigmoid(logits)
    smoothing = DICE_SMOOTHING * mask[0].numel()
    overlap = (prob * mask).sum(dim=(1, 2, 3))
    total = (prob + mask).sum(dim=(1, 2, 3))
    return 1 - (2 * overlap + smoothing) / (total + smoothing)


def weights(config: LossConfig, progress: float) -> dict[str, float]:
    """Return the weight of each term after a share `progress` in [0, 1] of training.

    warm_in raises dice and bce linearly from 0 over config.warm_in_fraction; noise is constant.
    Terms whose configured weight is 0 are left out.
    """
    warmth = 1.0 if config.weighting == "fixed" else min(1.0, progress / config.warm_in_fraction)
    all_terms = {"noise": config.noise, "dice": config.dice * warmth, "bce": config.bce * warmth}
    return {name: weight for name, weight in all_terms.items() if getattr(config, name) > 0}
