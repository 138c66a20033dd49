"""What every network is to its callers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from trainer.configfile import ConfigError
from trainer.model_config import ModelConfig
from trainer.models.blocks import Level, in_full_precision


class Network(nn.Module, ABC):
    """A network that maps a noisy mask, a timestep and an image to a mask or a diffusion target.

    Called as `model(x_t, t, model.condition(cond))`. The condition depends on the image alone: it
    is computed once a case, repeated for ensemble members, and reused at every sampling step.

    Attributes:
        segments_directly: The output is mask logits and ignores x_t and t.
        has_anchor: `condition[0]` are mask logits, (b, 1, H, W), with a loss of their own.
        channels_last: The setting `channels_last` applies.
        condition: Maps the image (b, in_channels, H, W) to a tuple of tensors, batch first.
        head: The last convolution.
    """

    segments_directly: ClassVar[bool]
    has_anchor: ClassVar[bool] = False
    channels_last: ClassVar[bool] = True
    condition: nn.Module
    head: nn.Conv2d

    def levels(self) -> Iterable[nn.Module]:
        """The parts whose activations gradient checkpointing does not keep."""
        return (module for module in self.modules() if isinstance(module, Level))

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        """Predict the diffusion target, or the mask.

        Args:
            x_t: What the network sees of the mask, (b, mask_channels, H, W).
            t: Timesteps, int64, (b,).
            condition: What `self.condition` made of the images, each (b, ...).

        Returns:
            (b, out_channels, H, W), at least float32.
        """


class ImageItself(nn.Module):
    """The condition of networks that look at the image anew at every timestep."""

    def forward(self, cond: Tensor) -> tuple[Tensor]:
        """Return (cond,)."""
        return (cond,)


class DirectNetwork(Network):
    """A network that segments the image, without diffusion; trained by the same loop.

    `body` is any network of MONAI's whose last convolution was taken off: `head` takes its place,
    in full precision also under autocast.
    """

    segments_directly = True
    # Instance norm likes torch's own layout: on a CPU, a DynUNet and a SwinUNETR are 8 % faster in
    # it, a U-Net 3 % slower.
    channels_last = False

    def __init__(self, body: nn.Module, *, channels: int, out_channels: int):
        """
        Args:
            body: Maps images (b, in_channels, H, W) to features (b, channels, H, W).
            channels: Channels of the features.
            out_channels: Channels of the output; the first is the mask's logits.
        """
        super().__init__()
        self.condition = ImageItself()
        self.body = body
        self.head = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x_t: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        """Return the mask's logits, (b, out_channels, H, W); x_t and t do not matter."""
        return in_full_precision(self.head, self.body(condition[0]))


def needs_two_pixels(config: ModelConfig, image_size: int) -> None:
    """Refuse levels of a single pixel, which instance norm cannot normalise.

    Raises:
        ConfigError: The image is too small for the depth.
    """
    if image_size < 2**config.depth:
        raise ConfigError(
            [
                f"image_size is {image_size}, but model.depth {config.depth} of a {config.family} "
                f"needs at least {2**config.depth} (2**depth)"
            ]
        )
