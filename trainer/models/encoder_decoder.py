"""The two halves of a U-Net whose features others read and change on the way."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model_config import ModelConfig
from trainer.models.blocks import Level, level_widths
from trainer.models.conv import Conv


def levels(config: ModelConfig, time_channels: int | None) -> nn.ModuleList:
    """Return the residual blocks of each resolution, finest first."""
    first_attention = config.depth - config.attention_levels
    return nn.ModuleList(
        Level(width, time_channels, config, attention=level >= first_attention)
        for level, width in enumerate(level_widths(config.width, config.depth))
    )


class Encoder(nn.Module):
    """A convolution, and then per level a strided convolution down and its residual blocks."""

    def __init__(self, in_channels: int, config: ModelConfig, time_channels: int | None = None):
        super().__init__()
        widths = level_widths(config.width, config.depth)
        self.enter = nn.ModuleList([Conv(in_channels, config.width, 3, padding=1)])
        self.enter.extend(
            Conv(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.levels = levels(config, time_channels)

    def forward(self, level: int, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Map the features of the next finer level, or the input, to those of `level`."""
        out: Tensor = self.levels[level](self.enter[level](x), time)
        return out


class Decoder(nn.Module):
    """Per level its residual blocks; in between 1x1 convolution, nearest neighbours, and skips.

    Skips are added through a 1x1 convolution.
    """

    def __init__(self, config: ModelConfig, time_channels: int | None = None):
        super().__init__()
        widths = level_widths(config.width, config.depth)
        self.levels = levels(config, time_channels)
        self.ups = nn.ModuleList(Conv(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.skips = nn.ModuleList(Conv(width, width, 1) for width in widths[:-1])

    def forward(self, encoded: Sequence[Tensor], time: Tensor | None = None) -> list[Tensor]:
        """Map the encoder's features of each level to decoded ones, both finest first."""
        x = self.levels[-1](encoded[-1], time)
        decoded = [x]
        for level in reversed(range(len(self.ups))):
            x = F.interpolate(self.ups[level](x), scale_factor=2.0, mode="nearest")
            x = self.levels[level](self.skips[level](encoded[level], x), time)
            decoded.insert(0, x)
        return decoded
