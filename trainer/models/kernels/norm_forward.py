"""GroupNorm, scale and shift, and SiLU as Triton kernels over channels-last maps.

Legend: n images of R rows (pixels) and C channels, in G groups; x the map, b_c the bias of the
convolution before it, mu and r mean and 1 / standard deviation of a group of x + b_c.

    xhat = r (x + b_c - mu) = r x + q                       q = r (b_c - mu)
    z = (weight xhat + bias) (1 + scale) + shift = a x + o
    y = silu(z), or z

Sums of float32 are made in one order whatever the device does first: a program runs down a stretch
of rows, and the stretches are put together by one program a group. There are no atomics. Means and
squared deviations are merged as Chan et al. (1983) do, so that a map far from 0 keeps its variance.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from trainer.models.kernels.tiles import divided


class Saved(NamedTuple):
    """What the forward pass leaves to the backward; float32."""

    a: Tensor
    """(n, C)."""
    o: Tensor
    """(n, C)."""
    q: Tensor
    """(n, C)."""
    mean: Tensor
    """Of xhat over a channel's rows, (n, C)."""
    r: Tensor
    """(n, G)."""


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    film: Tensor | None,
    conv_bias: Tensor | None,
    *,
    groups: int,
    eps: float,
    silu: bool,
) -> tuple[Tensor, Saved]:
    """Compute y, like x.

    Args:
        x: (n, C, H, W), channels last, float32 or bfloat16.
        weight: (C,).
        bias: (C,).
        film: Scale and shift beside each other, (n, 2C), contiguous; None for neither.
        conv_bias: (C,), added to x; None for 0.
        groups: G, a divisor of C.
        eps: Added to the variance.
        silu: Apply SiLU.
    """
    s = divided(x)
    partial = x.new_empty(2, s.images, s.stretches, s.channels, dtype=torch.float32)
    a, o, q, mean = x.new_empty(4, s.images, s.channels, dtype=torch.float32)
    r = x.new_empty(s.images, groups, dtype=torch.float32)
    y = torch.empty_like(x)
    _moments[(s.stretches, s.channel_blocks, s.images)](
        x, partial[0], partial[1], s.rows, s.stretch, s.channels, s.block_r, s.block_c
    )
    per_group = s.channels // groups
    _combine[(groups, s.images)](
        partial[0],
        partial[1],
        weight,
        bias,
        film if film is not None else x,
        conv_bias if conv_bias is not None else x,
        a,
        o,
        q,
        mean,
        r,
        s.rows,
        s.stretch,
        s.stretches,
        eps,
        s.channels,
        per_group,
        triton.next_power_of_2(s.stretches),
        triton.next_power_of_2(per_group),
        film is not None,
        conv_bias is not None,
    )
    _apply[(triton.cdiv(s.rows, s.block_r), s.channel_blocks, s.images)](
        x, a, o, y, s.rows, s.channels, s.block_r, s.block_c, silu
    )
    return y, Saved(a, o, q, mean, r)


@triton.jit
def _moments(
    x, means, squares, rows, stretch, C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Mean and sum of squared deviations of each channel over one stretch of one image."""
    part, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    r = tl.arange(0, BLOCK_R)
    first = part * stretch
    last = tl.minimum(first + stretch, rows)
    x += image * rows * C
    mean = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    square = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    seen = 0.0
    for start in range(first, last, BLOCK_R):
        at = start + r
        inside = (at < last)[:, None] & (c < C)[None, :]
        value = tl.load(x + at[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
        seen += 1.0
        delta = tl.where(inside, value - mean, 0.0)
        mean += delta / seen
        square += delta * tl.where(inside, value - mean, 0.0)
    # Each place of the tile saw every BLOCK_R-th row.
    count = tl.maximum((last - first - r + BLOCK_R - 1) // BLOCK_R, 0).to(tl.float32)[:, None]
    whole = tl.sum(count * mean, 0) / (last - first)
    off = mean - whole[None, :]
    spread = tl.sum(tl.where(count > 0, square + count * off * off, 0.0), 0)
    at = (image * tl.num_programs(0) + part) * C + c
    tl.store(means + at, whole, mask=c < C)
    tl.store(squares + at, spread, mask=c < C)


@triton.jit
def _combine(
    means,
    squares,
    weight,
    bias,
    film,
    conv_bias,
    a,
    o,
    q,
    mean,
    r,
    rows,
    stretch,
    stretches,
    eps,
    C: tl.constexpr,
    PER_GROUP: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_G: tl.constexpr,
    FILM: tl.constexpr,
    CONV_BIAS: tl.constexpr,
):
    """Put the stretches of one group of one image together: what is applied to its channels."""
    group, image = tl.program_id(0), tl.program_id(1)
    j, part = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_S)
    c, here = group * PER_GROUP + j, j < PER_GROUP
    at = (image * stretches + part)[:, None] * C + c[None, :]
    inside = (part < stretches)[:, None] & here[None, :]
    of_part = tl.load(means + at, mask=inside, other=0.0)
    count = tl.maximum(tl.minimum(rows - part * stretch, stretch), 0).to(tl.float32)[:, None]
    of_channel = tl.sum(count * of_part, 0) / rows
    off = of_part - of_channel[None, :]
    spread = tl.load(squares + at, mask=inside, other=0.0) + count * off * off
    spread = tl.sum(tl.where(inside, spread, 0.0), 0)
    shifted = of_channel
    if CONV_BIAS:
        shifted += tl.load(conv_bias + c, mask=here, other=0.0).to(tl.float32)
    mu = tl.sum(tl.where(here, shifted, 0.0), 0) / PER_GROUP
    away = shifted - mu
    m = rows.to(tl.float32) * PER_GROUP
    variance = tl.sum(tl.where(here, spread + rows * away * away, 0.0), 0) / m
    inverse = 1.0 / tl.sqrt(variance + eps)
    # x holds no bias of the convolution: q brings it in.
    offset = inverse * (shifted - of_channel - mu)
    gain = tl.load(weight + c, mask=here, other=0.0).to(tl.float32)
    base = tl.load(bias + c, mask=here, other=0.0).to(tl.float32)
    if FILM:
        scale = 1.0 + tl.load(film + image * 2 * C + c, mask=here, other=0.0).to(tl.float32)
        shift = tl.load(film + image * 2 * C + C + c, mask=here, other=0.0).to(tl.float32)
        gain *= scale
        base = base * scale + shift
    to = image * C + c
    tl.store(a + to, inverse * gain, mask=here)
    tl.store(o + to, offset * gain + base, mask=here)
    tl.store(q + to, offset, mask=here)
    tl.store(mean + to, inverse * away, mask=here)
    tl.store(r + image * (C // PER_GROUP) + group, inverse)


@triton.jit
def _apply(
    x,
    a,
    o,
    y,
    rows,
    C: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    SILU: tl.constexpr,
):
    """Write one tile of y."""
    image = tl.program_id(2).to(tl.int64)
    at = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (at < rows)[:, None] & (c < C)[None, :]
    place = image * rows * C + at[:, None] * C + c[None, :]
    gain = tl.load(a + image * C + c, mask=c < C, other=0.0)[None, :]
    base = tl.load(o + image * C + c, mask=c < C, other=0.0)[None, :]
    z = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * gain + base
    if SILU:
        z = z * tl.sigmoid(z)
    tl.store(y + place, z.to(y.dtype.element_ty), mask=inside)
