"""Units in the store, factors kept, and room in float16."""

import numpy as np
import pytest

from trainer.data.windows import MODALITIES, modality, scale

TISSUE = np.random.default_rng(0).normal(0.8, 0.15, (20, 20, 5)).clip(0.2, 3)
ALL = np.ones(TISSUE.shape, bool)


@pytest.mark.parametrize("unit, divisor", [(1.0, 1.0), (1e-3, 1e-3), (1e3, 1e3)])
def test_adc_comes_in_three_units_and_is_stored_in_one(unit, divisor):
    stored, offset, found = scale(TISSUE * unit, "adc", ALL)

    assert (offset, found) == (0.0, divisor)
    np.testing.assert_allclose(stored, TISSUE, rtol=1e-5)


def test_mri_with_maxima_beyond_float16_is_scaled_robustly_and_can_be_scaled_back():
    volume = TISSUE * 1e6
    volume[0, 0, 0] = 1.7e6 * 20

    stored, offset, divisor = scale(volume, "t1w", ALL)

    halved = stored.astype(np.float16)
    assert np.isfinite(halved).all()
    assert np.quantile(stored, 0.01) == pytest.approx(0, abs=0.01)
    assert np.quantile(stored, 0.99) == pytest.approx(1, abs=0.01)
    back = halved[1:].astype(np.float64) * divisor + offset
    np.testing.assert_allclose(back, volume[1:], rtol=2e-3)


def test_ct_and_perfusion_stay_physical_and_within_what_is_kept():
    hu = np.array([[[-1e5, -1024, 40, 3071, 1e5]]])

    stored, *factors = scale(hu, "ncct", np.ones(hu.shape, bool))

    assert factors == [0.0, 1.0]
    np.testing.assert_array_equal(stored.ravel(), [-1024, -1024, 40, 3071, 3071])


def test_a_constant_volume_is_not_divided_by_zero():
    stored, _, divisor = scale(np.full((3, 3, 3), 5.0), "dwi", np.ones((3, 3, 3), bool))

    assert divisor == 1.0
    assert np.isfinite(stored).all()


@pytest.mark.parametrize("name", [*MODALITIES, "dwi", "picture_red"])
def test_windows_lie_in_what_is_kept_and_that_fits_float16(name):
    what = modality(name)

    assert what.kept[0] <= what.window[0] < what.window[1] <= what.kept[1]
    assert max(map(abs, what.kept)) < np.finfo(np.float16).max
