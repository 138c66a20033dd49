"""Real images: the quirks that nobody would invent. Skipped where the folder is missing."""

import io
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from rich.console import Console

from trainer.configfile import ConfigError
from trainer.data.files import Source
from trainer.data.masks.reading import read_mask
from trainer.data.nifti import read_volume
from trainer.data.prepare import prepare
from trainer.data.store import Store


def _prepare(dataset: Path, out: Path, **settings: int) -> tuple[Store, str]:
    text = io.StringIO()
    console = Console(file=text, width=100)
    return prepare(
        dataset, out, image_size=64, workers=1, console=console, **settings
    ), text.getvalue()


def _copy(source: Path, target: Path, *cases: str) -> Path:
    for path in source.rglob("*"):
        if path.is_file() and any(case in str(path) for case in cases):
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
    return target


@pytest.mark.parametrize(
    "name, axes, lesion_ml",
    [("sub-stroke0014", "LAS", 222.1), ("sub-stroke0158", "LPS", 118.9)],
)
def test_isles24_masks_are_binarised_whole_and_turned(shared_data, name, axes, lesion_ml):
    path = shared_data / "isles24_masks" / f"{name}_ses-02_lesion-msk.nii.gz"
    image = nibabel.load(path)
    assert "".join(nibabel.aff2axcodes(image.affine)) == axes

    reference = read_volume(Source(path))
    mask = read_mask(Source(path), reference).lesion

    ml = mask.sum() * np.prod(reference.spacing_mm) / 1000
    assert ml == pytest.approx(lesion_ml, abs=0.1)
    assert "".join(nibabel.aff2axcodes(reference.affine)) == "RAS"
    world = nibabel.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 0.5))
    turned = nibabel.affines.apply_affine(reference.affine, np.argwhere(mask))
    np.testing.assert_allclose(world.mean(0), turned.mean(0), atol=1e-3)


def test_isles24_like_cases_with_mixed_orientation_and_an_uncompressed_mask(shared_data, tmp_path):
    cases = ("sub-stroke0001", "sub-stroke0003", "sub-stroke0019")
    root = _copy(shared_data / "isles24_like", tmp_path / "data", *cases)

    store, _ = _prepare(root, tmp_path / "out")

    assert store.modalities == ("ncct", "cta", "cbf", "cbv", "mtt", "tmax")
    assert [round(case.lesion_ml, 1) for case in store.cases] == [22.6, 141.6, 90.2]
    assert store.cases[0].clinical["Onset to door (minutes)"] is None
    for case in store.cases:
        images = store.images(case.rows).astype(float)
        lesion = store.masks(case.rows) > 0
        brain = (store.brain(case.rows) > 0) & ~lesion
        # Registered and turned alike: the lesion is late and the ncct is of a brain.
        assert images[:, 5][lesion].mean() > 1.5 * images[:, 5][brain].mean()
        assert 20 < np.median(images[:, 0][brain]) < 60
        truth = store.native_mask(case)
        back = store.to_native(case, lesion.astype(np.float32)) >= 0.5
        assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.9


def test_isles22_adc_of_two_units_becomes_one(shared_data, tmp_path):
    cases = ("sub-strokecase0001", "sub-strokecase0002", "sub-strokecase0009")
    root = _copy(shared_data / "isles22", tmp_path / "data", *cases)

    store, text = _prepare(root, tmp_path / "out")

    medians = [
        np.median(store.images(case.rows, ["adc"])[:, 0][store.brain(case.rows) > 0])
        for case in store.cases
    ]
    assert all(0.5 < median < 1.6 for median in medians)
    assert "flair is left out: only 1 of 3 cases have it" in text


def test_isles22_flair_on_its_own_grid_is_resampled(shared_data, tmp_path):
    root = _copy(shared_data / "isles22", tmp_path / "data", "sub-strokecase0009")

    store, text = _prepare(root, tmp_path / "out")

    assert store.modalities == ("dwi", "adc", "flair")
    assert "flair was resampled from a grid of its own: sub-strokecase0009 (512x512x29)" in text
    case = store.cases[0]
    _, adc, flair = store.images(case.rows).astype(np.float32).swapaxes(0, 1)
    brain = store.brain(case.rows) > 0
    csf = brain & (adc > 2.5)
    tissue = brain & (adc < 1.2)
    # CSF is bright on ADC and dark on FLAIR: only if they lie on one another.
    assert flair[csf].mean() < 0.65 * flair[tissue].mean()
    turned = flair[:, ::-1]
    assert turned[csf].mean() > 0.75 * turned[tissue].mean()


def test_hippocampus_with_maxima_of_millions_fits_float16(shared_data, tmp_path):
    source = shared_data / "hippocampus"
    root = tmp_path / "data"
    _copy(source, root, "hippocampus_210", "hippocampus_001")
    shutil.copyfile(source / "dataset.json", root / "dataset.json")
    assert read_volume(Source(root / "imagesTr" / "hippocampus_210.nii.gz")).data.max() > 1.7e6

    store, _ = _prepare(root, tmp_path / "out")

    for case in store.cases:
        values = store.images(case.rows)
        assert np.isfinite(values).all()
        inside = values[:, 0][store.brain(case.rows) > 0].astype(float)
        assert 0.2 < np.median(inside) < 0.8
        assert store.native_brain(case)[store.native_mask(case)].all()


def test_real_ct_pictures_with_coloured_masks(shared_data, tmp_path):
    store, _ = _prepare(shared_data / "cpaisd_slices", tmp_path / "out")

    assert len(store.cases) == store.num_slices == 24
    assert store.lesion_slice.all()


def test_masks_alone_are_no_data_set(shared_data, tmp_path):
    with pytest.raises(ConfigError, match="no cases found"):
        _prepare(shared_data / "isles24_masks", tmp_path / "out")
