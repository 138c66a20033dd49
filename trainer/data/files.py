"""Files that volumes come from, and what a picture's pixels are: grey, colours, never its alpha."""

import errno
import re
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from trainer.files.passing_faults import is_passing
from trainer.hints.suffixes import PICTURE_SUFFIXES
from trainer.terminal import in_one_line, shown

WHITE = (1, 255, 65535)
"""What white is in a picture of 1, 8 or 16 bits; one of floats takes the first that it needs."""
FEW_COLOURS = 16
"""A photograph's palette has more, and may have one twice."""
MAX_SIDE = 1 << 13
"""Of a square picture; another may have as many pixels. Twice the largest slice of a store."""
AT_MOST = f"but a slice has at most {MAX_SIDE} x {MAX_SIDE}: scale it down"
PICTURE_FORMATS = (
    "PNG", "BMP", "DIB", "TIFF", "JPEG", "GIF", "WEBP", "JPEG2000", "PPM",
)  # fmt: skip
"""What a file may be, whatever its suffix says; for others Pillow starts programs (EPS)."""
MAX_PAGES = 100
"""Counted of a TIFF file; it may have millions."""
UNREADABLE_PICTURE = (
    AttributeError, EOFError, IndexError, KeyError, MemoryError, NotImplementedError, OSError,
    OverflowError, SyntaxError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises of a damaged picture."""
TOO_LARGE = (Picture.DecompressionBombError, Picture.DecompressionBombWarning)
"""What Pillow raises of a header that asks for twice its own limit; the warning as an error."""
# Of damaged or large ones Pillow warns on stderr, without the file's name.
warnings.filterwarnings("ignore", module=r"PIL\.")
KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a pipe (FIFO)",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}
"""What is no file, by its type."""


class BadFile(ValueError):
    """A file that cannot be used; the message is one line that begins with its path."""

    def __init__(self, path: Path, rule: str):
        super().__init__(f"{shown(path)}: {in_one_line(rule)}")


@dataclass(frozen=True)
class Source:
    """Where a volume comes from: a file, or one channel of a file."""

    path: Path
    channel: int | None = None


def is_picture(path: Path) -> bool:
    """Tell a picture from a NIfTI file by its name."""
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def check_there(path: Path) -> None:
    """Refuse a file that is missing, empty or no file, before anything waits for its content.

    Raises:
        BadFile: It is.
        OSError: Its disk does not answer for now.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise why_not_read(path, error) from error
    if kind := KINDS.get(stat.S_IFMT(found.st_mode)):
        raise BadFile(path, f"{kind}, but must be a file")
    if found.st_size == 0:
        raise BadFile(path, "is empty (0 bytes)")


def why_not_read(path: Path, error: OSError) -> BadFile | OSError:
    """Return what to raise of a file that the system refuses to read.

    A fault that may pass is no fault of the file: no case is left out for it.
    """
    if is_passing(error):
        return OSError(error.errno, error.strerror, str(path))
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if path.is_symlink():
            return BadFile(path, f"is missing: it links to {shown(path.readlink())}")
        return BadFile(path, "is missing")
    if error.errno == errno.ELOOP:
        return BadFile(path, "is missing: it links to itself")
    return BadFile(path, f"cannot be read ({error.strerror})")


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

    Its size and pages are looked at before any pixel is unpacked.

    Raises:
        BadFile: Unreadable, too large, of several pages, drawn in its alpha channel alone, or with
            values that no picture has.
        OSError: Its disk does not answer for now.
    """
    try:
        with Picture.open(path, formats=PICTURE_FORMATS) as picture:
            _check_size(path, picture)
            values, alpha = _decoded(picture)
    except BadFile:
        raise
    except TOO_LARGE as error:
        number = re.search(r"\d+", str(error))
        assert number, error
        raise BadFile(path, f"has {number[0]} pixels, {AT_MOST}") from error
    except UNREADABLE_PICTURE as error:
        if isinstance(error, OSError) and error.errno:
            raise why_not_read(path, error) from error
        raise BadFile(path, f"is not a readable picture ({_reason(error)})") from error
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


def _check_size(path: Path, picture: Picture.Image) -> None:
    width, height = picture.size
    if width * height > MAX_SIDE**2:
        raise BadFile(path, f"has {width * height} pixels, {AT_MOST}")
    pages = _tiff_pages(picture) if picture.format == "TIFF" else getattr(picture, "n_frames", 1)
    if pages > 1 and picture.format != "MPO":  # which has a preview as its second page
        number = f"{pages} or more" if pages == MAX_PAGES else pages
        raise BadFile(
            path, f"has {number} pages, but a picture is one slice: save a NIfTI volume, or one "
            "file a page"
        )  # fmt: skip


def _tiff_pages(picture: Picture.Image) -> int:
    """Return how many pages there are, up to MAX_PAGES, and stay at the first."""
    pages = 1
    try:
        while pages < MAX_PAGES:
            picture.seek(pages)
            pages += 1
    except EOFError:
        pass
    picture.seek(0)
    return pages


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # whose text is an absolute path
        return "no format of pictures"
    return str(error) or type(error).__name__


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
