"""GroupNorm with what stands around it: scale and shift before SiLU, a convolution's bias after."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.conv import Conv

MAX_GROUPS = 8
"""Most groups of a GroupNorm."""


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`, and at least 1."""
    return next((d for d in range(limit, 1, -1) if number % d == 0), 1)


class Norm(nn.GroupNorm):
    """silu(GroupNorm(x) (1 + scale) + shift): the timestep enters as Dhariwal & Nichol 2021, 3.1.

    Parameters are those of `nn.GroupNorm`, and so are their names in a state dict.

    Attributes:
        silu: SiLU is applied.
        fused: On a GPU all of it is one kernel forward and one backward, from and to channels-last
            maps (norm_silu_kernels.py). Otherwise torch's operations.
    """

    def __init__(
        self, channels: int, *, silu: bool = True, groups: int | None = None, eps: float = 1e-5
    ):
        """
        Args:
            channels: Of the map.
            silu: Apply SiLU.
            groups: A divisor of channels; as many as `MAX_GROUPS` allows if None.
            eps: Added to the variance.
        """
        super().__init__(groups or largest_divisor(channels, MAX_GROUPS), channels, eps)
        self.silu = silu
        self.fused = False

    def forward(
        self, x: Tensor, film: Tensor | None = None, conv_bias: Tensor | None = None
    ) -> Tensor:
        """Normalise.

        Args:
            x: (b, c, H, W).
            film: scale and shift beside each other, (b, 2c); None for 0.
            conv_bias: (c,), added to x first; None for 0. See `after_convolution`.

        Returns:
            (b, c, H, W), of x's precision where fused.
        """
        if self.fused and x.dim() == 4:
            fused: Tensor = _Fused.apply(x, self.weight, self.bias, film, conv_bias, self)  # type: ignore[no-untyped-call]
            return fused
        assert conv_bias is None
        h = self._plain(x)
        if film is not None:
            scale, shift = film[..., None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return F.silu(h) if self.silu else h

    def _plain(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            return super().forward(x)
        # Autocast would bring the map to float32 and back; the kernel sums in float32 anyway.
        with torch.autocast("cuda", enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)

    def after_convolution(self, conv: Conv, x: Tensor, film: Tensor | None = None) -> Tensor:
        """Convolve x and normalise, the convolution's bias added in the norm where that is fused.

        cuDNN does not add it: that would be a kernel that reads and writes the whole map.
        """
        bias = None
        if self.fused:
            h = conv.without_bias(x)
            bias = conv.bias
        else:
            h = conv(x)
        out: Tensor = self(h, film, bias)
        return out


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        film: Tensor | None,
        conv_bias: Tensor | None,
        norm: Norm,
    ) -> Tensor:
        from trainer.models import norm_silu_kernels as kernels

        x = x.contiguous(memory_format=torch.channels_last)
        y, saved = kernels.forward(
            x,
            weight,
            bias,
            film,
            conv_bias,
            groups=norm.num_groups,
            eps=norm.eps,
            silu=norm.silu,
        )
        # y is not kept: SiLU is computed again.
        ctx.save_for_backward(x, weight, bias, film, *saved)
        ctx.norm, ctx.has_conv_bias = norm, conv_bias is not None
        out: Tensor = y
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from trainer.models import norm_silu_kernels as kernels

        x, weight, bias, film, *saved = ctx.saved_tensors
        gradients = kernels.backward(
            dy.contiguous(memory_format=torch.channels_last),
            x,
            weight,
            bias,
            film,
            kernels.Saved(*saved),
            groups=ctx.norm.num_groups,
            silu=ctx.norm.silu,
            has_conv_bias=ctx.has_conv_bias,
        )
        return *gradients, None
