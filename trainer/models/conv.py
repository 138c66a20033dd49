"""Convolutions of the diffusion networks: `nn.Conv2d`, and faster on a GPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ALIGNED = 8
"""Channels of which tensor cores take a multiple."""


class Conv(nn.Conv2d):
    """A convolution with a bias, and what is added to its result.

    Attributes:
        fused: On a GPU the bias is added and its gradient summed by kernels of our own
            (bias_kernels.py), and few channels are padded with zeros to a multiple of 8: 64 to 1
            take cuDNN 7 ms at 256 px and batch 32 on an H200, and to 8 a tenth of it.
    """

    fused = False

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (b, in_channels, H, W) to (b, out_channels, H', W'), plus a residual like it."""
        if not self.fused:
            out = super().forward(x)
            return out if residual is None else residual + out
        biased: Tensor = _Biased.apply(self.without_bias(x), self.bias, residual)  # type: ignore[no-untyped-call]
        return biased

    def without_bias(self, x: Tensor) -> Tensor:
        """Convolve, and leave the bias to whoever comes next."""
        weight = self.weight
        more_in, more_out = -self.in_channels % ALIGNED, -self.out_channels % ALIGNED
        if more_in or more_out:
            weight = F.pad(weight, (0, 0, 0, 0, 0, more_in, 0, more_out))
        if more_in:
            x = F.pad(x, (0, 0, 0, 0, 0, more_in))
        x = x.contiguous(memory_format=torch.channels_last)
        out = F.conv2d(x, weight, None, self.stride, self.padding)
        return out[:, : self.out_channels] if more_out else out


class _Biased(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
        from trainer.models import bias_kernels

        x = x.contiguous(memory_format=torch.channels_last)
        if residual is not None:
            residual = residual.to(x.dtype, memory_format=torch.channels_last)
        ctx.has_residual = residual is not None
        return bias_kernels.add(x, bias, residual)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from trainer.models import bias_kernels

        dy = dy.contiguous(memory_format=torch.channels_last)
        dbias = bias_kernels.sum_channels(dy)
        return dy, dbias, dy if ctx.has_residual else None
