"""Bad input to `prepare`: one line with the file's name, and nothing half-written."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.trainer.data import trees
from tests.trainer.data.trees import run
from trainer.configfile import ConfigError


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _not_nifti(path: Path) -> None:
    path.write_bytes(b"<html>404</html>")


def _four_d(path: Path) -> None:
    trees.write(path, np.zeros((*trees.SHAPE, 3), np.float32))


def _nan(path: Path) -> None:
    trees.write(path, trees.head()[0] * np.nan)


def _other_shape(path: Path) -> None:
    trees.write(path, trees.lesion()[:, :-3])


def _other_affine(path: Path) -> None:
    image = nibabel.load(path)
    moved = image.affine + np.eye(4, k=3) * 200
    trees.write(path, np.asarray(image.dataobj), moved)


BAD_CASES = {
    "truncated gzip": (trees.tmax, _truncate, "truncated or damaged"),
    "empty file": (trees.ncct, _empty, "is empty"),
    "not a NIfTI": (trees.mask, _not_nifti, "NIfTI|damaged"),
    "4D": (trees.tmax, _four_d, "is 4D 40x46x6x3, but must be 3D"),
    "mask of another shape": (trees.mask, _other_shape, "shape 40x43x6, but must match 40x46x6"),
    "mask with another affine": (trees.mask, _other_affine, "affine does not match"),
    "modality from elsewhere": (trees.tmax, _other_affine, "do not match"),
    "missing modality": (trees.tmax, Path.unlink, "is missing"),
    "missing reference": (trees.ncct, Path.unlink, "is missing"),
    "missing mask": (trees.mask, Path.unlink, "is missing"),
    "non-finite voxels": (trees.tmax, _nan, "non-finite"),
}


@pytest.mark.parametrize("which, damage, rule", BAD_CASES.values(), ids=BAD_CASES)
def test_a_bad_case_is_one_line_and_nothing_is_written(tmp_path, which, damage, rule):
    root = trees.isles24(tmp_path / "data", 4)
    damage(which(root, 2))

    with pytest.raises(ConfigError, match=rule) as error:
        run(root, tmp_path / "out")

    assert len(error.value.lines) == 1
    assert "\n" not in error.value.lines[0]
    assert error.value.lines[0].startswith(str(which(root, 2)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_all_bad_cases_are_listed_at_once(tmp_path, workers):
    root = trees.isles24(tmp_path / "data", 5)
    _empty(trees.tmax(root, 4))
    trees.mask(root, 1).unlink()

    with pytest.raises(ConfigError) as error:
        run(root, tmp_path / "out", workers=workers)

    assert [line.split(": ")[0] for line in error.value.lines] == [
        str(trees.mask(root, 1)),
        str(trees.tmax(root, 4)),
    ]


def test_bad_cases_are_skipped_on_request_and_listed_at_the_end(tmp_path, count_cases):
    root = trees.isles24(tmp_path / "data", 5)
    _truncate(trees.ncct(root, 2))
    with pytest.raises(ConfigError):
        run(root, tmp_path / "out")
    del count_cases[:]

    store, text = run(root, tmp_path / "out", skip_bad=True)
    _, again = run(root, tmp_path / "out", skip_bad=True)

    assert [case.case_id[-1] for case in store.cases] == ["1", "3", "4", "5"]
    assert count_cases == ["sub-stroke0002"], "the good cases of the first call are kept"
    assert f"skipped: {trees.ncct(root, 2)}: is truncated" in text
    assert f"skipped: {trees.ncct(root, 2)}: is truncated" in again


def test_skipping_every_case_is_refused(tmp_path):
    root = trees.isles24(tmp_path / "data", 2)
    _empty(trees.mask(root, 1))
    _empty(trees.mask(root, 2))

    with pytest.raises(ConfigError) as error:
        run(root, tmp_path / "out", skip_bad=True)

    assert len(error.value.lines) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_data_set_without_foreground_is_refused(tmp_path):
    root = trees.isles24(tmp_path / "data", 3)
    for number in (1, 2, 3):
        trees.write(trees.mask(root, number), np.zeros(trees.SHAPE, np.uint8))

    with pytest.raises(ConfigError, match="no foreground: the masks of all 3 cases are empty"):
        run(root, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("settings", [{"image_size": 8}, {"workers": 0}, {"format": "dicom"}])
def test_a_bad_setting_is_one_line(tmp_path, settings):
    with pytest.raises(ConfigError) as error:
        run(trees.isles24(tmp_path / "data", 1), tmp_path / "out", **settings)

    assert len(error.value.lines) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
