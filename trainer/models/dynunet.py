"""MONAI's DynUNet, the U-Net of nnU-Net, which segments the image without diffusion."""

from collections.abc import Iterable

from torch import nn

from trainer.configfile import ConfigError
from trainer.model_config import ModelConfig
from trainer.models.blocks import level_widths
from trainer.models.network import DirectNetwork, needs_two_pixels


class PlainDynUNet(DirectNetwork):
    """DynUNet (Isensee et al. 2021) with instance norm and two convolutions a level."""

    def __init__(
        self, config: ModelConfig, *, in_channels: int, image_size: int, out_channels: int
    ):
        """
        Raises:
            ConfigError: Fewer than three levels, or the coarsest is a single pixel.
        """
        if config.depth < 3:
            raise ConfigError([f"model.depth: {config.depth}: a dynunet needs at least 3"])
        needs_two_pixels(config, image_size)
        # Takes seconds, and only MONAI's networks need it.
        from monai.networks.nets.dynunet import DynUNet

        body = DynUNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=[3] * config.depth,
            strides=[1] + [2] * (config.depth - 1),
            upsample_kernel_size=[2] * (config.depth - 1),
            filters=level_widths(config.width, config.depth),
            dropout=config.dropout,
        )
        # It would drop logits.
        body.output_block = nn.Identity()
        super().__init__(body, channels=config.width, out_channels=out_channels)

    def levels(self) -> Iterable[nn.Module]:
        from monai.networks.blocks.dynunet_block import UnetBasicBlock

        return (module for module in self.body.modules() if isinstance(module, UnetBasicBlock))
