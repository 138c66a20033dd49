"""A convolution's bias as Triton kernels over channels-last maps.

cuDNN leaves the bias to torch, whose broadcast over such maps and whose sum of their gradients run
at a third of the memory's speed. Sums are made in one order, without atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trainer.models.kernels.tiles import divided


def add(x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
    """Return x + bias + residual, like x.

    Args:
        x: (n, C, H, W), channels last.
        bias: (C,).
        residual: Like x; None for 0.
    """
    s = divided(x)
    y = torch.empty_like(x)
    _add[(triton.cdiv(s.rows * s.images, s.block_r), s.channel_blocks)](
        x,
        bias,
        residual if residual is not None else x,
        y,
        s.rows * s.images,
        s.channels,
        s.block_r,
        s.block_c,
        residual is not None,
    )
    return y


def sum_channels(dy: Tensor) -> Tensor:
    """Return the sum of (n, C, H, W), channels last, over all but its channels, (C,) float32."""
    s = divided(dy)
    partial = dy.new_empty(s.images * s.stretches, s.channels, dtype=torch.float32)
    _sum[(s.stretches, s.channel_blocks, s.images)](
        dy, partial, s.rows, s.stretch, s.channels, s.block_r, s.block_c
    )
    total = dy.new_empty(s.channels, dtype=torch.float32)
    block_c = min(16, triton.next_power_of_2(s.channels))
    _total[(triton.cdiv(s.channels, block_c),)](
        partial, total, s.images * s.stretches, s.channels, 256, block_c
    )
    return total


@triton.jit
def _add(
    x,
    bias,
    residual,
    y,
    rows,
    C: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    """Write one tile of y."""
    at = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (at < rows)[:, None] & (c < C)[None, :]
    place = at[:, None] * C + c[None, :]
    out = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    out += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        out += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + place, out.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _sum(dy, partial, rows, stretch, C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """The sum of each channel over one stretch of one image."""
    part, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    row = tl.arange(0, BLOCK_R)
    first = part * stretch
    last = tl.minimum(first + stretch, rows)
    dy += image * rows * C
    total = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    for start in range(first, last, BLOCK_R):
        at = start + row
        inside = (at < last)[:, None] & (c < C)[None, :]
        value = tl.load(dy + at[:, None] * C + c[None, :], mask=inside, other=0.0)
        total += value.to(tl.float32)
    at = (image * tl.num_programs(0) + part) * C + c
    tl.store(partial + at, tl.sum(total, 0), mask=c < C)


@triton.jit
def _total(partial, total, parts, C: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Put the stretches together."""
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    out = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for first in range(0, parts, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        inside = (part < parts)[:, None] & (c < C)[None, :]
        out += tl.load(partial + part[:, None] * C + c[None, :], mask=inside, other=0.0)
    tl.store(total + c, tl.sum(out, 0), mask=c < C)
