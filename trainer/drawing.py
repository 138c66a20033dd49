"""Drawing in palette colours: what pictures of slices are made of.

Colours are told apart without red and green (Okabe & Ito 2008; viridis, cividis). The palette is
the same for all pictures, so that their files are small, and equal where what they show is.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from scipy import ndimage

LEVELS = 32
"""Of grey and of each colour map: the palette is grey, viridis, cividis, and the accents."""
GREY, VIRIDIS, CIVIDIS = 0, LEVELS, 2 * LEVELS
TRUTH, PREDICTION = 3 * LEVELS, 3 * LEVELS + 1
ACCENTS = ((230, 159, 0), (86, 180, 233))
"""Okabe & Ito's orange and sky blue."""
BACKGROUND, MUTED, BRIGHT = 2, 22, LEVELS - 1
"""Grey levels."""
GAP_PX = 6
WIDTH_PX = 1110


@cache
def palette() -> bytes:
    """Return the colours of all pictures, 256 x RGB."""
    from matplotlib import colormaps

    ramp = np.linspace(0, 1, LEVELS)
    grey = np.repeat(np.round(ramp * 255)[:, None], 3, axis=1)
    maps = [np.round(colormaps[name](ramp)[:, :3] * 255) for name in ("viridis", "cividis")]
    colours = np.concatenate([grey, *maps, ACCENTS])
    return np.pad(colours, ((0, 256 - len(colours)), (0, 0))).astype(np.uint8).tobytes()


class Canvas:
    """A picture in the making: palette indices, uint8 (height, width)."""

    def __init__(self, width: int, height: int):
        self.pixels = np.full((height, width), BACKGROUND, np.uint8)

    def paste(self, tile: NDArray[np.uint8], x: int, y: int) -> None:
        """Put a tile of palette indices with its upper left corner at (x, y)."""
        self.pixels[y : y + tile.shape[0], x : x + tile.shape[1]] = tile

    def text(self, x: int, y: int, text: str, size: int = 14, level: int = BRIGHT) -> int:
        """Write text in a grey level, cut off where the picture ends; return where it ends."""
        font = ImageFont.load_default(size)
        height, width = self.pixels.shape
        layer = Picture.new("L", (width, height))
        ImageDraw.Draw(layer).text((x, y), text, 255, font)
        ink = np.asarray(layer, np.uint16) * level // 255
        below = self.pixels
        # Brighter than what it lies on, or on a colour where it is ink at all.
        seen = np.where(below < LEVELS, ink > below, ink > level // 2)
        below[seen] = ink[seen]
        return x + round(font.getlength(text))

    def key(self, x: int, y: int, colour: int, text: str) -> int:
        """Write what a colour means beside a square of it; return where that ends."""
        self.pixels[y + 3 : y + 13, x : x + 10] = colour
        return self.text(x + 15, y, text, 13, MUTED) + 14

    def bar(
        self, x: int, y: int, width: int, colours: int, ticks: Sequence[tuple[float, str]]
    ) -> None:
        """Draw a colour map's scale with (place in [0, 1], text) below it."""
        self.paste(np.tile(scaled(np.linspace(0, 1, width)[None], colours), (9, 1)), x, y + 2)
        for place, text in ticks:
            at = x + round(place * (width - 1))
            self.pixels[y + 11 : y + 15, at] = MUTED
            shift = round(ImageFont.load_default(12).getlength(text) * place)
            self.text(at - shift, y + 15, text, 12, MUTED)

    def picture(self) -> Picture.Image:
        """Return it as a palette picture."""
        picture = Picture.fromarray(self.pixels, "P")
        picture.putpalette(palette())
        return picture


def scaled(values: NDArray[np.floating], colours: int) -> NDArray[np.uint8]:
    """Return values in [0, 1] as indices into one of the palette's maps; same shape."""
    level = np.clip(np.round(np.asarray(values, np.float64) * (LEVELS - 1)), 0, LEVELS - 1)
    return (level + colours).astype(np.uint8)


def enlarged(values: NDArray[np.floating], tile: int) -> NDArray[np.float32]:
    """Bring an (H, W) image to (tile, tile), linearly."""
    picture = Picture.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize((tile, tile), Picture.Resampling.BILINEAR))


def in_squares(values: NDArray[Any], tile: int) -> NDArray[np.float32]:
    """Bring an (H, W) image to (tile, tile): every pixel is a square, or left out."""
    picture = Picture.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize((tile, tile), Picture.Resampling.NEAREST))


def outline(mask: NDArray[Any], tile: int, width: int = 2) -> NDArray[np.bool_]:
    """Return the border just inside an enlarged mask: bool (tile, tile), `width` pixels wide."""
    large = in_squares(mask, tile) > 0
    return large & ~ndimage.binary_erosion(large, iterations=width)
