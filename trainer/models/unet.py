"""The control: MONAI's U-Net, which segments the image without diffusion."""

from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.configfile import ConfigError
from trainer.models.blocks import level_widths


class PlainUNet(nn.Module):
    """MONAI's residual U-Net (Kerfoot et al. 2018) on the image alone; returns mask logits."""

    segments_directly = True

    def __init__(self, config: ModelConfig, *, in_channels: int, image_size: int):
        """
        Raises:
            ConfigError: The coarsest level is a single pixel, which instance norm cannot normalise.
        """
        super().__init__()
        if image_size < 2**config.depth:
            raise ConfigError(
                [
                    f"image_size is {image_size}, but model.depth {config.depth} of a unet needs "
                    f"at least {2**config.depth} (2**depth)"
                ]
            )
        # Takes seconds, and only the control needs it.
        from monai.networks.nets.unet import UNet

        # MONAI's own last level decodes to one channel and normalises that, which takes away the
        # very amplitude that tells an empty slice from one with lesion.
        self.body = UNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=config.width,
            channels=level_widths(config.width, config.depth),
            strides=[2] * (config.depth - 1),
            num_res_units=config.num_res_blocks,
            norm="instance",
            dropout=config.dropout,
        )
        self.head = nn.Conv2d(config.width, 1, 1)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Segment the image.

        Args:
            x_t: Ignored.
            t: Ignored.
            cond: Image, (b, in_channels, H, W).

        Returns:
            Mask logits, (b, 1, H, W).
        """
        return self.head(self.body(cond))
