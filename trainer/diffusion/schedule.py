"""Noise schedules as float64 tables over the T timesteps."""

from typing import Literal, assert_never

import torch
from torch import Tensor

from trainer.config import DiffusionConfig

# Nichol & Dhariwal 2021 (arXiv 2102.09672), sec. 3.2: keeps the last timestep from being singular.
MAX_BETA = 0.999


def betas(noise_schedule: Literal["linear", "cosine", "sigmoid"], num_timesteps: int) -> Tensor:
    """Return the forward variances beta_t of a schedule.

    linear is Ho et al. 2020 (arXiv 2006.11239), 1e-4 to 0.02 over 1000 timesteps, multiplied by
    1000 / T so that every T ends at nearly pure noise; cosine is Nichol & Dhariwal 2021, eq. 17;
    sigmoid is Jabri et al. 2023 (arXiv 2212.11972), algorithm 1, from -3 to 3 with tau 1.

    Args:
        noise_schedule: Name of the schedule.
        num_timesteps: T, at least 2.

    Returns:
        Variances in (0, 0.999], shape (T,), float64.
    """
    match noise_schedule:
        case "linear":
            scale = 1000 / num_timesteps
            variances = torch.linspace(
                scale * 1e-4, scale * 0.02, num_timesteps, dtype=torch.float64
            )
        case "cosine":
            time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
            kept = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
            variances = 1 - kept[1:] / kept[:-1]
        case "sigmoid":
            time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
            curve = torch.sigmoid(6 * time - 3)
            kept = (curve[-1] - curve) / (curve[-1] - curve[0])
            variances = 1 - kept[1:] / kept[:-1]
        case _:
            assert_never(noise_schedule)
    return variances.clamp(max=MAX_BETA)


def zero_terminal_snr(kept: Tensor) -> Tensor:
    """Return alphas_cumprod shifted and scaled so that the last is exactly 0, the first as it was.

    Lin et al. 2024 (arXiv 2305.08891), algorithm 1: linear in sqrt(alphas_cumprod).

    Args:
        kept: Strictly falling values in (0, 1), (T,).
    """
    a = kept.sqrt()
    return ((a - a[-1]) * a[0] / (a[0] - a[-1])) ** 2


def alphas_cumprod(config: DiffusionConfig) -> Tensor:
    r"""Return \bar{alpha}_t, the share of x_start in the variance of x_t.

    An input scale b < 1 makes every timestep noisier (Chen 2023, arXiv 2301.10972):
    x_t = (a b x_start + s noise) / sqrt(a^2 b^2 + s^2) is an ordinary unit-variance process with
    \bar{alpha} replaced by b^2 \bar{alpha} / ((b^2 - 1) \bar{alpha} + 1), so that nothing else in
    the code knows of b. It is applied to the schedule after zero_terminal_snr, whose 0 stays 0.

    Returns:
        Strictly falling values in (0, 1), the last 0 with zero_terminal_snr, (T,), float64.
    """
    kept = torch.cumprod(1 - betas(config.noise_schedule, config.num_timesteps), dim=0)
    if config.zero_terminal_snr:
        kept = zero_terminal_snr(kept)
    square = config.input_scale**2
    return square * kept / ((square - 1) * kept + 1)
