"""Uncertain Spatial Attention: how MedSegDiff-V2's condition anchors the noisy features."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.blocks import layout_of


def with_borders_repeated(x: Tensor, radius: int) -> Tensor:
    """Pad (b, c, H, W) by `radius` pixels, each as the nearest one inside; the layout stays.

    As torch's own padding with `replicate`, but that a GPU adds up the gradient of with atomics, in
    another order every time.
    """
    layout = layout_of(x)
    for axis in (2, 3):
        sides = [-1, -1, -1, -1]
        sides[axis] = radius
        ends = [x.narrow(axis, at, 1).expand(sides) for at in (0, -1)]
        first, last = (end.contiguous(memory_format=layout) for end in ends)
        x = torch.cat([first, x, last], axis)
    return x


class LearnableGaussian(nn.Module):
    """Smooths each channel with a Gaussian whose standard deviation is learned.

    The kernel sums to 1 and borders are repeated, so that a constant map stays as it is. As a
    Gaussian is separable, rows and columns are smoothed one after the other.
    """

    def __init__(self, channels: int, kernel: int, sigma: float):
        """
        Args:
            channels: Channels of the map; each has its own standard deviation.
            kernel: Side of the kernel in pixels, odd.
            sigma: Standard deviation at the start, in pixels.
        """
        super().__init__()
        self.radius = kernel // 2
        self.log_sigma = nn.Parameter(torch.full((channels, 1), math.log(sigma)))

    def weights(self) -> Tensor:
        """Return the one-dimensional kernels, (channels, kernel)."""
        offsets = torch.arange(-self.radius, self.radius + 1, device=self.log_sigma.device)
        return torch.softmax(-0.5 * (offsets / self.log_sigma.exp()) ** 2, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Smooth (b, c, H, W)."""
        weights, channels, radius = self.weights(), x.shape[1], self.radius
        if x.is_cuda:
            x = with_borders_repeated(x, radius)
        else:
            x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
        x = F.conv2d(x, weights[:, None, None, :], groups=channels)
        return F.conv2d(x, weights[:, None, :, None], groups=channels)


class UncertainSpatialAttention(nn.Module):
    """f_anc = max(f_c * k_Gauss, f_c); f_d' = sigmoid(conv1x1(f_anc)) x f_d + f_d.

    Smoothing widens what the condition decoded, for it is uncertain where exactly the lesion ends;
    the maximum keeps the strongest activations as they were (arXiv 2301.11798, "Anchor condition
    with U-SA").

    The paper leaves open, and here is chosen: one standard deviation and one gate per channel.
    """

    def __init__(self, channels: int, kernel: int, sigma: float):
        super().__init__()
        self.gaussian = LearnableGaussian(channels, kernel, sigma)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, f_d: Tensor, f_c: Tensor) -> Tensor:
        """Anchor the noisy feature f_d with the condition's decoded f_c, both (b, c, H, W)."""
        f_anc = torch.maximum(self.gaussian(f_c), f_c)
        return torch.sigmoid(self.gate(f_anc)) * f_d + f_d
