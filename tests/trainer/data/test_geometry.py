"""The store's pixels and the reference grid: two directions of one map."""

import numpy as np
import pytest

from trainer.data.geometry import Box, bounding_box, fit_box, to_mask, to_slices, to_volume

SPACING = (2.0, 3.0, 5.0)


def test_a_slice_shows_anterior_on_top_and_the_patients_right_on_the_left():
    volume = np.zeros((20, 20, 3), np.float32)
    volume[18, 17, 1] = 1.0  # right, anterior, the middle slice
    box = fit_box(np.ones_like(volume, bool), (1.0, 1.0, 1.0))

    slices = to_slices(volume, box, (1.0, 1.0, 1.0), 32, 0.0)

    z, row, column = np.unravel_index(slices.argmax(), slices.shape)
    assert (z, row < 8, column < 8) == (1, True, True)


def test_fit_box_is_square_in_mm_and_holds_every_voxel():
    mask = np.zeros((40, 30, 8), bool)
    mask[5:25, 10:14, 2:6] = True

    box = fit_box(mask, SPACING)

    assert (box.first_slice, box.num_slices) == (2, 4)
    assert box.side_mm == pytest.approx(20 * 2.0 * 1.06)
    assert box.right_mm == pytest.approx(25 * 2.0 + 0.03 * 40)
    assert box.right_mm - box.side_mm == pytest.approx(5 * 2.0 - 0.03 * 40)
    assert box.anterior_mm > 14 * 3.0
    assert box.anterior_mm - box.side_mm < 10 * 3.0


@pytest.mark.parametrize("image_size", [16, 40, 97])
def test_shrinking_and_growing_keep_a_lesions_volume(image_size: int):
    mask = np.zeros((60, 44, 4), bool)
    mask[20:37, 12:31, 1:3] = True
    box = fit_box(np.ones_like(mask), SPACING)

    share = to_slices(mask, box, SPACING, image_size, 0.0)

    pixel_mm = box.side_mm / image_size
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-6
    volume = share.sum() * pixel_mm**2
    tolerance = 1e-5 if image_size == 16 else 0.03
    assert volume == pytest.approx(mask.sum() * SPACING[0] * SPACING[1], rel=tolerance)


def test_to_volume_undoes_to_slices_for_a_smooth_image():
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (50, 40, 6)), indexing="ij")
    volume = np.exp(-3 * (x**2 + y**2)) * (2 + z)
    box = fit_box(np.abs(x) + np.abs(y) < 0.9, SPACING)

    back = to_volume(to_slices(volume, box, SPACING, 64, 0.0), box, SPACING, volume.shape)

    inside = np.abs(x) + np.abs(y) < 0.85
    np.testing.assert_allclose(back[inside], volume[inside], atol=0.02)


def test_to_volume_is_zero_outside_the_box():
    box = Box(right_mm=60.0, anterior_mm=70.0, side_mm=30.0, first_slice=2, num_slices=3)

    volume = to_volume(np.ones((3, 32, 32), np.float32), box, (1.0, 1.0, 1.0), (100, 100, 8))

    expected = np.zeros((100, 100, 8), np.float32)
    expected[30:60, 40:70, 2:5] = 1
    np.testing.assert_array_equal(volume, expected)


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 0.02, 0.5])
@pytest.mark.parametrize("size", [16, 90])
def test_to_mask_is_to_volume_from_a_threshold_on(threshold: float, size: int):
    box = Box(right_mm=60.0, anterior_mm=70.0, side_mm=55.0, first_slice=2, num_slices=3)
    slices = np.random.default_rng(0).random((3, size, size), np.float32)
    grid = (1.1, 0.9, 2.0), (71, 90, 8)

    mask = to_mask(slices, threshold, box, *grid)

    np.testing.assert_array_equal(mask, to_volume(slices, box, *grid) >= threshold)


def test_bounding_box_holds_every_voxel_and_is_empty_without():
    mask = np.zeros((5, 6, 7), bool)
    assert mask[bounding_box(mask)].size == 0
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 7))


def test_beyond_the_volume_lies_the_outside_value():
    box = Box(right_mm=15.0, anterior_mm=15.0, side_mm=20.0, first_slice=0, num_slices=1)

    slices = to_slices(np.full((10, 10, 1), 40.0), box, (1.0, 1.0, 1.0), 20, -1000.0)

    assert slices[0, 0, 0] == -1000
    assert slices[0, 10, 10] == 40
