"""Where a store's pixels lie in the reference image, and the two directions between them.

A slice of the store shows the patient as a radiologist looks at them: rows run from anterior to
posterior, columns from the patient's right to the left. Reference volumes have canonical axes,
(x to the right, y to anterior, z to superior), so both in-plane axes run backwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MARGIN = 0.03
"""Empty border on each side of a slice, as a share of its field of view."""

COLUMNS_AT_ONCE = 32
"""Of the reference grid, while a mask is made: what they take stays in the processor's cache."""


@dataclass(frozen=True)
class Box:
    """The part of a reference volume that the store shows: a square in-plane, some slices in z."""

    right_mm: float
    """Position of the first column's outer edge, from the outer edge of voxel x = 0."""
    anterior_mm: float
    """Position of the first row's outer edge, from the outer edge of voxel y = 0."""
    side_mm: float
    """Side of the square field of view."""
    first_slice: int
    num_slices: int


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds every true voxel of (X, Y, Z); an empty one of none."""
    over_x = np.any(mask, 0)
    by_x = mask.reshape(len(mask), over_x.size)
    sides = (np.any(by_x, 1), np.any(over_x, 1), np.any(over_x, 0))
    inside = [np.flatnonzero(side) for side in sides]
    x, y, z = (slice(int(i[0]), int(i[-1]) + 1) if len(i) else slice(0, 0) for i in inside)
    return x, y, z


def fit_box(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> Box:
    """Return the smallest square box, with a margin, that holds every true voxel of `mask`.

    Args:
        mask: (X, Y, Z), canonical axes, with at least one true voxel.
        spacing_mm: Voxel size along x, y and z.
    """
    (left, right), (posterior, anterior), (bottom, top) = (
        (along.start, along.stop) for along in bounding_box(mask)
    )
    side_mm = max((right - left) * spacing_mm[0], (anterior - posterior) * spacing_mm[1])
    side_mm *= 1 + 2 * MARGIN
    return Box(
        right_mm=(left + right) / 2 * spacing_mm[0] + side_mm / 2,
        anterior_mm=(posterior + anterior) / 2 * spacing_mm[1] + side_mm / 2,
        side_mm=side_mm,
        first_slice=bottom,
        num_slices=top - bottom,
    )


def to_slices(
    volume: NDArray[np.float32 | np.bool_],
    box: Box,
    spacing_mm: tuple[float, float, float],
    image_size: int,
    outside: float,
) -> NDArray[np.float32]:
    """Bring a volume's box to the store's pixels: averaged when shrinking, linear when growing.

    Args:
        volume: (X, Y, Z), canonical axes.
        box: Part of the volume to show.
        spacing_mm: Voxel size along x, y and z.
        image_size: Rows and columns of the result.
        outside: Value of what the box shows beyond the volume.

    Returns:
        (num_slices, image_size, image_size): z, then rows from anterior, columns from the right.
    """
    pixel_mm = box.side_mm / image_size
    columns = _weights(
        image_size, volume.shape[0], box.right_mm / spacing_mm[0], -pixel_mm / spacing_mm[0]
    )
    rows = _weights(
        image_size, volume.shape[1], box.anterior_mm / spacing_mm[1], -pixel_mm / spacing_mm[1]
    )
    slab = volume[:, :, box.first_slice : box.first_slice + box.num_slices]
    slices = np.asarray(slab, np.float32).transpose(2, 1, 0) - np.float32(outside)
    return _resample(slices, rows, columns) + np.float32(outside)


def to_volume(
    slices: NDArray[np.float32],
    box: Box,
    spacing_mm: tuple[float, float, float],
    native_shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Bring slices of the store back to the reference grid, linearly in-plane, 0 outside the box.

    Args:
        slices: (num_slices, H, W) with H = W.
        box: The box that `to_slices` was given.
        spacing_mm: Voxel size of the reference grid along x, y and z.
        native_shape: (X, Y, Z) of the reference grid.

    Returns:
        float32 (X, Y, Z), canonical axes.
    """
    columns, rows = _native_weights(slices.shape, box, spacing_mm, native_shape)
    volume = np.zeros(native_shape, np.float32)
    inside = _resample(np.asarray(slices, np.float32), rows, columns)
    volume[:, :, box.first_slice : box.first_slice + box.num_slices] = inside.transpose(2, 1, 0)
    return volume


def to_mask(
    slices: NDArray[np.float32],
    threshold: float,
    box: Box,
    spacing_mm: tuple[float, float, float],
    native_shape: tuple[int, int, int],
) -> NDArray[np.bool_]:
    """Return where `to_volume` is at least a threshold, without making the volume: bool (X, Y, Z).

    Args:
        slices: As for `to_volume`, and so are the others.
        threshold: What the mask holds voxels from.
    """
    columns, rows = _native_weights(slices.shape, box, spacing_mm, native_shape)
    mask = np.full(native_shape, threshold <= 0)
    within = mask[:, :, box.first_slice : box.first_slice + box.num_slices]
    by_row = _along_rows(np.asarray(slices, np.float32), rows)
    for first in range(0, native_shape[0], COLUMNS_AT_ONCE):
        some = slice(first, first + COLUMNS_AT_ONCE)
        np.greater_equal(_along_columns(by_row, columns[some]), threshold, out=within[some])
    return mask


def _native_weights(
    shape: tuple[int, ...],
    box: Box,
    spacing_mm: tuple[float, float, float],
    native_shape: tuple[int, int, int],
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return the matrices that bring (S, R, C) slices to the reference grid: to x, and to y."""
    pixel_mm = box.side_mm / shape[-1]
    return (
        _weights(native_shape[0], shape[2], box.right_mm / pixel_mm, -spacing_mm[0] / pixel_mm),
        _weights(native_shape[1], shape[1], box.anterior_mm / pixel_mm, -spacing_mm[1] / pixel_mm),
    )


def _resample(
    slices: NDArray[np.float32], rows: sparse.csr_array, columns: sparse.csr_array
) -> NDArray[np.float32]:
    """Apply one matrix along the rows of (S, R, C) slices and one along their columns.

    Sparse products run in one thread and one order: the store's hash does not depend on a BLAS.
    """
    return _along_columns(_along_rows(slices, rows), columns).transpose(2, 1, 0)


def _along_rows(slices: NDArray[np.float32], rows: sparse.csr_array) -> NDArray[np.float32]:
    """Return (C, Y, S) of (S, R, C) slices."""
    num, height, width = slices.shape
    by_row = rows @ slices.transpose(1, 0, 2).reshape(height, num * width)
    return np.ascontiguousarray(by_row.reshape(-1, num, width).transpose(2, 0, 1))


def _along_columns(by_row: NDArray[np.float32], columns: sparse.csr_array) -> NDArray[np.float32]:
    """Return (X, Y, S) of (C, Y, S)."""
    width, height, num = by_row.shape
    by_column: NDArray[np.float32] = columns @ by_row.reshape(width, height * num)
    return by_column.reshape(-1, height, num)


def _weights(num_out: int, num_in: int, start: float, step: float) -> sparse.csr_array:
    """Return the (num_out, num_in) matrix that resamples one axis.

    Output i covers start + i*step .. start + (i+1)*step, where input j covers j .. j+1. A step
    longer than 1 averages what it covers, a shorter one interpolates linearly at its centre;
    beyond the input's outer edges the weights are 0.
    """
    edges = start + step * np.arange(num_out + 1)
    if abs(step) > 1:
        low = np.minimum(edges[:-1], edges[1:])[:, None]
        high = np.maximum(edges[:-1], edges[1:])[:, None]
        first = np.arange(num_in)[None]
        weights = np.maximum(np.minimum(high, first + 1) - np.maximum(low, first), 0) / abs(step)
    else:
        centre = (edges[:-1] + edges[1:]) / 2
        position = np.clip(centre - 0.5, 0, num_in - 1)
        weights = np.maximum(1 - np.abs(position[:, None] - np.arange(num_in)[None]), 0)
        weights[(centre < 0) | (centre > num_in)] = 0
    return sparse.csr_array(weights.astype(np.float32))
