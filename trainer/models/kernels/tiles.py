"""How kernels divide a channels-last map among their programs."""

from typing import NamedTuple

import triton
from torch import Tensor

MAX_STRETCHES = 128
"""Of rows an image is divided into, for the sums."""

TILE = 4096
"""Elements of a map that a program holds at once: 32 for each of its 128 threads."""

MAX_BLOCK_C = 64
"""With 128, deep maps take a third longer on an H200."""


class Shape(NamedTuple):
    """How a map is divided among programs."""

    images: int
    rows: int
    channels: int
    block_c: int
    """Channels of a tile, a power of 2."""
    block_r: int
    """Rows of a tile, a power of 2."""
    stretch: int
    """Rows of a stretch, a multiple of block_r."""
    stretches: int

    @property
    def channel_blocks(self) -> int:
        return -(-self.channels // self.block_c)


def divided(x: Tensor) -> Shape:
    """Divide a map (n, C, H, W)."""
    images, channels, height, width = x.shape
    rows = height * width
    block_c = min(MAX_BLOCK_C, triton.next_power_of_2(channels))
    block_r = max(1, min(TILE // block_c, triton.next_power_of_2(rows)))
    tiles = triton.cdiv(rows, block_r)
    stretch = triton.cdiv(tiles, min(tiles, MAX_STRETCHES)) * block_r
    return Shape(images, rows, channels, block_c, block_r, stretch, triton.cdiv(rows, stretch))
