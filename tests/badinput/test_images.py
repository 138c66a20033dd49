"""Damaged images: `prepare` refuses each with a line, or stores what an independent reader sees."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.badinput import corruption
from tests.badinput.judge import judge, run
from trainer.data.phantom import write_phantom
from trainer.data.store import Store

pytestmark = pytest.mark.timeout(240, func_only=True)

QUICK, ALL = 20, 600
CASE = "sub-stroke0001"
NAMES = {
    "ncct": f"raw_data/{CASE}/ses-01/{CASE}_ses-01_ncct.nii",
    "tmax": f"derivatives/{CASE}/ses-01/perfusion-maps/{CASE}_ses-01_space-ncct_tmax.nii",
    "mask": f"derivatives/{CASE}/ses-02/{CASE}_ses-02_lesion-msk.nii",
}


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One simulated patient, 33 x 37 x 14 voxels: the tree compressed (.gz) and plain ("")."""
    folder = tmp_path_factory.mktemp("scans")
    write_phantom(folder / "phantom", num_cases=1)
    for suffix in (".gz", ""):
        for name in NAMES.values():
            image = nibabel.load(folder / "phantom" / f"{name}.gz")
            small = image.slicer[::2, ::2, ::2]
            path = folder / f"tree{suffix}" / f"{name}{suffix}"
            path.parent.mkdir(parents=True)
            nibabel.save(small, path)
    return {suffix: folder / f"tree{suffix}" for suffix in (".gz", "")}


def seen(path: Path) -> NDArray[np.bool_]:
    """Read a mask as nobody here does: all of the file, nibabel's own scaling, in float64."""
    assert corruption.content(path)  # all of it: the checksum of a gzip file is at its end
    image = nibabel.load(path)
    values = np.asarray(image.dataobj, np.float64)
    image = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(values.reshape(values.shape[:3]), image.affine)
    )
    return np.asarray(image.dataobj) > 0.5


def check_store(out: Path, mask: Path) -> None:
    """Check that a store is whole, finite, and has the mask that is in the file."""
    store = Store.open(out)
    [case] = store.cases
    assert np.array_equal(store.native_mask(case), seen(mask)), "another mask than in the file"
    rows = range(store.num_slices)
    assert np.isfinite(store.images(rows)).all()
    assert set(np.unique(store.masks(rows))) <= {0, 1}


def damage(tree: Path, suffix: str, number: int) -> tuple[str, Path]:
    """Damage one file of a tree; return how, and which."""
    draw = np.random.default_rng([2026, number])
    way = corruption.WAYS[number % len(corruption.WAYS)]
    which = list(NAMES)[int(draw.integers(len(NAMES)))]
    path = tree / f"{NAMES[which]}{suffix}"
    way(path, draw)
    return f"{way.__name__} of the {which}", path


def answer_to(scans: dict[str, Path], folder: Path, number: int) -> None:
    suffix = (".gz", "")[number % 2]
    tree, out = folder / "data", folder / "store"
    shutil.copytree(scans[suffix], tree)
    how, path = damage(tree, suffix, number)
    prepare = ("prepare", tree, out, "--image-size", "16", "--workers", "1")
    try:
        answer = run(*prepare)
        mask = tree / f"{NAMES['mask']}{suffix}"
        # A mask that does not fit is named, whichever of the two was changed; an empty one has no
        # foreground; without any image of a modality it is the layout that is unknown.
        begins = (path, mask, tree) if "ncct" in how else (path, tree)
        if judge("images", answer, *begins, may_work=True):
            assert not out.exists()
            shutil.rmtree(tree)
            shutil.copytree(scans[suffix], tree)
            again = run(*prepare)
            assert again.status == 0, f"the good files afterwards: {again.lines}"
        check_store(out, mask)
    except BaseException as error:
        error.add_note(f"variant {number}: {how}")
        raise


@pytest.mark.parametrize("number", range(QUICK))
def test_a_damaged_image(scans, tmp_path, number):
    answer_to(scans, tmp_path, number)


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(QUICK, ALL))
def test_many_damaged_images(scans, tmp_path, number):
    answer_to(scans, tmp_path, number)
