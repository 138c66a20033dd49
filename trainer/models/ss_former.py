"""Spectrum-Space Transformer (SS-Former) of MedSegDiff-V2 (Wu et al. 2024, arXiv 2301.11798).

Legend: b batch, c channels, h w the deepest feature map, n = h * w tokens; F the two-dimensional
Fourier transform of each channel. Maps are real, so F keeps half of the frequencies.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model_config import V2Config
from trainer.models.blocks import ChannelNorm, without_autocast, zero_init

FILTER_CHANNELS = 32
"""Width of the network that computes a band-pass filter; not in the paper."""

MLP_RATIO = 2
"""Hidden channels of a cross block's MLP per channel; not in the paper."""


class ScaleShift(nn.Module):
    """Scales and shifts a feature map by what the timestep says (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int, time_channels: int):
        super().__init__()
        self.time = nn.Linear(time_channels, 2 * channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (b, c, h, w) and the timestep embedding (b, time_channels) to (b, c, h, w)."""
        scale, shift = self.time(F.silu(time))[..., None, None].chunk(2, dim=1)
        out: Tensor = x * (1 + scale) + shift
        return out


class BandPassBlock(nn.Module):
    """Convolution, LayerNorm, scale and shift by the timestep, SiLU."""

    def __init__(self, in_channels: int, channels: int, time_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm = ChannelNorm(channels)
        self.film = ScaleShift(channels, time_channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) to (b, channels, h, w)."""
        return F.silu(self.film(self.norm(self.conv(x)), time))


class NeuralBandPassFilter(nn.Module):
    """Computes from a map of frequency coordinates, and the timestep, what each frequency passes.

    The weights know coordinates and no map size, so that one filter serves every image size.
    """

    def __init__(self, num_blocks: int, out_channels: int, time_channels: int):
        super().__init__()
        widths = [2] + [FILTER_CHANNELS] * num_blocks
        self.blocks = nn.ModuleList(
            BandPassBlock(before, after, time_channels) for before, after in pairwise(widths)
        )
        self.gate = nn.Conv2d(widths[-1], out_channels, 1)

    @staticmethod
    def coordinates(height: int, width: int, like: Tensor) -> Tensor:
        """Return (2, height, width // 2 + 1): frequencies over Nyquist's, low in the middle.

        Rows run from -1 to 1 and columns from 0 to 1, so that neighbours are neighbours in
        frequency too.
        """
        rows = torch.fft.fftshift(torch.fft.fftfreq(height, 0.5, device=like.device))
        columns = torch.fft.rfftfreq(width, 0.5, device=like.device)
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij")).to(like)

    def forward(self, height: int, width: int, time: Tensor) -> Tensor:
        """Return gates in (0, 1) in the order of `rfft2`, (b, out_channels, h, w // 2 + 1)."""
        x = self.coordinates(height, width, like=time).expand(len(time), -1, -1, -1)
        for block in self.blocks:
            x = block(x, time)
        gates: Tensor = torch.fft.ifftshift(torch.sigmoid(self.gate(x)), dim=2)
        return gates


class AttentionProduct(nn.Module):
    """M = (F(q) Wq) (F(k) Wk)^T, M' = gate x M, f = F^-1(M') (v Wv): the AAAI version's.

    The paper leaves open, and here is chosen: F runs over the feature map's two axes, and F^-1 over
    those of both tokens of M; the gate of a pair of frequencies (i, j) is g_q[i] g_k[j], of two
    maps of the band-pass filter; f is divided by n sqrt(c).

    All of this is linear, so that F^-1(M') is the product of two filtered maps, and the n x n
    matrices need never be there, whatever the image size:
    f = F^-1(g_q F(q Wq)) (F^-1(g_k F(k Wk))^T (v Wv)).
    """

    def __init__(self, channels: int, time_channels: int, nbp_blocks: int):
        super().__init__()
        self.filter = NeuralBandPassFilter(nbp_blocks, 2, time_channels) if nbp_blocks else None
        self.q = nn.Conv2d(channels, channels, 1, bias=False)
        self.k = nn.Conv2d(channels, channels, 1, bias=False)
        self.v = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, time: Tensor) -> Tensor:
        """Map three (b, c, h, w) to one, at least float32."""
        (b, c, height, width), n = query.shape, query[0, 0].numel()
        gate = None if self.filter is None else _full(self.filter(height, width, time))
        q, k, v = _full(self.q(query)), _full(self.k(key)), _full(self.v(value))
        with without_autocast(q):
            if gate is not None:
                q = torch.fft.irfft2(torch.fft.rfft2(q) * gate[:, :1], s=(height, width))
                k = torch.fft.irfft2(torch.fft.rfft2(k) * gate[:, 1:], s=(height, width))
            mixed = torch.einsum("bkn,bvn->bkv", k.flatten(2), v.flatten(2)) / (n * c**0.5)
            return torch.einsum("bkn,bkv->bvn", q.flatten(2), mixed).view(b, c, height, width)


class ElementwiseProduct(nn.Module):
    """f = F^-1(sin(F(q) Wq x F(k) Wk)) x (v Wv), all products elementwise: the first version's.

    The paper leaves open, and here is chosen: the sine is taken of real and imaginary part (being
    odd, it keeps the inverse real), of unitary transforms. There is no band-pass filter.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.q = nn.Conv2d(channels, channels, 1, bias=False)
        self.k = nn.Conv2d(channels, channels, 1, bias=False)
        self.v = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, time: Tensor) -> Tensor:
        """Map three (b, c, h, w) to one, at least float32; the timestep does not matter."""
        q, k, v = _full(self.q(query)), _full(self.k(key)), _full(self.v(value))
        spectrum = torch.fft.rfft2(q, norm="ortho") * torch.fft.rfft2(k, norm="ortho")
        waves = torch.complex(spectrum.real.sin(), spectrum.imag.sin())
        out: Tensor = torch.fft.irfft2(waves, s=q.shape[-2:], norm="ortho") * v
        return out


class CrossBlock(nn.Module):
    """Product in the spectrum, scale and shift by the timestep, MLP, and a shortcut of the query.

    The paper leaves open, and here is chosen: LayerNorms before the product and the scale and
    shift, the shortcut, and an MLP that begins as zero and the block so as the identity.
    """

    def __init__(self, channels: int, time_channels: int, config: V2Config):
        super().__init__()
        self.norm_query = ChannelNorm(channels)
        self.norm_noisy = ChannelNorm(channels)
        self.product = (
            AttentionProduct(channels, time_channels, config.nbp_blocks)
            if config.ss_former_product == "attention"
            else ElementwiseProduct(channels)
        )
        self.norm = ChannelNorm(channels)
        self.film = ScaleShift(channels, time_channels)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, MLP_RATIO * channels, 1),
            nn.SiLU(),
            zero_init(nn.Conv2d(MLP_RATIO * channels, channels, 1)),
        )

    def forward(self, semantic: Tensor, noisy: Tensor, time: Tensor, *, value: str) -> Tensor:
        """Return the semantic feature, changed; keys are of the noisy one, values of `value`."""
        query, key = self.norm_query(semantic), self.norm_noisy(noisy)
        f = self.product(query, key, query if value == "semantic" else key, time)
        out: Tensor = semantic + self.mlp(self.film(self.norm(f), time))
        return out


class SSFormer(nn.Module):
    """Two symmetric cross blocks, stacked `ss_former_blocks` times.

    The first asks the noisy feature e about the condition's c: c~ = c + block(q c, k e, v c); the
    second brings e in: c' = c~ + block(q c~, k e, v e). The next pair goes on with c'.
    """

    def __init__(self, channels: int, time_channels: int, config: V2Config):
        super().__init__()
        self.blocks = nn.ModuleList(
            CrossBlock(channels, time_channels, config) for _ in range(2 * config.ss_former_blocks)
        )

    def forward(self, semantic: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Map the condition's and the noisy deepest feature, (b, c, h, w), to the condition's."""
        for i, block in enumerate(self.blocks):
            semantic = block(semantic, noisy, time, value="noisy" if i % 2 else "semantic")
        return semantic


def _full(x: Tensor) -> Tensor:
    """At least float32: FFTs know nothing less on most devices."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
