"""What every network is to its callers."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A network that maps a noisy mask, a timestep and an image to a mask or a diffusion target.

    Called as `model(x_t, t, model.condition(cond))`. The condition depends on the image alone: it
    is computed once a case, repeated for ensemble members, and reused at every sampling step.

    Attributes:
        segments_directly: The output is mask logits and ignores x_t and t.
        has_anchor: `condition[0]` are mask logits, (b, 1, H, W), with a loss of their own.
        condition: Maps the image (b, in_channels, H, W) to a tuple of tensors, batch first.
        head: The last convolution.
    """

    segments_directly: ClassVar[bool]
    has_anchor: ClassVar[bool] = False
    condition: nn.Module
    head: nn.Conv2d

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
