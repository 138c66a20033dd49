"""Files that volumes come from, and what a picture's pixels are: grey, colours, never its alpha."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

LOSSLESS_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
PICTURE_SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
WHITE = (1, 255, 65535)
"""What white is in a picture of 1, 8 or 16 bits; one of floats takes the first that it needs."""
FEW_COLOURS = 16
"""A photograph's palette has more, and may have one twice."""
UNREADABLE_PICTURE = (OSError, ValueError, SyntaxError, Picture.DecompressionBombError)


class BadFile(ValueError):
    """A file that cannot be used; the message is one line that begins with its path."""

    def __init__(self, path: Path, rule: str):
        super().__init__(f"{path}: {rule}")


@dataclass(frozen=True)
class Source:
    """Where a volume comes from: a file, or one channel of a file."""

    path: Path
    channel: int | None = None


def is_picture(path: Path) -> bool:
    """Tell a picture from a NIfTI file by its name."""
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def check_there(path: Path) -> None:
    """Refuse a file that is missing or empty."""
    if not path.is_file():
        raise BadFile(path, "is missing")
    if path.stat().st_size == 0:
        raise BadFile(path, "is empty (0 bytes)")


@dataclass(frozen=True)
class Pixels:
    """A picture as it was saved."""

    values: NDArray[np.generic]
    """(H, W) or, of colours, uint8 (H, W, 3)."""
    white: int
    """The value of white."""

    @property
    def grey(self) -> NDArray[np.float32]:
        """(H, W), the lightest of the colours, 0 to `white`."""
        values = self.values.max(axis=2) if self.values.ndim == 3 else self.values
        return values.astype(np.float32)

    @property
    def colours(self) -> NDArray[np.uint32]:
        """(H, W), 0xRRGGBB; of a grey picture in 8 bits, all three alike."""
        values = self.values
        if values.ndim == 2:
            shade = np.rint(self.grey * np.float32(255 / self.white)).astype(np.uint8)
            values = np.repeat(shade[..., None], 3, axis=2)
        red, green, blue = np.moveaxis(values.astype(np.uint32), 2, 0)
        codes: NDArray[np.uint32] = (red << 16) | (green << 8) | blue
        return codes


def read_pixels(path: Path) -> Pixels:
    """Read a picture. What is transparent is as on black; an alpha channel by itself is nothing.

    Raises:
        BadFile: Unreadable, of several pages, drawn in its alpha channel alone, or with values
            that no picture has.
    """
    try:
        with Picture.open(path) as picture:
            pages = getattr(picture, "n_frames", 1)
            if pages > 1 and picture.format != "MPO":  # which has a preview as its second page
                raise BadFile(
                    path, f"has {pages} pages, but a picture is one slice: save a NIfTI volume, or "
                    "one file a page"
                )  # fmt: skip
            values, alpha = _decoded(picture)
    except BadFile:
        raise
    except UNREADABLE_PICTURE as error:
        raise BadFile(path, f"is not a readable picture ({error})") from error
    if alpha is not None and alpha.min() != alpha.max():
        if not np.any(values * (alpha[..., None] > 0)):
            raise BadFile(
                path, "is drawn in its alpha channel alone, which is no image and no mask: save "
                "it in grey, without transparency"
            )  # fmt: skip
        shown = values.astype(np.float32) * (alpha[..., None].astype(np.float32) / 255)
        values = np.rint(shown).astype(np.uint8)
    if values.ndim == 3 and (values.shape[2] == 1 or _is_grey(values)):
        values = values[..., 0]
    if values.dtype.kind in "bu":
        return Pixels(values, WHITE[values.dtype.itemsize] if values.dtype != bool else WHITE[0])
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= WHITE[-1]):
        raise BadFile(
            path, f"has values from {low:g} to {high:g}, but a picture has 0 to {WHITE[-1]}: save "
            "it as NIfTI"
        )  # fmt: skip
    if values.dtype.kind == "i":
        return Pixels(values, WHITE[-1])
    return Pixels(values, next(white for white in WHITE if high <= white))


def _decoded(picture: Picture.Image) -> tuple[NDArray[np.generic], NDArray[np.uint8] | None]:
    """Return grey (H, W), or uint8 (H, W, 1 or 3) and the alpha channel, if there is one."""
    mode = picture.mode
    if mode in ("1", "L", "I", "F") or mode.startswith("I;16"):
        values = np.asarray(picture)
        return values.astype(values.dtype.newbyteorder("=")), None
    if mode == "P" and _is_index(picture):
        return np.asarray(picture), None
    if mode in ("LA", "La"):
        values = np.asarray(picture.convert("LA"))
    elif mode in ("RGBA", "RGBa", "PA") or "transparency" in picture.info:
        values = np.asarray(picture.convert("RGBA"))
    else:  # P, CMYK, YCbCr, LAB, HSV
        return np.asarray(picture.convert("RGB")), None
    return values[..., :-1], values[..., -1]


def _is_index(picture: Picture.Image) -> bool:
    """Tell a palette picture whose indices are labels: its few colours are all one.

    Raises:
        ValueError: Some of its few colours are one, so that neither can be trusted.
    """
    used = np.unique(np.asarray(picture))
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    distinct = len(np.unique(palette[used], axis=0))
    if not 1 < len(used) <= FEW_COLOURS or distinct == len(used):
        return False
    if distinct > 1:
        raise ValueError(f"its palette has one colour for several of {len(used)} indices")
    return True


def _is_grey(values: NDArray[np.generic]) -> bool:
    return bool(
        (values[..., 0] == values[..., 1]).all() and (values[..., 1] == values[..., 2]).all()
    )
