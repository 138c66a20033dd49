"""Dropout without a random state: what is dropped follows from counters.

torch's own dropout draws from a generator in the order of the forward passes, so that what it drops
changes with the micro-batch, the number of workers and a second pass through a layer (gradient
checkpointing). Here a feature's fate is a hash of the seed, the training image's number, the layer
and the position in the image's feature map, computed on the device.
"""

from functools import cache

import torch
from torch import Tensor, nn

from trainer.models.blocks import layout_of
from trainer.randomness import torch_seed


class CountedDropout(nn.Module):
    """`nn.Dropout` whose mask depends on counters alone; the identity in evaluation mode."""

    def __init__(self, p: float, layer: int):
        """
        Args:
            p: Share of the features that are zeroed, in (0, 1).
            layer: Number of this layer in its model.
        """
        super().__init__()
        self.p = p
        self.layer = layer
        self.keys: Tensor | None = None
        """What the hash knows of the batch's images, int32 (b,); see `set_images`."""

    def forward(self, x: Tensor) -> Tensor:
        """Zero features of (b, ...), or of (b * k, ...) where each image has k rows in a row."""
        if not self.training:
            return x
        assert self.keys is not None, "set_images comes before a forward pass in training"
        positions = mix(torch.arange(x.numel() // len(self.keys), device=x.device).int())
        keys = self.keys[:, None]
        if x.shape[0] == len(self.keys) and x.dim() == 4:
            # As x lies in memory, so that what is kept is read beside it.
            positions = positions.view(1, *x.shape[1:]).contiguous(memory_format=layout_of(x))
            keys = keys[..., None, None]
        # The hash is uniform over the integers of 32 bits, of which the lowest are kept.
        highest = min(int((1 - self.p) * 2**32) - 2**31, 2**31 - 1)
        kept = mix(positions ^ keys) < highest
        return x * kept.view(x.shape) * (1 / (1 - self.p))


def mix(x: Tensor) -> Tensor:
    """Hash 32 bits to 32 bits, one to one, so that each input bit changes half of the output's.

    Two rounds of xor-shift and multiplication, with the shifts and factors (15, 0x2c1b3c6d, 12,
    0x297a2d39, 15) of Wellons' hash-prospector (2018). Products wrap around.

    Args:
        x: int32 of any shape.
    """
    # int32 is three times as fast as torch's own dropout, int64 three times as slow. Its right
    # shift repeats the sign, which the masks take away.
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * 0x2C1B3C6D
    x = x ^ ((x >> 12) & 0xFFFFF)
    x = x * 0x297A2D39
    return x ^ ((x >> 15) & 0x1FFFF)


def count_dropout(model: nn.Module) -> None:
    """Replace every dropout layer of a model, MONAI's too, by a counted one, in place.

    Layers are numbered in the order of `model.modules()`; those that drop nothing are left out.
    """
    layer = 0
    for parent in list(model.modules()):
        # Not named_children: MONAI has one layer in two places, each to be counted on its own.
        for name, child in list(parent._modules.items()):
            if not isinstance(child, nn.modules.dropout._DropoutNd):
                continue
            assert type(child) is nn.Dropout, f"{type(child).__name__} drops more than features"
            setattr(parent, name, CountedDropout(child.p, layer) if child.p else nn.Identity())
            layer += 1


def set_images(model: nn.Module, seed: int, numbers: Tensor) -> None:
    """Tell a model's dropout which training images its next batch holds.

    Args:
        model: A model after `count_dropout`.
        seed: The run's seed.
        numbers: Training image numbers, int64, (b,), on the model's device.
    """
    layers = [module for module in model.modules() if isinstance(module, CountedDropout)]
    if not layers:
        return
    words = _words(seed, tuple(layer.layer for layer in layers), numbers.device)
    keys = mix(words[:, None] ^ numbers.int())
    for layer, of_layer in zip(layers, keys, strict=True):
        layer.keys = of_layer


@cache
def _words(seed: int, layers: tuple[int, ...], device: torch.device) -> Tensor:
    """31 random bits of (seed, layer) for each layer, int32 (layers,): brought to a device once."""
    words = [torch_seed(seed, "dropout", layer) >> 32 for layer in layers]
    return torch.tensor(words, dtype=torch.int32, device=device)
