"""Pictures of every mode: read as they look, or refused with what to do."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from trainer.data.files import BadFile, Source, read_pixels
from trainer.data.nifti import read_volume

GREY = np.random.default_rng(0).integers(20, 90, (12, 10)).astype(np.uint8)
FULL = np.full_like(GREY, 255)
HALF = np.where(np.arange(10) < 5, FULL, 0).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str) -> Path:
    Picture.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_a_grey_picture_is_the_same_in_every_mode(tmp_path, mode):
    read = read_pixels(save(tmp_path / "a.png", GREY, mode))

    np.testing.assert_array_equal(read.grey, GREY)
    assert read.white == 255


def test_cmyk_is_read_by_what_it_looks_like(tmp_path):
    read = read_pixels(save(tmp_path / "a.tif", GREY, "CMYK"))

    np.testing.assert_allclose(read.grey, GREY, atol=1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_shares_of_their_own_white(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Picture.fromarray(GREY.astype(np.uint16) * 257).save(path)

    assert read_volume(Source(path)).data.max() == pytest.approx(GREY.max() / 255)


def test_one_bit_is_black_and_white(tmp_path):
    path = tmp_path / "a.png"
    Picture.fromarray(GREY > 50).save(path)

    assert set(np.unique(read_volume(Source(path)).data)) == {0, 1}


def test_what_is_transparent_is_as_on_black(tmp_path):
    for name, bands, mode in (
        ("a", [GREY, HALF], "LA"),
        ("b", [GREY, GREY, GREY, HALF], "RGBA"),
        ("c", [FULL, FULL, FULL, HALF], "RGBA"),
    ):
        path = tmp_path / f"{name}.png"
        Picture.merge(mode, [Picture.fromarray(band) for band in bands]).save(path)
        expected = np.where(HALF > 0, bands[0], 0)
        np.testing.assert_array_equal(read_pixels(path).grey, expected)


def test_a_transparent_index_of_a_palette_is_black(tmp_path):
    picture = Picture.fromarray((HALF == 0).astype(np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png", transparency=1)

    assert set(np.unique(read_pixels(tmp_path / "a.png").colours)) == {0, 0xFF0000}


def test_black_on_transparent_is_refused(tmp_path):
    black = [Picture.fromarray(FULL * 0)] * 3
    Picture.merge("RGBA", [*black, Picture.fromarray(HALF)]).save(tmp_path / "a.png")

    with pytest.raises(BadFile, match=r"alpha channel alone.*without transparency"):
        read_pixels(tmp_path / "a.png")


def test_several_pages_are_refused(tmp_path):
    pages = [Picture.fromarray(GREY)] * 3
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    with pytest.raises(BadFile, match=r"has 3 pages.*NIfTI volume, or one file a page"):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("values", [GREY.astype(np.int32) - 1000, GREY * np.float32(1e4)])
def test_values_that_no_picture_has_are_refused(tmp_path, values):
    Picture.fromarray(values).save(tmp_path / "a.tif")

    with pytest.raises(BadFile, match=r"has values from .*save it as NIfTI"):
        read_volume(Source(tmp_path / "a.tif"))


def test_a_picture_of_floats_is_a_share_of_white(tmp_path):
    Picture.fromarray(GREY / np.float32(255)).save(tmp_path / "a.tif")

    assert read_volume(Source(tmp_path / "a.tif")).data.max() == pytest.approx(GREY.max() / 255)
