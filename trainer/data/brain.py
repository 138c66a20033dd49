"""Brain masks derived from the reference image: simple, and good enough to score inside.

CT of a head: brain is what lies between -5 and 100 HU inside the skull. The skull is whatever is
denser; an opening cuts the thin bridges through its holes, the largest piece is the brain, and
holes in it (ventricles, calcifications) are filled. A CT that someone has stripped already, an
MRI or a picture: the foreground, the largest connected piece that is not background. All of it on
a grid of about 2 mm, which makes the cost independent of the scanner's matrix.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.data.windows import kind

WORKING_MM = 2.0
BRAIN_HU = (-5.0, 100.0)
AIR_HU = -300.0
FOREGROUND = 0.1
"""Of an image's 98th percentile: MRI voxels above it are foreground. Rather too much than too
little, since nothing outside the mask counts in a score."""


def brain_mask(
    volume: NDArray[np.float32], spacing_mm: tuple[float, float, float], modality: str
) -> NDArray[np.bool_]:
    """Derive the brain mask of a reference image.

    Args:
        volume: (X, Y, Z), canonical axes, as read from the file.
        spacing_mm: Voxel size along x, y and z.
        modality: ncct and cta are read as CT of a head, everything else by its foreground.

    Returns:
        bool, same shape. The whole volume where nothing can be told apart, as in a crop.
    """
    zoom = [
        min(1.0, max(spacing / WORKING_MM, 1 / size))
        for spacing, size in zip(spacing_mm, volume.shape, strict=True)
    ]
    small = ndimage.zoom(volume, zoom, order=1, grid_mode=True, mode="nearest")
    small_mm = np.array(spacing_mm) * volume.shape / small.shape
    is_head = kind(modality) in ("ncct", "cta") and bool((small < AIR_HU).any())
    mask = _inside_skull(small, small_mm) if is_head else _foreground(small, small_mm)
    if not mask.any():
        return np.ones(volume.shape, bool)
    back = np.array(volume.shape) / small.shape
    full = ndimage.zoom(mask.astype(np.float32), back, order=1, grid_mode=True, mode="nearest")
    assert full.shape == volume.shape
    return full > 0.5


def _inside_skull(
    volume: NDArray[np.float32], spacing_mm: NDArray[np.float64]
) -> NDArray[np.bool_]:
    soft: NDArray[np.float32] = ndimage.gaussian_filter(volume, 1.0 / spacing_mm)
    tissue = (soft > BRAIN_HU[0]) & (soft < BRAIN_HU[1])
    core = largest_piece(ndimage.binary_erosion(tissue, ball(4.0, spacing_mm)))
    brain = ndimage.binary_dilation(core, ball(5.0, spacing_mm)) & tissue
    return _fill(ndimage.binary_closing(brain, ball(4.0, spacing_mm)) | brain)


def _foreground(volume: NDArray[np.float32], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    values, counts = np.unique(volume, return_counts=True)
    background = float(values[counts.argmax()])
    if counts.max() > 0.1 * volume.size:
        # A stripped or zero-padded image: one value fills the background.
        mask = np.abs(volume - background) > 1e-6
    else:
        smooth: NDArray[np.float32] = ndimage.gaussian_filter(volume, 1.0 / spacing_mm)
        is_ct = bool((volume < AIR_HU).any())
        mask = smooth > (AIR_HU if is_ct else FOREGROUND * np.percentile(volume, 98))
    closed = ndimage.binary_closing(mask, ball(4.0, spacing_mm)) | mask
    return _fill(largest_piece(closed))


def largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected component (faces touch)."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    largest: NDArray[np.bool_] = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    return largest


def ball(radius_mm: float, spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a ball as a structuring element, flat along axes coarser than its radius."""
    half = np.floor(radius_mm / np.asarray(spacing_mm)).astype(int)
    axes = [np.arange(-n, n + 1) * mm for n, mm in zip(half, spacing_mm, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside: NDArray[np.bool_] = x**2 + y**2 + z**2 <= radius_mm**2
    return inside


def _fill(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes in each axial slice: sulci and ventricles that touch the volume's ends too."""
    filled = mask.copy()
    for z in range(mask.shape[2]):
        filled[:, :, z] = ndimage.binary_fill_holes(mask[:, :, z])
    return filled
