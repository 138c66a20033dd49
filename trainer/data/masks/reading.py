"""One mask, read as was decided for its data set: which voxels are lesion, which are ignored."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.files import BadFile, Source, check_there, is_picture, read_pixels
from trainer.data.nifti import Volume, check_same_grid, picture_axes, read_values

WHOLE = 1e-3
"""Labels coded with a slope read 0.99999999977 for 1."""


@dataclass(frozen=True)
class Reading:
    """Which values are lesion: by default all labels but 0, and shares of a voxel from 0.5 on."""

    labels: tuple[int, ...] | None = None
    """These and no others; None: every value from `cut` on."""
    ignore: int | None = None
    """A label of voxels that nobody annotated."""
    cut: float = 0.5
    colours: bool = False
    """A picture's values are its colours, 0xRRGGBB."""


DEFAULT = Reading()


class Mask(NamedTuple):
    """A case's mask, on the reference's grid."""

    lesion: NDArray[np.bool_]
    """(X, Y, Z)."""
    ignored: NDArray[np.bool_] | None
    """(X, Y, Z), voxels that are not to be scored; None where there are none."""


def raw_values(source: Source, colours: bool = False) -> Volume:
    """Read a mask's values as they were saved; NaN is background where nothing else is.

    Args:
        source: A NIfTI file, or a picture: its grey values (0 to 255, say), or its colours.
        colours: Read 0xRRGGBB.

    Raises:
        BadFile: As `read_values`, or with voxels that are neither a number nor background.
    """
    if is_picture(source.path):
        check_there(source.path)
        pixels = read_pixels(source.path)
        values = pixels.colours.astype(np.float32) if colours else pixels.grey
        return Volume(source, picture_axes(values), np.eye(4))
    data, affine = read_values(source)
    missing = ~np.isfinite(data)
    if missing.any():
        if np.isinf(data).any() or (data == 0).any():
            raise BadFile(
                source.path, f"has {int(missing.sum())} non-finite voxels (NaN or infinite) beside "
                "a background of 0: they must have a label, or be 0"
            )  # fmt: skip
        data[missing] = 0
    return Volume(source, data, affine)


def read_mask(source: Source, reference: Volume, reading: Reading = DEFAULT) -> Mask:
    """Read a lesion mask on the grid of `reference`.

    Raises:
        BadFile: As `raw_values`, its grid is not the reference's, it is the reference itself, or
            it has values that no mask has.
    """
    mask = raw_values(source, reading.colours)
    check_same_grid(mask, reference)
    values = mask.data
    low, high = float(values.min()), float(values.max())
    if high > low and _is_image(values, reference.data):
        raise BadFile(source.path, f"has the values of the image {reference.path.name}: no mask")
    if reading.labels is not None:
        lesion = np.isin(np.rint(values), reading.labels)
    else:
        if low < -reading.cut / 2:
            raise BadFile(
                source.path,
                f"has values from {low:g} to {high:g}, but a mask has labels (0, 1, 2, ...) or "
                "shares of a voxel (0 to 1)",
            )
        if reading.cut == DEFAULT.cut and WHOLE < high < reading.cut:
            raise BadFile(
                source.path, f"its largest value is {high:g}, but lesion begins at {reading.cut}: "
                f"--mask-threshold {high / 2:.3g} takes half of its height"
            )  # fmt: skip
        lesion = values >= reading.cut
    if reading.ignore is None:
        return Mask(lesion, None)
    ignored = np.rint(values) == reading.ignore
    return Mask(lesion & ~ignored, ignored if ignored.any() else None)


def _is_image(values: NDArray[np.float32], image: NDArray[np.float32]) -> bool:
    """Tell whether a mask is the image itself, up to the factor of a picture's white."""
    middle = values.shape[2] // 2
    high = values.max()
    factor = image.max() / high if high else 1.0
    for some in (np.s_[:, :, middle], np.s_[:]):  # nearly always, one slice tells
        if not np.allclose(values[some] * factor, image[some], rtol=1e-5):
            return False
    return len(np.unique(image)) > 2
