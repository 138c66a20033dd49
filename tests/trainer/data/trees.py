"""Small data sets in the known layouts, written for one test each."""

import csv
import io
import json
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from rich.console import Console

from trainer.data.prepare import prepare
from trainer.data.store import Store

SHAPE = (40, 46, 6)
AFFINE = np.array([[4.0, 0, 0, -80], [0, 4, 0, -100], [0, 0, 6, -20], [0, 0, 0, 1]])


def write(path: Path, data: NDArray, affine: NDArray = AFFINE) -> Path:
    """Write a NIfTI file; the dtype is the array's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def head(shape: tuple[int, int, int] = SHAPE) -> tuple[NDArray, NDArray]:
    """Return a brain (an ellipsoid of 30 HU in 0) and where it is; nothing in it is symmetric."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    brain = (x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 1.2) ** 2 < 1
    values = brain * (30 + 8 * x + 5 * y + 2 * z)
    return values.astype(np.float32), brain


def lesion(shape: tuple[int, int, int] = SHAPE, size: int = 6) -> NDArray:
    """Return a mask in the brain's right anterior quarter."""
    mask = np.zeros(shape, np.uint8)
    x, y, z = (np.array(shape) * (0.55, 0.55, 0.4)).astype(int)
    mask[x : x + size, y : y + size, z : z + 2] = 1
    return mask


def isles24(root: Path, num_cases: int = 3) -> Path:
    """Write the challenge tree with NCCT, CBF and Tmax; lesions grow with the case number."""
    for number in range(1, num_cases + 1):
        case = f"sub-stroke{number:04d}"
        brain, inside = head()
        brain += inside * np.float32(number / 1000)  # nobody's is another's
        derived = root / "derivatives" / case
        write(root / "raw_data" / case / "ses-01" / f"{case}_ses-01_ncct.nii.gz", brain)
        maps = derived / "ses-01" / "perfusion-maps" / f"{case}_ses-01_space-ncct_"
        write(Path(f"{maps}cbf.nii.gz"), brain + 20 * inside)
        write(Path(f"{maps}tmax.nii.gz"), brain / 10)
        mask = derived / "ses-02" / f"{case}_ses-02_lesion-msk.nii.gz"
        write(mask, lesion(size=2 + number % 9))
        table = root / "phenotype" / case / "ses-01" / f"{case}_ses-01_demographic_baseline.csv"
        table.parent.mkdir(parents=True)
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["Age", "NIHSS at admission"], [60 + number, ""]])
    return root


def msd(root: Path, num_cases: int = 2, channels: tuple[str, ...] = ("MRI",)) -> Path:
    """Write MSD's layout: nnU-Net's suffixes where there are several channels."""
    for number in range(num_cases):
        brain, inside = head()
        brain += inside * np.float32(number / 1000)
        for channel in range(len(channels)):
            suffix = f"_{channel:04d}" if len(channels) > 1 else ""
            write(root / "imagesTr" / f"case_{number}{suffix}.nii.gz", brain * (channel + 1))
        write(root / "labelsTr" / f"case_{number}.nii.gz", lesion() * 2)
    names = {str(number): name for number, name in enumerate(channels)}
    (root / "dataset.json").write_text(json.dumps({"modality": names}))
    return root


def pictures(root: Path, num_cases: int = 3, colour: bool = False) -> Path:
    """Write `images/` and `masks/` with PNG files, 48 wide and 40 high."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(num_cases):
        pixels = np.zeros((40, 48, 3) if colour else (40, 48), np.uint8)
        pixels[4:36, 4:44] = (200, 100, 50) if colour else 120
        pixels[0, 0] = 1 + number
        mask = np.zeros((40, 48), np.uint8)
        mask[6:14, 8:20] = 1
        Picture.fromarray(pixels).save(root / "images" / f"{number}.png")
        Picture.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


def ncct(root: Path, number: int = 1) -> Path:
    """Return the path of a case's NCCT in the tree that `isles24` writes."""
    case = f"sub-stroke{number:04d}"
    return root / "raw_data" / case / "ses-01" / f"{case}_ses-01_ncct.nii.gz"


def tmax(root: Path, number: int = 1) -> Path:
    """Return the path of a case's Tmax."""
    case = f"sub-stroke{number:04d}"
    name = f"{case}_ses-01_space-ncct_tmax.nii.gz"
    return root / "derivatives" / case / "ses-01" / "perfusion-maps" / name


def mask(root: Path, number: int = 1) -> Path:
    """Return the path of a case's lesion mask."""
    case = f"sub-stroke{number:04d}"
    return root / "derivatives" / case / "ses-02" / f"{case}_ses-02_lesion-msk.nii.gz"


def run(dataset: Path, out: Path, **settings: object) -> tuple[Store, str]:
    """Prepare in this process; return the store and what was printed."""
    text = io.StringIO()
    settings = {"image_size": 32, "workers": 1} | settings
    store = prepare(dataset, out, console=Console(file=text, width=100), **settings)
    return store, text.getvalue()
