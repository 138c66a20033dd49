"""The noise loss's weight over the timesteps, one definition for every target."""

import math
from typing import assert_never

import torch
from torch import Tensor

from trainer.config import LossConfig
from trainer.diffusion.process import Process

MIN_WEIGHT = 1e-5
"""Least weight of x_start's squared error with targets x_start and v. min_snr and sigmoid fall to 0
with the SNR, but sampling begins where it is least, and with zero_terminal_snr where it is 0. With
target eps there is none: divided by the SNR, it would be up to 4,000 times Hang et al.'s largest
weight, and most of the training, just where x_t says nothing."""


def error_scale(process: Process, t: Tensor, config: LossConfig) -> Tensor:
    """Return the factor on the error in the target's space, before the criterion is applied.

    The criterion, whichever it is, then sees sqrt(w(t)) (predicted x_start - x_start): a prediction
    costs the same whether eps, x_start or v expresses it. With x_t given, an error of 1 in eps is
    one of s/a in x_start, and an error of 1 in v one of s (each divided by `amplitude`). The SNR in
    w is that after the input scale b. uniform: w = 1; min_snr: min(SNR, gamma) (Hang et al. 2023,
    arXiv 2303.09556); sigmoid: e^bias sigmoid(log SNR - bias) (Hoogeboom et al. 2024, arXiv
    2410.19324); for x_start and v at least MIN_WEIGHT.
    plain is no weight of x_start's error but 1 for the error on the target as it is.

    Args:
        process: The diffusion process.
        t: Timesteps, int64, (b,).
        config: noise_weighting, and gamma or bias.

    Returns:
        Positive factors, (b,), float64 (float32 on Apple's GPUs).
    """
    snr = process.snr(t)
    match config.noise_weighting:
        case "plain":
            return torch.ones_like(snr)
        case "uniform":
            weight = torch.ones_like(snr)
        case "min_snr":
            weight = snr.clamp(max=config.min_snr_gamma)
        case "sigmoid":
            # e^bias sigmoid(log SNR - bias) without the logarithm, which is infinite at SNR 0
            weight = snr / (1 + snr * math.exp(-config.sigmoid_bias))
        case _:
            assert_never(config.noise_weighting)
    match process.predicts:
        case "x_start":
            return weight.clamp(min=MIN_WEIGHT).sqrt()
        case "eps":
            return (weight / snr).sqrt()
        case "v":
            return (weight.clamp(min=MIN_WEIGHT) / (process.amplitude**2 + snr)).sqrt()
        case _:
            assert_never(process.predicts)
