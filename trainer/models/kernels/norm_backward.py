"""The backward pass of norm_forward.py, in whose words it is said.

With dz = dy silu'(z), SiLU computed again: of S = sum_rows dz and T = sum_rows dz xhat

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

from trainer.models.kernels.norm_forward import Saved
from trainer.models.kernels.tiles import divided


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
    s = divided(x)
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
