"""The Gaussian process q(x_t | x_start) and what a network's output says about x_start.

Legend: b batch, H W slice; a_t = sqrt(alphas_cumprod), s_t = sqrt(1 - alphas_cumprod);
masks are -1 (background) or 1 (lesion), also where `diffusion.background` is 0: then x_t is made of
`signal(x_start)`, which is 0 or 1.
"""

from typing import assert_never

import torch
from torch import Tensor

from trainer.config import DiffusionConfig
from trainer.diffusion.reverse_process import chain
from trainer.diffusion.schedule import alphas_cumprod

LINEAR_LOGIT = 6.0
"""Slope of the logit with which targets eps and v express an x_start (see Process.logits)."""


def at_least_float32(x: Tensor) -> Tensor:
    """Return half-precision `x` as float32, any other as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def learned_log_variance(output: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Return a learned_range output's logarithm of the reverse step's variance.

    Channel 1 is the place between the bounds, -1 the lower and 1 the upper; it may lie outside
    (Nichol & Dhariwal 2021, eq. 15).

    Args:
        output: Network output, (b, 2, H, W).
        low: Logarithm of the smallest variance, (b, 1, 1, 1) or one for all.
        high: Logarithm of the largest.

    Returns:
        (b, 1, H, W), at least float32.
    """
    share = (at_least_float32(output[:, 1:]) + 1) / 2
    return share * high + (1 - share) * low


class Process:
    """Forward noising, training targets, and their inversions.

    Tables are float64 and cast to the sample's precision (at least float32) only after they were
    gathered. All methods are elementwise, so autocast does not touch them.

    Attributes:
        predicts: What the network predicts, config.target: "eps", "x_start" or "v".
        num_timesteps: T.
        alphas_cumprod: Share of x_start in the variance of x_t, shape (T,), float64, on the CPU.
        variance: Of DDPM's reverse step, config.variance.
        mask_channels: Channels of the network's mask input: x_t, and with self-conditioning the
            estimate of x_start.
        output_channels: Channels of the network's output: the prediction, and with learned_range
            the variance, as a place between -1 (smallest) and 1 (largest).
        amplitude: Half of what lesion and background differ by in x_t's signal.
    """

    def __init__(self, config: DiffusionConfig):
        self.predicts = config.target
        self.num_timesteps = config.num_timesteps
        self.alphas_cumprod = alphas_cumprod(config)
        self.variance = config.variance
        self.mask_channels = 2 if config.self_conditioning > 0 else 1
        self.output_channels = 2 if config.variance == "learned_range" else 1
        self.amplitude = (1 - config.background) / 2
        self._tables: dict[torch.device, Tensor] = {}

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x_start) with the given noise (Ho et al. 2020, eq. 4).

        Args:
            x_start: Clean mask in [-1, 1], (b, 1, H, W).
            t: Timesteps in 0..T-1, int64, (b,).
            noise: Standard normal, shape of x_start.

        Returns:
            Noisy mask, shape of x_start.
        """
        a, s = self._scales(t, x_start)
        return a * self.signal(x_start) + s * noise

    def signal(self, x_start: Tensor) -> Tensor:
        """Return what x_t is made of for a mask of -1 and 1: itself, or 0 and 1."""
        if self.amplitude == 1:
            return x_start
        return 1 - self.amplitude * (1 - x_start)

    def _mask(self, signal: Tensor) -> Tensor:
        """Return the mask of -1 and 1 for what `signal` returned."""
        return signal if self.amplitude == 1 else 1 - (1 - signal) / self.amplitude

    def target(self, x_start: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what the network should predict; v is eq. 9 ff. of Salimans & Ho 2022."""
        match self.predicts:
            case "x_start":
                return x_start
            case "eps":
                return noise
            case "v":
                a, s = self._scales(t, x_start)
                return a * noise - s * self.signal(x_start)
            case _:
                assert_never(self.predicts)

    def model_input(self, x_t: Tensor, estimate: Tensor | None = None) -> Tensor:
        """Return the network's mask input: x_t, with self-conditioning beside an estimate.

        Chen et al. 2023 (arXiv 2208.04202), sec. 3.2.

        Args:
            x_t: Noisy mask, (b, 1, H, W).
            estimate: The network's previous x_start, (b, 1, H, W); None or 0 where it has none.

        Returns:
            (b, mask_channels, H, W).
        """
        if self.mask_channels == 1:
            return x_t
        return torch.cat([x_t, torch.zeros_like(x_t) if estimate is None else estimate], dim=1)

    def prediction(self, output: Tensor) -> Tensor:
        """Return the output's prediction in the space of `target`: tanh(z/2) for x_start.

        Args:
            output: Network output, (b, output_channels, H, W).

        Returns:
            (b, 1, H, W).
        """
        output = at_least_float32(output[:, :1])
        return torch.tanh(output / 2) if self.predicts == "x_start" else output

    def x_start(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the clean mask that the network's output implies, not clamped.

        Args:
            output: Network output, (b, output_channels, H, W).
            x_t: Noisy mask that the network saw, (b, 1, H, W).
            t: Timesteps, int64, (b,).
        """
        predicted, x_t = self.prediction(output), at_least_float32(x_t)
        a, s = self._scales(t, predicted)
        match self.predicts:
            case "x_start":
                return predicted
            case "eps":
                return self._mask((x_t - s * predicted) / a)
            case "v":
                return self._mask(a * x_t - s * predicted)
            case _:
                assert_never(self.predicts)

    def logits(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return logits z of the predicted mask, not clamped: sigmoid(z) is its probability.

        With target x_start the output is z, for x_start = tanh(z/2) = 2 sigmoid(z) - 1. With eps
        and v, x_start is unbounded, and z = 6 x_start: a perfect mask then costs a cross-entropy of
        0.0025 and pulls x_start beyond +-1 with only 1/400 of the force that corrects a wrong
        pixel, so that the segmentation losses do not fight the noise loss over the amplitude, while
        pixels near the decision (|x_start| < 0.5) still get most of their gradient.
        """
        if self.predicts == "x_start":
            return at_least_float32(output[:, :1])
        return LINEAR_LOGIT * self.x_start(output, x_t, t)

    def eps(self, x_start: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the noise that makes x_t of x_start."""
        a, s = self._scales(t, x_t)
        return (x_t - a * self.signal(x_start)) / s

    def posterior(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a reverse step from t to t - 1 is made of (see chain.Step).

        Returns:
            x_start_weight, min_log_variance and max_log_variance in x's precision, each
            (b, 1, 1, 1).
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        x_start_weight, low, high = self._on(t.device)[2:, t].to(dtype)[..., None, None, None]
        return x_start_weight, low, high

    def snr(self, t: Tensor) -> Tensor:
        """Return the signal-to-noise ratio at each timestep, float64 (b,): a^2 / s^2, or less."""
        a, s = self._on(t.device)[:2]
        ratio: Tensor = (self.amplitude * a[t]) ** 2 / s[t] ** 2
        return ratio

    def _on(self, device: torch.device) -> Tensor:
        """Return the tables of a, s and `posterior`, stacked to (5, T), on a device."""
        if device not in self._tables:
            scales = torch.stack([self.alphas_cumprod, 1 - self.alphas_cumprod]).sqrt()
            steps = reversed(chain(self.alphas_cumprod, list(reversed(range(self.num_timesteps)))))
            rows = [(s.x_start_weight, s.min_log_variance, s.max_log_variance) for s in steps]
            tables = torch.cat([scales, torch.tensor(rows, dtype=torch.float64).T])
            # Apple's GPUs have no float64.
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self._tables[device] = tables.to(device=device, dtype=dtype)
        return self._tables[device]

    def _scales(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a_t and s_t in x's precision, each (b, 1, 1, 1)."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        a, s = self._on(t.device)[:2, t].to(dtype)[..., None, None, None]
        return a, s
