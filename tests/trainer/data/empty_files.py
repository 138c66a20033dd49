"""Data sets of which the names alone matter, and the lines about those that are refused."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from trainer.configfile import ConfigError
from trainer.data.formats import find_cases

NUMBERS = (1, 2, 3)


def files(root: Path, *names: str) -> Path:
    """Write files of no content: readers go by names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def refusal(root: Path, format: str | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        find_cases(root, format)
    assert all("\n" not in line for line in error.value.lines)
    return str(error.value)


def isles22(root: Path, sessions: Iterable[int] = (1,), masks: Iterable[int] = (1,)) -> Path:
    """Write the names of the archive as it was published."""
    for n in NUMBERS:
        for session in sessions:
            name = f"sub-s{n}/ses-000{session}/dwi/sub-s{n}_ses-000{session}"
            flair = f"{name}_FLAIR.nii.gz".replace("/dwi/", "/anat/")
            files(root, f"{name}_dwi.nii.gz", f"{name}_adc.nii.gz", flair)
        for session in masks:
            folder = f"derivatives/sub-s{n}/ses-000{session}"
            files(root, f"{folder}/sub-s{n}_ses-000{session}_msk.nii.gz")
    return root
