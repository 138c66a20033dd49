"""The control: MONAI's U-Net, which segments the image without diffusion."""

from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.configfile import ConfigError
from trainer.models.blocks import in_full_precision, level_widths
from trainer.models.network import ImageItself, Network


class PlainUNet(Network):
    """MONAI's residual U-Net (Kerfoot et al. 2018) on the image alone; returns mask logits."""

    segments_directly = True

    def __init__(
        self, config: ModelConfig, *, in_channels: int, image_size: int, out_channels: int
    ):
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
        self.condition = ImageItself()
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
        self.head = nn.Conv2d(config.width, out_channels, 1)

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        return in_full_precision(self.head, self.body(condition[0]))
