"""Building blocks of the diffusion networks. Legend: b batch, c channels, H W feature map."""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model_config import ModelConfig
from trainer.models.conv import Conv
from trainer.models.norm_silu import Norm, largest_divisor

HEAD_CHANNELS = 32
"""Fewest channels per attention head, where there is more than one."""


ConvLayer = TypeVar("ConvLayer", bound=nn.Conv2d)


def level_widths(width: int, depth: int) -> list[int]:
    """Return the channels of each resolution level, finest first."""
    return [width * min(2**level, 8) for level in range(depth)]


def zero_init(layer: ConvLayer) -> ConvLayer:
    """Zero a convolution, so that its residual branch begins as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def in_full_precision(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a layer in its weights' precision, at least float32, also under autocast."""
    with without_autocast(x):
        out: Tensor = layer(x.to(layer.weight.dtype))
        return out


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Compute in the precision of what is given; some devices (meta) know nothing else."""
    kind = x.device.type
    known = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if known else nullcontext()


def layout_of(x: Tensor) -> torch.memory_format:
    """Return how a feature map (b, c, H, W) lies in memory."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep, then an MLP (Vaswani et al. 2017, sec. 3.5; Ho et al. 2020).

    Sines and cosines are taken of t * frequency: features in [-1, 1] that tell timesteps apart at
    every scale.
    """

    frequencies: Tensor

    def __init__(self, channels: int, sinusoids: int = 64):
        """
        Args:
            channels: Size of the embedding.
            sinusoids: Number of sinusoidal features, even.
        """
        super().__init__()
        exponents = torch.arange(sinusoids // 2) / (sinusoids // 2)
        self.register_buffer("frequencies", 10000**-exponents, persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(sinusoids, channels), nn.SiLU(), nn.Linear(channels, channels)
        )

    def sinusoids(self, t: Tensor) -> Tensor:
        """Return the features of t (b,) before the MLP, (b, sinusoids), in [-1, 1]."""
        phases = t[:, None].to(self.frequencies.dtype) * self.frequencies
        return torch.cat([phases.cos(), phases.sin()], dim=1)

    def forward(self, t: Tensor) -> Tensor:
        """Embed timesteps (b,) as (b, channels)."""
        out: Tensor = self.mlp(self.sinusoids(t))
        return out


class ResBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice, with the timestep in between and a shortcut.

    As in Ho et al. 2020, with the timestep as scale and shift of the second norm (Dhariwal &
    Nichol 2021, sec. 3.1). Without `time_channels` it knows no timestep.
    """

    def __init__(self, channels: int, time_channels: int | None, dropout: float):
        super().__init__()
        self.norm1 = Norm(channels)
        self.conv1 = Conv(channels, channels, 3, padding=1)
        self.time = nn.Linear(time_channels, 2 * channels) if time_channels else None
        self.norm2 = Norm(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(Conv(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Map (b, c, H, W) and the timestep embedding (b, time_channels) to (b, c, H, W)."""
        film = None
        if self.time is not None:
            assert time is not None
            film = self.time(F.silu(time))
        h = self.norm2.after_convolution(self.conv1, self.norm1(x), film)
        out: Tensor = self.conv2(self.dropout(h), x)
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention over the positions of a feature map, with a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.num_heads = largest_divisor(channels, channels // HEAD_CHANNELS)
        self.norm = Norm(channels, silu=False)
        self.qkv = Conv(channels, 3 * channels, 1)
        self.out = zero_init(Conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, H, W) to the same shape."""
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).flatten(2)
        # (3, b, heads, positions, channels per head)
        q, k, v = qkv.view(b, 3, self.num_heads, c // self.num_heads, -1).permute(1, 0, 2, 4, 3)
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(attended.transpose(2, 3).reshape(b, c, height, width), x)
        return out


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` in its input's precision, which autocast would leave for float32.

    What it sums is float32 in any case.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., c) to the same shape and precision."""
        with without_autocast(x):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels at each position, with learnable gain and bias."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, H, W) to the same shape and precision."""
        out: Tensor = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return out


class Level(nn.Module):
    """The residual blocks of one resolution, and its self-attention if it has one."""

    def __init__(
        self, channels: int, time_channels: int | None, config: ModelConfig, *, attention: bool
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            ResBlock(channels, time_channels, config.dropout) for _ in range(config.num_res_blocks)
        )
        self.attention = SelfAttention(channels) if attention else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Map (b, c, H, W) and the timestep embedding, if there is one, to (b, c, H, W)."""
        for block in self.blocks:
            x = block(x, time)
        out: Tensor = self.attention(x)
        return out
