"""GroupNorm, scale and shift, and SiLU as Triton kernels over channels-last maps.

Legend: n images of R rows (pixels) and C channels, in G groups; x the map, b_c the bias of the
convolution before it, mu and r mean and 1 / standard deviation of a group of x + b_c.

    xhat = r (x + b_c - mu) = r x + q                       q = r (b_c - mu)
    z = (weight xhat + bias) (1 + scale) + shift = a x + o
    y = silu(z), or z

Sums of float32 are made in one order whatever the device does first: a program runs down a stretch
of rows, and the stretches are put together by one program a group. There are no atomics. Means and
squared deviations are merged as Chan et al. (1983) do, so that a map far from 0 keeps its variance.

Backward, with dz = dy silu'(z), SiLU computed again: of S = sum_rows dz and T = sum_rows dz xhat

    d bias_c = sum_n (1 + scale) S     d weight_c = sum_n (1 + scale) T
    d shift  = S                       d scale    = weight T + bias S
    dx = a dz + e xhat + f             e = -r sum_group(k T) / m    f = -r sum_group(k S) / m
    d b_c = sum_n sum_rows dx          k = weight (1 + scale), m = R C / G
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_STRETCHES = 128
"""Of rows an image is divided into, for the sums."""

TILE = 4096
"""Elements of a map that a program holds at once: 32 for each of its 128 threads."""

MAX_BLOCK_C = 64
"""With 128, deep maps take a third longer on an H200."""


class Shape(NamedTuple):
    """How a map is divided among programs."""

    images: int
    rows: int
    channels: int
    groups: int
    block_c: int
    """Channels of a tile, a power of 2."""
    block_r: int
    """Rows of a tile, a power of 2."""
    stretch: int
    """Rows of a stretch, a multiple of block_r."""
    stretches: int

    @property
    def channel_blocks(self) -> int:
        return -(-self.channels // self.block_c)


def divided(x: Tensor, groups: int) -> Shape:
    """Divide a map (n, C, H, W)."""
    images, channels, height, width = x.shape
    rows = height * width
    block_c = min(MAX_BLOCK_C, triton.next_power_of_2(channels))
    block_r = max(1, min(TILE // block_c, triton.next_power_of_2(rows)))
    tiles = triton.cdiv(rows, block_r)
    stretch = triton.cdiv(tiles, min(tiles, MAX_STRETCHES)) * block_r
    return Shape(
        images, rows, channels, groups, block_c, block_r, stretch, triton.cdiv(rows, stretch)
    )


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
    s = divided(x, groups)
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


class Gradients(NamedTuple):
    """Of everything that `forward` was given; those of the parameters are float32."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    film: Tensor | None
    conv_bias: Tensor | None


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    film: Tensor | None,
    saved: Saved,
    *,
    groups: int,
    silu: bool,
    has_conv_bias: bool,
) -> Gradients:
    """Compute the gradients from y's, dy, channels last as x; the rest as for `forward`."""
    s = divided(x, groups)
    per_group = s.channels // groups
    partial = x.new_empty(2, s.images, s.stretches, s.channels, dtype=torch.float32)
    sums = x.new_empty(2, s.images, s.channels, dtype=torch.float32)
    e, f = x.new_empty(2, s.images, groups, dtype=torch.float32)
    dx = torch.empty_like(x)
    dfilm = None if film is None else torch.empty_like(film)
    dweight, dbias, dconv = x.new_empty(3, s.channels, dtype=torch.float32)
    _reduce[(s.stretches, s.channel_blocks, s.images)](
        x,
        dy,
        saved.a,
        saved.o,
        saved.q,
        saved.r,
        partial[0],
        partial[1],
        s.rows,
        s.stretch,
        s.channels,
        per_group,
        s.block_r,
        s.block_c,
        silu,
    )
    _combine_backward[(groups, s.images)](
        partial[0],
        partial[1],
        weight,
        bias,
        saved.a,
        saved.r,
        sums[0],
        sums[1],
        e,
        f,
        dfilm if dfilm is not None else x,
        s.rows,
        s.stretches,
        s.channels,
        per_group,
        triton.next_power_of_2(s.stretches),
        triton.next_power_of_2(per_group),
        film is not None,
    )
    _apply_backward[(triton.cdiv(s.rows, s.block_r), s.channel_blocks, s.images)](
        x,
        dy,
        saved.a,
        saved.o,
        saved.q,
        saved.r,
        e,
        f,
        dx,
        s.rows,
        s.channels,
        per_group,
        s.block_r,
        s.block_c,
        silu,
    )
    block_c = min(64, triton.next_power_of_2(s.channels))
    _parameters[(triton.cdiv(s.channels, block_c),)](
        sums[0],
        sums[1],
        saved.a,
        saved.mean,
        e,
        f,
        film if film is not None else x,
        dweight,
        dbias,
        dconv,
        s.rows,
        s.images,
        s.channels,
        per_group,
        min(32, triton.next_power_of_2(s.images)),
        block_c,
        film is not None,
        has_conv_bias,
    )
    return Gradients(dx, dweight, dbias, dfilm, dconv if has_conv_bias else None)


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


@triton.jit
def _silu_gradient(dy, z):
    share = tl.sigmoid(z)
    return dy * share * (1.0 + z * (1.0 - share))


@triton.jit
def _reduce(
    x,
    dy,
    a,
    o,
    q,
    r,
    sums,
    products,
    rows,
    stretch,
    C: tl.constexpr,
    PER_GROUP: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    SILU: tl.constexpr,
):
    """S and T of each channel over one stretch of one image."""
    part, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    row = tl.arange(0, BLOCK_R)
    first = part * stretch
    last = tl.minimum(first + stretch, rows)
    x += image * rows * C
    dy += image * rows * C
    gain = tl.load(a + image * C + c, mask=c < C, other=0.0)[None, :]
    base = tl.load(o + image * C + c, mask=c < C, other=0.0)[None, :]
    offset = tl.load(q + image * C + c, mask=c < C, other=0.0)[None, :]
    inverse = tl.load(r + image * (C // PER_GROUP) + c // PER_GROUP, mask=c < C, other=0.0)[None, :]
    s = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    t = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    for start in range(first, last, BLOCK_R):
        at = start + row
        inside = (at < last)[:, None] & (c < C)[None, :]
        place = at[:, None] * C + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        dz = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
        if SILU:
            dz = _silu_gradient(dz, value * gain + base)
        s += dz
        t += dz * (value * inverse + offset)
    at = (image * tl.num_programs(0) + part) * C + c
    tl.store(sums + at, tl.sum(s, 0), mask=c < C)
    tl.store(products + at, tl.sum(t, 0), mask=c < C)


@triton.jit
def _combine_backward(
    sums,
    products,
    weight,
    bias,
    a,
    r,
    s,
    t,
    e,
    f,
    dfilm,
    rows,
    stretches,
    C: tl.constexpr,
    PER_GROUP: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_G: tl.constexpr,
    FILM: tl.constexpr,
):
    """Put the stretches of one group of one image together."""
    group, image = tl.program_id(0), tl.program_id(1)
    j, part = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_S)
    c, here = group * PER_GROUP + j, j < PER_GROUP
    at = (image * stretches + part)[:, None] * C + c[None, :]
    inside = (part < stretches)[:, None] & here[None, :]
    total = tl.sum(tl.load(sums + at, mask=inside, other=0.0), 0)
    product = tl.sum(tl.load(products + at, mask=inside, other=0.0), 0)
    to = image * C + c
    tl.store(s + to, total, mask=here)
    tl.store(t + to, product, mask=here)
    # a = r k, so that e = -sum(a T) / m and f = -sum(a S) / m.
    gain = tl.load(a + to, mask=here, other=0.0)
    m = rows.to(tl.float32) * PER_GROUP
    tl.store(e + image * (C // PER_GROUP) + group, -tl.sum(gain * product, 0) / m)
    tl.store(f + image * (C // PER_GROUP) + group, -tl.sum(gain * total, 0) / m)
    if FILM:
        scaled = tl.load(weight + c, mask=here, other=0.0).to(tl.float32) * product
        scaled += tl.load(bias + c, mask=here, other=0.0).to(tl.float32) * total
        kind = dfilm.dtype.element_ty
        tl.store(dfilm + image * 2 * C + c, scaled.to(kind), mask=here)
        tl.store(dfilm + image * 2 * C + C + c, total.to(kind), mask=here)


@triton.jit
def _apply_backward(
    x,
    dy,
    a,
    o,
    q,
    r,
    e,
    f,
    dx,
    rows,
    C: tl.constexpr,
    PER_GROUP: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    SILU: tl.constexpr,
):
    """Write one tile of dx."""
    image = tl.program_id(2).to(tl.int64)
    at = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (at < rows)[:, None] & (c < C)[None, :]
    place = image * rows * C + at[:, None] * C + c[None, :]
    gain = tl.load(a + image * C + c, mask=c < C, other=0.0)[None, :]
    base = tl.load(o + image * C + c, mask=c < C, other=0.0)[None, :]
    offset = tl.load(q + image * C + c, mask=c < C, other=0.0)[None, :]
    group = image * (C // PER_GROUP) + c // PER_GROUP
    inverse = tl.load(r + group, mask=c < C, other=0.0)[None, :]
    slope = tl.load(e + group, mask=c < C, other=0.0)[None, :]
    constant = tl.load(f + group, mask=c < C, other=0.0)[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    dz = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
    if SILU:
        dz = _silu_gradient(dz, value * gain + base)
    out = gain * dz + slope * (value * inverse + offset) + constant
    tl.store(dx + place, out.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _parameters(
    s,
    t,
    a,
    mean,
    e,
    f,
    film,
    dweight,
    dbias,
    dconv_bias,
    rows,
    images,
    C: tl.constexpr,
    PER_GROUP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    FILM: tl.constexpr,
    CONV_BIAS: tl.constexpr,
):
    """Sum the images' gradients of weight, bias and the convolution's bias."""
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    for_weight = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    for_bias = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    for_conv = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    for first in range(0, images, BLOCK_N):
        image = first + tl.arange(0, BLOCK_N)
        inside = (image < images)[:, None] & (c < C)[None, :]
        at = image[:, None] * C + c[None, :]
        total = tl.load(s + at, mask=inside, other=0.0)
        product = tl.load(t + at, mask=inside, other=0.0)
        if CONV_BIAS:
            group = image[:, None] * (C // PER_GROUP) + (c // PER_GROUP)[None, :]
            slope = tl.load(e + group, mask=inside, other=0.0)
            constant = tl.load(f + group, mask=inside, other=0.0)
            centre = tl.load(mean + at, mask=inside, other=0.0)
            for_conv += tl.load(a + at, mask=inside, other=0.0) * total
            for_conv += rows * (slope * centre + constant)
        if FILM:
            scale = tl.load(film + at + image[:, None] * C, mask=inside, other=0.0).to(tl.float32)
            total += scale * total
            product += scale * product
        for_weight += product
        for_bias += total
    tl.store(dweight + c, tl.sum(for_weight, 0), mask=c < C)
    tl.store(dbias + c, tl.sum(for_bias, 0), mask=c < C)
    if CONV_BIAS:
        tl.store(dconv_bias + c, tl.sum(for_conv, 0), mask=c < C)
