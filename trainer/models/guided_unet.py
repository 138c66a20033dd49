"""The U-Net of improved-diffusion and guided-diffusion, which most forks of MedSegDiff train.

Nichol & Dhariwal 2021, Dhariwal & Nichol 2021: the image's channels beside the noisy mask's, blocks
and their order as in those programs, so that their weights fit (trainer/saved/layouts.py).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.configfile import ConfigError
from trainer.model_config import LayoutConfig, ModelConfig
from trainer.models.blocks import HEAD_CHANNELS, in_full_precision, level_widths, zero_init
from trainer.models.conv import Conv
from trainer.models.network import ImageItself, Network
from trainer.models.norm_silu import Norm, largest_divisor

MAX_GROUPS = 32
"""Most groups of a GroupNorm, where nothing is said: what both programs always have."""


class GuidedUNet(Network):
    """Residual blocks of many widths; the decoder takes every feature map of the encoder."""

    segments_directly = False

    def __init__(
        self, config: ModelConfig, *, in_channels: int, mask_channels: int, out_channels: int
    ):
        """
        Raises:
            ConfigError: The layout's heads or groups do not divide its channels.
        """
        super().__init__()
        layout = config.layout
        widths = list(layout.channels or level_widths(config.width, config.depth))
        attention = attention_levels(config)
        groups = norm_groups(config, widths)
        _check_heads(config, widths, attention)
        self.input = LayoutInput(layout)
        self.condition = ImageItself()
        self.sinusoids = layout.sinusoids or config.width
        embedding = 4 * self.sinusoids
        self.time_embed = nn.Sequential(
            nn.Linear(self.sinusoids, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

        def block(channels: int, out: int, resample: str = "") -> ResBlock:
            return ResBlock(channels, out, embedding, config, groups, resample=resample)

        def blocks(channels: int, out: int, *, attends: bool) -> list[nn.Module]:
            found: list[nn.Module] = [block(channels, out)]
            return [*found, SelfAttention(out, layout, groups)] if attends else found

        # Both programs' down- and up-sampling, by convolution, average or within a residual block.
        def joint(channels: int, way: str) -> nn.Module:
            if layout.resample == "resblock":
                return block(channels, channels, way)
            return Resample(channels, way, learned=layout.resample == "conv")

        channels = widths[0]
        self.input_blocks = nn.ModuleList(
            [Stage(Conv(mask_channels + in_channels, channels, 3, padding=1))]
        )
        passed = [channels]
        for level, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(Stage(*blocks(channels, width, attends=attention[level])))
                channels = width
                passed.append(channels)
            if level < config.depth - 1:
                self.input_blocks.append(Stage(joint(channels, "down")))
                passed.append(channels)
        self.middle_block = Stage(
            *blocks(channels, channels, attends=True), block(channels, channels)
        )
        self.output_blocks = nn.ModuleList()
        for level, width in reversed([*enumerate(widths)]):
            for number in range(config.num_res_blocks + 1):
                parts = blocks(channels + passed.pop(), width, attends=attention[level])
                channels = width
                if level and number == config.num_res_blocks:
                    parts.append(joint(channels, "up"))
                self.output_blocks.append(Stage(*parts))
        self.head_norm = Norm(channels, groups=groups, eps=layout.norm_eps)
        self.head = Conv(channels, out_channels, 3, padding=1)

    def levels(self) -> Iterable[nn.Module]:
        return (module for module in self.modules() if isinstance(module, Stage))

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        features = sinusoids(self.input.timesteps(t), self.sinusoids, self.head.weight.dtype)
        embedding = F.silu(self.time_embed(features))
        x = self.input(x_t, condition)
        passed = []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            passed.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, passed.pop()], dim=1), embedding)
        return in_full_precision(self.head, self.head_norm(x))


class LayoutInput(nn.Module):
    """What a network of a `layout` takes for the noisy mask, the image and the timestep."""

    def __init__(self, layout: LayoutConfig):
        super().__init__()
        self.image_first = layout.input_order == "image_first"
        self.low, self.high = layout.image_range
        self.timestep_scale = layout.timestep_scale

    def forward(self, x_t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        """Return (b, mask and image channels, H, W) of the condition, the image in [-1, 1]."""
        (cond,) = condition
        if (self.low, self.high) != (-1, 1):
            cond = self.low + (cond + 1) * ((self.high - self.low) / 2)
        return torch.cat([cond, x_t] if self.image_first else [x_t, cond], dim=1)

    def timesteps(self, t: Tensor) -> Tensor:
        """Return t (b,) as the network knows it."""
        return t if self.timestep_scale == 1 else t * self.timestep_scale


def sinusoids(t: Tensor, features: int, dtype: torch.dtype) -> Tensor:
    """Return cosines and sines of timesteps (b,), (b, features); frequencies end before 1e-4."""
    half = features // 2
    exponents = torch.arange(half, dtype=dtype, device=t.device) / half
    phases = t[:, None].to(dtype) * 10000**-exponents
    found = torch.cat([phases.cos(), phases.sin()], dim=1)
    return F.pad(found, (0, features % 2))


class Stage(nn.Sequential):
    """Parts one after the other, of which residual blocks know the timestep."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """Map (b, c, H, W) and the activated embedding (b, e) to the next feature map."""
        for part in self:
            x = part(x, embedding) if isinstance(part, ResBlock) else part(x)
        return x


class ResBlock(nn.Module):
    """Norm, SiLU and convolution, twice, with the timestep between; may resample on the way."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding: int,
        config: ModelConfig,
        groups: int,
        *,
        resample: str,
    ):
        super().__init__()
        self.film, eps = config.layout.scale_shift_norm, config.layout.norm_eps
        self.norm1 = Norm(channels, groups=groups, eps=eps)
        self.conv1 = Conv(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(embedding, out_channels * (2 if self.film else 1))
        self.norm2 = Norm(out_channels, groups=groups, eps=eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = zero_init(Conv(out_channels, out_channels, 3, padding=1))
        equal = channels == out_channels
        self.shortcut = nn.Identity() if equal else Conv(channels, out_channels, 1)
        self.resample = Resample(channels, resample, learned=False) if resample else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (b, channels, H, W) and (b, embedding) to (b, out_channels, H', W')."""
        h, time = self.resample(self.norm1(x)), self.time(embedding)
        if self.film:
            h = self.norm2.after_convolution(self.conv1, h, time)
        else:
            h = self.norm2(self.conv1(h) + time[..., None, None])
        out: Tensor = self.conv2(self.dropout(h), self.shortcut(self.resample(x)))
        return out


class Resample(nn.Module):
    """Twice as coarse, by a strided convolution or averages; or as fine, by nearest neighbours."""

    def __init__(self, channels: int, way: str, *, learned: bool):
        super().__init__()
        self.down = way == "down"
        stride = 2 if self.down else 1
        self.conv = Conv(channels, channels, 3, stride=stride, padding=1) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, H, W) to (b, c, H / 2, W / 2) or (b, c, 2 H, 2 W)."""
        if self.down:
            out: Tensor = self.conv(x) if self.conv else F.avg_pool2d(x, 2)
            return out
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(x) if self.conv else x


class SelfAttention(nn.Module):
    """Self-attention over the positions of a feature map, with a shortcut."""

    def __init__(self, channels: int, layout: LayoutConfig, groups: int):
        super().__init__()
        heads = layout.head_channels
        self.num_heads = channels // heads[0] if heads else layout.num_heads or 1
        self.legacy = layout.attention_order == "legacy"
        self.norm = Norm(channels, silu=False, groups=groups, eps=layout.norm_eps)
        self.qkv = Conv(channels, 3 * channels, 1)
        self.out = zero_init(Conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, H, W) to the same shape."""
        b, c, height, width = x.shape
        qkv, heads = self.qkv(self.norm(x)).flatten(2), self.num_heads
        # To (3, b, heads, positions, channels of a head).
        if self.legacy:
            q, k, v = qkv.view(b, heads, 3, c // heads, -1).permute(2, 0, 1, 4, 3)
        else:
            q, k, v = qkv.view(b, 3, heads, c // heads, -1).permute(1, 0, 2, 4, 3)
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(attended.transpose(2, 3).reshape(b, c, height, width), x)
        return out


def attention_levels(config: ModelConfig) -> tuple[bool, ...]:
    """Return whether each level has self-attention, finest first."""
    first = config.depth - config.attention_levels
    return config.layout.attention or tuple(level >= first for level in range(config.depth))


def resolved(config: ModelConfig) -> dict[str, Any]:
    """Return the settings of `layout` that go by other settings where they are None."""
    layout = config.layout
    widths = layout.channels or tuple(level_widths(config.width, config.depth))
    heads = layout.head_channels
    if config.family == "monai_unet":
        heads = heads or tuple(head_channels(widths))
        heads = heads * config.depth if len(heads) == 1 else heads
    return {
        "channels": widths,
        "attention": attention_levels(config),
        "res_blocks": layout.res_blocks or (config.num_res_blocks,) * config.depth,
        "num_heads": None if heads else layout.num_heads or 1,
        "head_channels": heads,
        "sinusoids": layout.sinusoids or config.width,
        "norm_groups": norm_groups(config, widths),
    }


def head_channels(widths: Sequence[int]) -> list[int]:
    """Return channels of an attention head for each of some widths."""
    return [w // largest_divisor(w, w // HEAD_CHANNELS) for w in widths]


def norm_groups(config: ModelConfig, widths: Sequence[int]) -> int:
    """Return the groups of every norm: as the layout says, or as many as suit the width.

    Where each channel were its own group, a timestep that is added before a norm would be lost.

    Raises:
        ConfigError: They do not divide all channels.
    """
    width = config.width
    groups = config.layout.norm_groups or largest_divisor(
        width, min(MAX_GROUPS, max(width // 4, 1))
    )
    for channels in widths:
        if channels % groups:
            raise ConfigError(
                [f"model.layout.norm_groups: {groups}: must divide all channels, but one level "
                 f"has {channels}"]
            )  # fmt: skip
    return groups


def _check_heads(config: ModelConfig, widths: Sequence[int], attention: tuple[bool, ...]) -> None:
    layout = config.layout
    if layout.head_channels and (layout.num_heads or len(layout.head_channels) > 1):
        rule = "a guided_unet has one number for all levels, and then no num_heads"
        raise ConfigError([f"model.layout.head_channels: {list(layout.head_channels)}: {rule}"])
    name, number = ("head_channels", layout.head_channels[0]) if layout.head_channels else (
        "num_heads", layout.num_heads or 1
    )  # fmt: skip
    for channels in [
        *(w for w, attends in zip(widths, attention, strict=True) if attends),
        widths[-1],
    ]:
        if channels % number:
            raise ConfigError(
                [f"model.layout.{name}: {number}: must divide the channels of levels with "
                 f"attention, but one has {channels}"]
            )  # fmt: skip
