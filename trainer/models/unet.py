"""The control: MONAI's U-Net, which segments the image without diffusion."""

from collections.abc import Iterable

from torch import nn

from trainer.model_config import ModelConfig
from trainer.models.blocks import level_widths
from trainer.models.network import DirectNetwork, needs_two_pixels


class PlainUNet(DirectNetwork):
    """MONAI's residual U-Net (Kerfoot et al. 2018) on the image alone; returns mask logits."""

    def __init__(
        self, config: ModelConfig, *, in_channels: int, image_size: int, out_channels: int
    ):
        """
        Raises:
            ConfigError: The coarsest level is a single pixel, which instance norm cannot normalise.
        """
        needs_two_pixels(config, image_size)
        # Takes seconds, and only MONAI's networks need it.
        from monai.networks.nets.unet import UNet

        # MONAI's own last level decodes to one channel and normalises that, which takes away the
        # very amplitude that tells an empty slice from one with lesion.
        body = UNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=config.width,
            channels=level_widths(config.width, config.depth),
            strides=[2] * (config.depth - 1),
            num_res_units=config.num_res_blocks,
            norm="instance",
            dropout=config.dropout,
        )
        super().__init__(body, channels=config.width, out_channels=out_channels)

    def levels(self) -> Iterable[nn.Module]:
        from monai.networks.blocks.convolutions import ResidualUnit

        return (module for module in self.body.modules() if isinstance(module, ResidualUnit))
