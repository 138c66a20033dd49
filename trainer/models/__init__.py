"""Networks that map a noisy mask and an image to a diffusion target, or to a mask."""

from torch import nn

from trainer.config import ModelConfig
from trainer.configfile import ConfigError
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.models.unet import PlainUNet

PRIOR_LOGIT = -4.0
"""Logit of a lesion share of 1.8 %, with which mask logits begin (Lin et al. 2017, sec. 4.1): from
0, most of a short training would go into learning that most pixels are background."""


def build_model(
    config: ModelConfig, *, in_channels: int, image_size: int, outputs_logits: bool
) -> MedSegDiffV1 | PlainUNet:
    """Build a network with fresh weights from torch's global generator, which the caller seeds.

    Every network is called as `model(x_t, t, cond)` with the noisy mask (b, 1, H, W), timesteps
    (b,) int64 and the image (b, in_channels, H, W), and returns (b, 1, H, W) float32. Its
    `segments_directly` says whether that is a diffusion target or mask logits.

    Args:
        config: Family and size.
        in_channels: Channels of the image.
        image_size: H and W in pixels; the weights of medsegdiff_v1 depend on it.
        outputs_logits: The output is the logits of a mask (diffusion target x_start, or direct
            segmentation): it begins at the lesions' share.

    Raises:
        ConfigError: The depth does not suit the image size.
    """
    stride = 2 ** (config.depth - 1)
    if image_size % stride:
        raise ConfigError(
            [
                f"image_size is {image_size}, but model.depth {config.depth} needs a multiple of "
                f"{stride} (2**(depth - 1))"
            ]
        )
    model: MedSegDiffV1 | PlainUNet
    match config.family:
        case "medsegdiff_v1":
            model = MedSegDiffV1(config, in_channels=in_channels, image_size=image_size)
        case "unet":
            model = PlainUNet(config, in_channels=in_channels, image_size=image_size)
    if outputs_logits or model.segments_directly:
        assert model.head.bias is not None
        nn.init.constant_(model.head.bias, PRIOR_LOGIT)
    return model
