"""Quirks of real files that must survive, and files that cannot be used."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.trainer.data.trees import AFFINE, SHAPE, head, lesion, write
from trainer.data.files import BadFile, Source
from trainer.data.masks.reading import read_mask
from trainer.data.nifti import WRITTEN_HERE, Volume, on_grid_of, read_volume, write_like


@pytest.fixture
def reference(tmp_path: Path) -> Volume:
    return read_volume(Source(write(tmp_path / "reference.nii.gz", head()[0])))


def test_a_slope_coded_mask_that_reads_less_than_one_is_read_whole(tmp_path, reference):
    image = nibabel.Nifti1Image(lesion().astype(np.uint16) * 65535, AFFINE)
    image.header.set_slope_inter(1.0 / 65535.000015255, 0)
    nibabel.save(image, tmp_path / "mask.nii.gz")
    assert 0.999 < nibabel.load(tmp_path / "mask.nii.gz").get_fdata().max() < 1

    mask = read_mask(Source(tmp_path / "mask.nii.gz"), reference).lesion

    np.testing.assert_array_equal(mask, lesion() > 0)


def test_an_uncompressed_file_reads_as_a_compressed_one(tmp_path):
    plain, packed = (
        read_volume(Source(write(tmp_path / name, head()[0]))) for name in ("a.nii", "a.nii.gz")
    )

    np.testing.assert_array_equal(plain.data, packed.data)
    np.testing.assert_array_equal(plain.affine, packed.affine)


@pytest.mark.parametrize("axes", ["LAS", "LPS", "PIR", "ASL"])
def test_any_orientation_becomes_the_same_canonical_volume(tmp_path, reference, axes):
    image = nibabel.load(reference.path)
    change = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(image.as_reoriented(change), tmp_path / "turned.nii.gz")
    assert "".join(nibabel.aff2axcodes(nibabel.load(tmp_path / "turned.nii.gz").affine)) == axes

    volume = read_volume(Source(tmp_path / "turned.nii.gz"))

    np.testing.assert_array_equal(volume.data, reference.data)
    np.testing.assert_allclose(volume.affine, reference.affine)


def test_affine_noise_is_the_same_grid(tmp_path, reference):
    noisy = AFFINE + np.random.default_rng(0).normal(0, 3e-5, (4, 4)) * (np.arange(4) < 3)[:, None]
    volume = read_volume(Source(write(tmp_path / "noisy.nii.gz", head()[0], noisy)))

    values, resampled = on_grid_of(volume, reference, head()[1], 0.0)

    assert not resampled
    np.testing.assert_array_equal(values, volume.data)
    read_mask(Source(write(tmp_path / "mask.nii.gz", lesion(), noisy)), reference)


def test_a_modality_on_another_grid_is_resampled_onto_the_reference(tmp_path, reference):
    # A linear field survives linear interpolation exactly: an oracle without an interpolator.
    shape, affine = (55, 50, 30), np.diag([3.0, 4.5, 2.0, 1])
    affine[:3, 3] = (-85, -105, -25)
    position = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    world = position @ affine[:3, :3].T + affine[:3, 3]
    field = (world @ (0.3, -0.2, 0.5) + 7).astype(np.float32)
    other = read_volume(Source(write(tmp_path / "other.nii.gz", field, affine)))

    values, resampled = on_grid_of(other, reference, head()[1], 0.0)

    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    expected = (grid @ AFFINE[:3, :3].T + AFFINE[:3, 3]) @ (0.3, -0.2, 0.5) + 7
    inner = (slice(4, -4), slice(4, -4), slice(1, -1))
    assert resampled
    np.testing.assert_allclose(values[inner], expected[inner], atol=0.02)


def _truncated_gzip(path: Path) -> None:
    whole = write(path, np.random.default_rng(0).normal(size=SHAPE)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _truncated_plain(path: Path) -> None:
    write(path.with_name("whole.nii"), head()[0])
    path.write_bytes(gzip.compress(path.with_name("whole.nii").read_bytes()[:-500]))


def _not_gzip(path: Path) -> None:
    path.write_bytes(b"this is not a gzip file, but a text that someone renamed" * 20)


def _not_nifti(path: Path) -> None:
    path.write_bytes(gzip.compress(b"neither is this a NIfTI header" * 50))


def _nan(path: Path) -> None:
    data = np.full(SHAPE, np.nan, np.float32)
    data[3, 4, 2] = np.inf
    write(path, data)


def _singular(path: Path) -> None:
    header = bytearray(gzip.decompress(write(path, head()[0]).read_bytes()))
    header[312:328] = bytes(16)  # srow_z of the NIfTI-1 header
    path.write_bytes(gzip.compress(header))


BAD_VOLUMES = {
    "truncated gzip": (_truncated_gzip, "truncated or damaged"),
    "truncated inside the gzip": (_truncated_plain, "truncated or damaged"),
    "empty file": (lambda path: path.touch(), "is empty"),
    "a text": (_not_gzip, "NIfTI"),
    "not a NIfTI": (_not_nifti, "is not a NIfTI"),
    "4D": (lambda path: write(path, np.zeros((8, 8, 4, 5))), "is 4D 8x8x4x5, but must be 3D"),
    "2D": (lambda path: write(path, np.zeros((8, 8))), "is 2D"),
    "non-finite": (_nan, "all 11040 voxels are non-finite"),
    "singular affine": (_singular, "has an affine that no voxel grid can have"),
    "missing": (lambda path: None, "is missing"),
}


@pytest.mark.parametrize("make, rule", BAD_VOLUMES.values(), ids=BAD_VOLUMES)
def test_a_bad_file_is_one_line_with_its_name(tmp_path, make, rule):
    path = tmp_path / "sub-1_ncct.nii.gz"
    make(path)

    with pytest.raises(BadFile) as error:
        read_volume(Source(path))

    assert str(error.value).startswith(f"{path}: ")
    assert rule in str(error.value)
    assert "\n" not in str(error.value)


def test_a_trailing_axis_of_one_is_3d(tmp_path):
    path = write(tmp_path / "a.nii.gz", head()[0][..., None])

    assert read_volume(Source(path)).data.shape == SHAPE


def test_a_mask_of_another_shape_names_both_files(tmp_path, reference):
    path = write(tmp_path / "mask.nii.gz", lesion()[:-1])

    with pytest.raises(BadFile, match=r"mask\.nii\.gz: shape 39x46x6.*40x46x6 of reference"):
        read_mask(Source(path), reference)


def test_a_mask_with_another_affine_says_how_far_it_is_off(tmp_path, reference):
    shifted = AFFINE.copy()
    shifted[0, 3] += 3
    path = write(tmp_path / "mask.nii.gz", lesion(), shifted)

    with pytest.raises(BadFile, match=r"mask\.nii\.gz: affine does not match.*3 mm"):
        read_mask(Source(path), reference)


def test_a_modality_from_elsewhere_does_not_match(tmp_path, reference):
    elsewhere = AFFINE.copy()
    elsewhere[:3, 3] += 100
    volume = read_volume(Source(write(tmp_path / "tmax.nii.gz", head()[0], elsewhere)))

    with pytest.raises(BadFile, match=r"tmax\.nii\.gz: .*do not match reference\.nii\.gz"):
        on_grid_of(volume, reference, head()[1], 0.0)


@pytest.mark.parametrize("kind", ["both", "qform", "sform", "neither", "nifti2", "4D"])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_a_volume_is_written_on_the_grid_it_was_read_from(tmp_path, kind, axes):
    rng = np.random.default_rng(0)
    turn = Rotation.from_euler("xyz", [4, -7, 11], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3] = np.c_[turn @ np.diag([0.383, 0.5, 2.0]), [-80.3, -100.7, 13.1]]
    data = rng.integers(0, 3000, (7, 8, 5), dtype=np.int16)
    image = nibabel.Nifti1Image(data, affine)
    change = nibabel.orientations.axcodes2ornt(axes)
    image = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), change)
    )
    if kind == "4D":
        image = nibabel.Nifti1Image(np.stack([image.dataobj] * 2, -1), image.affine)
    if kind == "nifti2":
        image = nibabel.Nifti2Image(np.asarray(image.dataobj), image.affine)
    codes = {"qform": (2, 0), "sform": (0, 4), "neither": (0, 0)}.get(kind, (1, 1))
    image.set_qform(image.affine if codes[0] else None, codes[0])
    image.header["sform_code"] = codes[1]
    image.header["cal_max"] = 80
    image.header["descrip"] = b"Jane Doe"
    image.header.set_slope_inter(2.0, -1024)
    if kind == "neither":
        image = nibabel.Nifti1Image(image.dataobj, None, image.header)
    nibabel.save(image, tmp_path / "in.nii.gz")
    volume = read_volume(Source(tmp_path / "in.nii.gz", 1))

    for name, values in (
        ("mask.nii.gz", (volume.data > 100).astype(np.uint8)),
        ("probability.nii", volume.data),
    ):
        write_like(tmp_path / name, values, tmp_path / "in.nii.gz")

        source, written = (nibabel.load(tmp_path / each) for each in ("in.nii.gz", name))
        assert np.array_equal(written.affine, source.affine)
        assert type(written) is type(source)
        assert written.shape == source.shape[:3]
        assert (written.header["qform_code"], written.header["sform_code"]) == codes
        assert written.header.get_xyzt_units() == source.header.get_xyzt_units()
        assert written.get_data_dtype() == values.dtype
        assert written.header["cal_max"] == 0
        assert written.header["descrip"] == WRITTEN_HERE
        np.testing.assert_array_equal(read_volume(Source(tmp_path / name)).data, values)
        original = source.get_fdata()[..., 0] if kind == "4D" else source.get_fdata()
        expected = original > 100 if name == "mask.nii.gz" else original
        np.testing.assert_array_equal(written.get_fdata(), expected)
