"""MONAI's SwinUNETR, a transformer that segments the image without diffusion."""

from collections.abc import Iterable

from torch import nn

from trainer.configfile import ConfigError
from trainer.model_config import ModelConfig
from trainer.models.network import DirectNetwork

STRIDE = 32
"""Five halvings, whatever the depth."""

HEADS = (3, 6, 12, 24)
"""Attention heads of the four stages, as published; the width is a multiple of four times 3."""


class PlainSwinUNETR(DirectNetwork):
    """SwinUNETR (Hatamizadeh et al. 2022) in two dimensions, with instance norm.

    It has six levels, whatever `depth`; `width` is rounded up to a multiple of 12; each stage has
    `num_res_blocks` pairs of a window and a shifted-window block.
    """

    def __init__(
        self, config: ModelConfig, *, in_channels: int, image_size: int, out_channels: int
    ):
        """
        Raises:
            ConfigError: The image size does not suit five halvings.
        """
        if image_size % STRIDE or image_size == STRIDE:
            raise ConfigError(
                [
                    f"image_size is {image_size}, but a swin_unetr needs a multiple of {STRIDE}, "
                    f"at least {2 * STRIDE}"
                ]
            )
        # Takes seconds, and only MONAI's networks need it.
        from monai.networks.nets.swin_unetr import SwinUNETR

        width = -(-config.width // 12) * 12
        body = SwinUNETR(
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=width,
            depths=[2 * config.num_res_blocks] * len(HEADS),
            num_heads=HEADS,
            drop_rate=config.dropout,
            spatial_dims=2,
        )
        body.set_submodule("out", nn.Identity())
        super().__init__(body, channels=width, out_channels=out_channels)

    def levels(self) -> Iterable[nn.Module]:
        from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
        from monai.networks.nets.swin_unetr import BasicLayer

        kinds = (BasicLayer, UnetrBasicBlock, UnetrUpBlock)
        return (module for module in self.body.modules() if isinstance(module, kinds))
