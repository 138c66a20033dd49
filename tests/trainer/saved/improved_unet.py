"""Improved- and guided-diffusion's U-Net, written anew from the papers and its weights' names.

An oracle: it shares no code with trainer/models, and its layers are called as in those programs.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


class Res(nn.Module):
    def __init__(self, given, out, embedding, film, way=""):
        super().__init__()
        self.film, self.way = film, way
        self.in_layers = nn.Sequential(norm(given), nn.SiLU(), nn.Conv2d(given, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out * (1 + film)))
        self.out_layers = nn.Sequential(
            norm(out), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(given, out, 1) if given != out else nn.Identity()

    def forward(self, x, e):
        def resized(y):
            if self.way == "down":
                return F.avg_pool2d(y, 2)
            return y.repeat_interleave(2, 2).repeat_interleave(2, 3) if self.way == "up" else y

        h = self.in_layers[2](resized(self.in_layers[1](self.in_layers[0](x))))
        e = self.emb_layers(e)[:, :, None, None]
        if self.film:
            scale, shift = e.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](F.silu(h))
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(resized(x)) + h


class Attention(nn.Module):
    def __init__(self, channels, heads, new_order):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm, self.qkv = norm(channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, e):
        flat = x.flatten(2)
        qkv, size = self.qkv(self.norm(flat)), x.shape[1] // self.heads
        out = []
        for head in range(self.heads):
            if self.new_order:
                q, k, v = (part[:, head * size :][:, :size] for part in qkv.chunk(3, dim=1))
            else:
                q, k, v = qkv[:, 3 * head * size :][:, : 3 * size].chunk(3, dim=1)
            share = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(size), dim=2)
            out.append(v @ share.transpose(1, 2))
        return (flat + self.proj_out(torch.cat(out, 1))).view_as(x)


class Down(nn.Module):
    def __init__(self, channels, learned):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, 2, 1) if learned else nn.AvgPool2d(2)

    def forward(self, x, e):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels, learned):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if learned else nn.Identity()

    def forward(self, x, e):
        return self.conv(F.interpolate(x, scale_factor=2))


class Plain(nn.Conv2d):
    def forward(self, x, e):
        return super().forward(x)


class ImprovedUNet(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        mult: tuple[int, ...] = (1, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (2,),
        heads: int = 1,
        film: bool = False,
        conv_resample: bool = True,
        updown: bool = False,
        new_order: bool = False,
    ):
        super().__init__()
        self.width, e = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, e), nn.SiLU(), nn.Linear(e, e))

        def stage(*parts):
            return nn.ModuleList(parts)

        def attends(level, channels):
            return [Attention(channels, heads, new_order)] if 2**level in attention else []

        self.input_blocks = nn.ModuleList([stage(Plain(in_channels, width, 3, padding=1))])
        channels, skips = width, [width]
        for level, factor in enumerate(mult):
            for _ in range(blocks):
                block = Res(channels, factor * width, e, film)
                channels = factor * width
                self.input_blocks.append(stage(block, *attends(level, channels)))
                skips.append(channels)
            if level < len(mult) - 1:
                joint = Res(channels, channels, e, film, "down") if updown else None
                self.input_blocks.append(stage(joint or Down(channels, conv_resample)))
                skips.append(channels)
        middle = Attention(channels, heads, new_order)
        self.middle_block = stage(
            Res(channels, channels, e, film), middle, Res(channels, channels, e, film)
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(mult))):
            for i in range(blocks + 1):
                parts = [Res(channels + skips.pop(), mult[level] * width, e, film)]
                channels = mult[level] * width
                parts += attends(level, channels)
                if level and i == blocks:
                    joint = Res(channels, channels, e, film, "up") if updown else None
                    parts.append(joint or Up(channels, conv_resample))
                self.output_blocks.append(stage(*parts))
        self.out = nn.Sequential(
            norm(channels), nn.SiLU(), nn.Conv2d(width, out_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=x.dtype) / half)
        angles = t[:, None].to(x.dtype) * rates
        e = self.time_embed(torch.cat([torch.cos(angles), torch.sin(angles)], dim=1))
        kept = []
        for stage in self.input_blocks:
            for part in stage:
                x = part(x, e)
            kept.append(x)
        for part in self.middle_block:
            x = part(x, e)
        for stage in self.output_blocks:
            x = torch.cat([x, kept.pop()], dim=1)
            for part in stage:
                x = part(x, e)
        return self.out(x)
