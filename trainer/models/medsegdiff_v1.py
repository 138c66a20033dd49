"""MedSegDiff V1 (Wu et al. 2023, arXiv 2211.00611)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model_config import ModelConfig
from trainer.models.blocks import (
    ChannelNorm,
    Level,
    TimeEmbedding,
    in_full_precision,
    layout_of,
    level_widths,
)
from trainer.models.conv import Conv
from trainer.models.network import ImageItself, Network
from trainer.models.norm_silu import Norm


class FFParser(nn.Module):
    """Learnable filter of a feature map in the frequency domain.

    M = F[m], M' = A * M, m' = F^-1[M'] with a complex A per channel and frequency, tied to the size
    of the map. Features are real, so that half of the frequencies says it all; A begins as 1, the
    identity. Stored as real and imaginary part, because optimizers and averages of complex
    parameters are treacherous.
    """

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.real = nn.Parameter(torch.ones(channels, size, size // 2 + 1))
        self.imag = nn.Parameter(torch.zeros(channels, size, size // 2 + 1))

    def forward(self, m: Tensor) -> Tensor:
        """Filter (b, c, size, size) in at least float32; the result has m's precision and layout.

        As every layer's under autocast; what is around it would go on in float32 otherwise.
        """
        precision = torch.promote_types(m.dtype, torch.float32)
        whole = m.to(precision, memory_format=torch.contiguous_format)
        spectrum = torch.fft.rfft2(whole) * torch.complex(self.real, self.imag)
        filtered: Tensor = torch.fft.irfft2(spectrum, s=m.shape[-2:])
        return filtered.to(m.dtype, memory_format=layout_of(m))


class AttentiveFusion(nn.Module):
    """A(m_I, m_x) = (LN(m_I) * LN(m_x)) * m_I, all products elementwise.

    Both norms begin near the constant 1 (gain 0.1, bias 1), so that A begins near m_I. With gain 1
    and bias 0 the image feature begins multiplied with features of noise, which costs a few points
    of Dice in short trainings.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm_image = ChannelNorm(channels)
        self.norm_mask = ChannelNorm(channels)
        for norm in (self.norm_image.norm, self.norm_mask.norm):
            nn.init.constant_(norm.weight, 0.1)
            nn.init.ones_(norm.bias)

    def forward(self, m_image: Tensor, m_mask: Tensor) -> Tensor:
        """Fuse an image feature and a mask feature, both (b, c, H, W)."""
        out: Tensor = self.norm_image(m_image) * self.norm_mask(m_mask) * m_image
        return out


class MedSegDiffV1(Network):
    """D((E^I(I, t) + E^x(x_t, t)), t): two encoders, of the image and the noisy mask, one decoder.

    At the middle two levels the mask feature passes an FF-Parser and is fused with the image
    feature; the result goes on as the image feature ("dynamic conditional encoding").

    The paper leaves open, and here is chosen:
    - The encoders' features are added at every level, not only the coarsest, and the decoder's
      skips carry the sums. Skips from E^x alone leave image detail no way to the decoder but
      through the bottleneck: on lesions of 1 to 9 pixels they reach a Dice of 0.63 after 2,400
      images instead of 0.99.
    - Of an odd number of levels, the coarser pair counts as the middle.
    - Residual blocks as in Ho et al. 2020, strided convolutions down, and 1x1 convolution with
      nearest neighbours up; skips are added through a 1x1 convolution.
    """

    segments_directly = False

    def __init__(
        self,
        config: ModelConfig,
        *,
        in_channels: int,
        image_size: int,
        mask_channels: int,
        out_channels: int,
    ):
        super().__init__()
        widths = level_widths(config.width, config.depth)
        time_channels = 4 * config.width
        first_attention = config.depth - config.attention_levels

        def levels() -> nn.ModuleList:
            return nn.ModuleList(
                Level(width, time_channels, config, attention=level >= first_attention)
                for level, width in enumerate(widths)
            )

        def downs() -> nn.ModuleList:
            return nn.ModuleList(
                Conv(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
            )

        self.condition = ImageItself()
        self.time = TimeEmbedding(time_channels)
        self.image_stem = Conv(in_channels, config.width, 3, padding=1)
        self.image_levels, self.image_downs = levels(), downs()
        self.mask_stem = Conv(mask_channels, config.width, 3, padding=1)
        self.mask_levels, self.mask_downs = levels(), downs()

        middle = (config.depth - 1) // 2
        self.fused = (middle, middle + 1)
        self.parsers = nn.ModuleList(
            FFParser(widths[i], image_size >> i) if config.v1.ff_parser else nn.Identity()
            for i in self.fused
        )
        self.fusions = nn.ModuleList(
            AttentiveFusion(widths[i]) for i in self.fused if config.v1.fusion
        )

        self.decoder_levels = levels()
        self.ups = nn.ModuleList(Conv(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.skips = nn.ModuleList(Conv(width, width, 1) for width in widths[:-1])
        self.head_norm = Norm(config.width)
        self.head = Conv(config.width, out_channels, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        (cond,) = condition
        time = self.time(t)
        m_image = self.image_stem(cond)
        m_mask = self.mask_stem(x_t)
        encoded = []
        for level, (image_level, mask_level) in enumerate(
            zip(self.image_levels, self.mask_levels, strict=True)
        ):
            if level > 0:
                m_image = self.image_downs[level - 1](m_image)
                m_mask = self.mask_downs[level - 1](m_mask)
            m_image, m_mask = image_level(m_image, time), mask_level(m_mask, time)
            added = m_mask
            if level in self.fused:
                i = self.fused.index(level)
                filtered = self.parsers[i](m_mask)
                if self.fusions:
                    m_image = self.fusions[i](m_image, filtered)
                else:
                    added = filtered
            encoded.append(m_image + added)
        x = self.decoder_levels[-1](encoded[-1], time)
        for level in reversed(range(len(self.ups))):
            x = F.interpolate(self.ups[level](x), scale_factor=2.0, mode="nearest")
            x = self.decoder_levels[level](self.skips[level](encoded[level], x), time)
        return in_full_precision(self.head, self.head_norm(x))
