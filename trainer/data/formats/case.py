"""What every reader returns, and how files are picked."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.nifti import NIFTI_SUFFIXES, PICTURE_SUFFIXES, Source

TOGETHER = " + "
"""Between the names of a label that several regions hold."""


@dataclass(frozen=True)
class RawCase:
    """One patient's files. Paths that do not exist are reported when they are read."""

    case_id: str
    images: dict[str, Source]
    """By modality; the first is the reference, on whose grid the mask lies."""
    mask: Source
    clinical: dict[str, str | float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundCases:
    """A data set in one reader's layout."""

    cases: list[RawCase]
    """Sorted by id."""
    notes: list[str] = field(default_factory=list)
    """What was left out, one line each."""
    label_names: dict[int, str] = field(default_factory=dict)
    """Of the masks' labels, in lower case, where a description names them."""
    ignore_label: int | None = None
    """Of voxels that nobody annotated."""


def image_files(folder: Path) -> list[Path]:
    """Return all NIfTI files and pictures below a folder, sorted; hidden ones are left out."""
    suffixes = (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES)
    found = (path for path in folder.rglob("*") if path.name.lower().endswith(suffixes))
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


@dataclass(frozen=True)
class Tree:
    """A BIDS-like data set: the raw files and the derived files of each subject."""

    raw: Path
    derivatives: Path
    subjects: list[str]
    """In either of the two, sorted."""
    raw_files: dict[str, list[Path]]
    derived_files: dict[str, list[Path]]

    def has_raw(self, modality: str) -> bool:
        """Return whether any subject has a raw file of a modality."""
        named = f"_{modality}."
        return any(named in path.name for paths in self.raw_files.values() for path in paths)


def subject_tree(root: Path, only: str | None = None) -> Tree | None:
    """Return the tree of `raw_data` (or `rawdata`) and `derivatives`, None where one is missing.

    Args:
        root: Folder of both.
        only: Look at this subject alone.
    """
    raw = next((root / name for name in ("raw_data", "rawdata") if (root / name).is_dir()), None)
    derivatives = root / "derivatives"
    if raw is None or not derivatives.is_dir():
        return None
    named = {path.name for part in (raw, derivatives) for path in part.glob("sub-*")}
    subjects = sorted(name for name in named if only in (None, name))
    return Tree(
        raw,
        derivatives,
        subjects,
        raw_files={subject: image_files(raw / subject) for subject in subjects},
        derived_files={subject: image_files(derivatives / subject) for subject in subjects},
    )


def stem(path: Path) -> str:
    """Return a file's name without its (double) suffix."""
    for suffix in (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def ending(files: Iterable[Path], end: str, otherwise: Path) -> Path:
    """Return the file whose stem ends so, compressed before uncompressed, else `otherwise`."""
    found = [path for path in files if stem(path).endswith(end)]
    return max(found, key=lambda path: (path.name.endswith(".gz"), path), default=otherwise)


def modality_name(text: str) -> str:
    """Return a name fit for a column and a configuration key: `T1w MRI` -> `t1w_mri`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "image"
