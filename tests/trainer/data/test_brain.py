"""Brain masks against the anatomy they were made from."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from trainer.data.brain import brain_mask


def _dice(a: NDArray, b: NDArray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _head(spacing_mm: tuple[float, float, float]) -> tuple[NDArray, NDArray]:
    """Return a CT of a head in HU, with skull, scalp, air and ventricles, and its brain."""
    shape = [round(size / mm) for size, mm in zip((200, 230, 150), spacing_mm, strict=True)]
    axes = [(np.arange(n) - n / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((x / 68) ** 2 + (y / 84) ** 2 + (z / 62) ** 2)
    brain = radius < 1
    ct = np.select([brain, radius < 1.1, radius < 1.2], [33.0, 900.0, 20.0], -1000.0)
    ct[(np.abs(x) < 10) & (np.abs(y) < 25) & (np.abs(z) < 12)] = 6.0
    noise = np.random.default_rng(0).normal(0, 4, shape)
    return (ct + noise).astype(np.float32), brain


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), (0.9, 0.9, 5.0), (3.0, 3.0, 6.0)])
def test_ct_of_a_head_is_stripped_of_skull_and_scalp(spacing_mm):
    ct, brain = _head(spacing_mm)

    mask = brain_mask(ct, spacing_mm, "ncct")

    assert _dice(mask, brain) > 0.95
    assert not mask[ct > 500].any()


def test_a_stripped_ct_is_its_foreground_with_the_ventricles():
    ct, brain = _head((2.0, 2.0, 5.0))
    stripped = np.where(brain, ct, 0)

    assert _dice(brain_mask(stripped, (2.0, 2.0, 5.0), "ncct"), brain) > 0.97


def test_mri_is_its_foreground_over_noise():
    _, brain = _head((2.0, 2.0, 5.0))
    noise = np.abs(np.random.default_rng(0).normal(0, 8, brain.shape))
    mri = ndimage.gaussian_filter(brain * 400.0, 0.7) + noise

    mask = brain_mask(mri.astype(np.float32), (2.0, 2.0, 5.0), "dwi")

    assert _dice(mask, brain) > 0.92
    assert mask[brain].mean() > 0.99


def test_a_crop_without_background_is_all_foreground():
    crop = 300 + 40 * ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(30, 40, 30)), 2)

    assert brain_mask(crop.astype(np.float32), (1.0, 1.0, 1.0), "mri").all()


def test_one_slice_and_a_constant_volume_do_not_fail():
    assert brain_mask(np.zeros((40, 30, 1), np.float32), (1.0, 1.0, 1.0), "picture").all()
    slice = np.zeros((40, 30, 1), np.float32)
    slice[10:30, 5:25] = 0.5
    mask = brain_mask(slice, (1.0, 1.0, 1.0), "picture")
    assert _dice(mask, slice > 0) > 0.95
