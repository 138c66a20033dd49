"""Networks that map a noisy mask and an image to a diffusion target, or to a mask."""

import torch
from torch import nn

from trainer.configfile import ConfigError
from trainer.model_config import ModelConfig
from trainer.models.activation_checkpointing import recompute
from trainer.models.diffusion_unet import DiffusionUNet, MonaiUNet
from trainer.models.dropout import count_dropout
from trainer.models.dynunet import PlainDynUNet
from trainer.models.guided_unet import GuidedUNet
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.models.medsegdiff_v2 import MedSegDiffV2
from trainer.models.network import Network
from trainer.models.swin_unetr import PlainSwinUNETR
from trainer.models.unet import PlainUNet

PRIOR_LOGIT = -4.0
"""Logit of a lesion share of 1.8 %, with which mask logits begin (Lin et al. 2017, sec. 4.1): from
0, most of a short training would go into learning that most pixels are background."""


def build_model(
    config: ModelConfig,
    *,
    in_channels: int,
    image_size: int,
    mask_channels: int = 1,
    out_channels: int = 1,
    outputs_logits: bool,
    gradient_checkpointing: bool = False,
) -> Network:
    """Build a network with fresh weights from torch's global generator, which the caller seeds.

    Args:
        config: Family and size.
        in_channels: Channels of the image.
        image_size: H and W in pixels; the weights of medsegdiff_v1 depend on it.
        mask_channels: Channels of x_t: 2 with self-conditioning.
        out_channels: Channels of the output: 2 with a learned variance, the second.
        outputs_logits: The output is the logits of a mask (diffusion target x_start, or direct
            segmentation): it begins at the lesions' share.
        gradient_checkpointing: Compute each level's activations again in the backward pass.

    Raises:
        ConfigError: The size of the network does not suit the image's.
    """
    if config.family != "swin_unetr":
        _needs_multiple(config, image_size)
    sizes = {"in_channels": in_channels, "out_channels": out_channels}
    model: Network
    match config.family:
        case "medsegdiff_v1":
            model = MedSegDiffV1(
                config, image_size=image_size, mask_channels=mask_channels, **sizes
            )
        case "medsegdiff_v2":
            model = v2 = MedSegDiffV2(config, mask_channels=mask_channels, **sizes)
            _begin_at_prior(v2.condition.mask_head)
        case "diffusion_unet":
            model = DiffusionUNet(config, mask_channels=mask_channels, **sizes)
        case "guided_unet":
            model = GuidedUNet(config, mask_channels=mask_channels, **sizes)
        case "monai_unet":
            model = MonaiUNet(config, mask_channels=mask_channels, **sizes)
        case "unet":
            model = PlainUNet(config, image_size=image_size, **sizes)
        case "dynunet":
            model = PlainDynUNet(config, image_size=image_size, **sizes)
        case "swin_unetr":
            model = PlainSwinUNETR(config, image_size=image_size, **sizes)
    if outputs_logits or model.segments_directly:
        _begin_at_prior(model.head)
    count_dropout(model)
    if gradient_checkpointing:
        recompute(list(model.levels()))
    return model


def _needs_multiple(config: ModelConfig, image_size: int) -> None:
    stride = 2 ** (config.depth - 1)
    if image_size % stride:
        raise ConfigError(
            [
                f"image_size is {image_size}, but model.depth {config.depth} needs a multiple of "
                f"{stride} (2**(depth - 1))"
            ]
        )


def _begin_at_prior(head: nn.Conv2d) -> None:
    """Let a head's first channel, logits of a mask, begin at the lesions' share."""
    assert head.bias is not None
    with torch.no_grad():
        head.bias[0] = PRIOR_LOGIT
