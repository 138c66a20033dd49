"""Diffusion on MONAI's DiffusionModelUNet, the image beside the noisy mask as input channels."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trainer.configfile import ConfigError
from trainer.model_config import ModelConfig
from trainer.models.blocks import in_full_precision, level_widths
from trainer.models.conv import Conv
from trainer.models.guided_unet import LayoutInput, attention_levels, head_channels, norm_groups
from trainer.models.network import ImageItself, Network
from trainer.models.norm_silu import MAX_GROUPS, Norm, largest_divisor


class DiffusionUNet(Network):
    """The U-Net of Ho et al. 2020 in MONAI's words (Pinaya et al. 2023), with our head.

    Dropout, which it lacks, is where Ho et al. have it: before each residual block's second
    convolution. Between encoder and decoder it has attention whatever `attention_levels` says.
    """

    segments_directly = False

    def __init__(
        self, config: ModelConfig, *, in_channels: int, mask_channels: int, out_channels: int
    ):
        super().__init__()
        widths = level_widths(config.width, config.depth)
        first_attention = config.depth - config.attention_levels
        self.condition = ImageItself()
        self.body = _body(
            config,
            in_channels=mask_channels + in_channels,
            out_channels=out_channels,
            num_res_blocks=config.num_res_blocks,
            channels=widths,
            attention_levels=[level >= first_attention for level in range(config.depth)],
            # For all levels, as their widths are multiples of the first. MONAI adds the timestep
            # before a norm, which would take all of it away if each channel were its own group.
            norm_num_groups=largest_divisor(config.width, min(MAX_GROUPS, config.width // 4)),
            num_head_channels=head_channels(widths),
        )
        self.head_norm = Norm(config.width)
        self.head = Conv(config.width, out_channels, 3, padding=1)

    def levels(self) -> Iterable[nn.Module]:
        yield from (*self.body.down_blocks, self.body.middle_block, *self.body.up_blocks)

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        (cond,) = condition
        x = self.body(torch.cat([x_t, cond], dim=1), t)
        return in_full_precision(self.head, self.head_norm(x))


class MonaiUNet(DiffusionUNet):
    """MONAI's DiffusionModelUNet as it is, for weights from there (trainer/saved/layouts.py)."""

    def __init__(
        self, config: ModelConfig, *, in_channels: int, mask_channels: int, out_channels: int
    ):
        """
        Raises:
            ConfigError: The layout is none of MONAI's.
        """
        Network.__init__(self)
        layout = config.layout
        widths = list(layout.channels or level_widths(config.width, config.depth))
        if layout.resample == "pool":
            raise ConfigError(["model.layout.resample: pool: a monai_unet has conv or resblock"])
        heads = list(layout.head_channels or head_channels(widths))
        heads = heads * config.depth if len(heads) == 1 else heads
        attention = attention_levels(config)
        between_halves = (False,) * (len(widths) - 1) + (True,)
        for width, head, *attends in zip(widths, heads, attention, between_halves, strict=True):
            if any(attends) and width % head:
                raise ConfigError(
                    [f"model.layout.head_channels: {head}: must divide the channels of its level, "
                     f"which has {width}"]
                )  # fmt: skip
        groups = norm_groups(config, widths)
        self.input = LayoutInput(layout)
        self.condition = ImageItself()
        self.body = _body(
            config,
            in_channels=mask_channels + in_channels,
            out_channels=out_channels,
            num_res_blocks=layout.res_blocks or config.num_res_blocks,
            channels=widths,
            attention_levels=attention,
            norm_num_groups=groups,
            norm_eps=layout.norm_eps,
            num_head_channels=heads,
            resblock_updown=layout.resample == "resblock",
        )
        self.head_norm = Norm(widths[0], groups=groups, eps=layout.norm_eps)
        self.head = Conv(widths[0], out_channels, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        x = self.body(self.input(x_t, condition), self.input.timesteps(t))
        return in_full_precision(self.head, self.head_norm(x))


def _body(config: ModelConfig, **sizes: Any) -> Any:
    """Return MONAI's network without its head, with dropout and our convolutions and norms."""
    # Takes seconds, and only MONAI's networks need it.
    from monai.networks.nets.diffusion_model_unet import (
        DiffusionModelUNet,
        DiffusionUNetResnetBlock,
    )

    body = DiffusionModelUNet(spatial_dims=2, use_flash_attention=True, **sizes)
    for block in body.modules():
        if isinstance(block, DiffusionUNetResnetBlock):
            block.conv2 = nn.Sequential(nn.Dropout(config.dropout), block.conv2)
    body.set_submodule("out", nn.Identity())
    for name, module in list(body.named_modules()):
        if type(module) is nn.Conv2d:
            assert module.groups == 1 and module.dilation == (1, 1)
            module.__class__ = Conv
        if isinstance(module, nn.GroupNorm):
            channels, groups, eps = module.num_channels, module.num_groups, module.eps
            norm = Norm(channels, silu=False, groups=groups, eps=eps)
            body.set_submodule(name, norm)
    return body
