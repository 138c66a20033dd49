"""The files of a data set: which of them are images, and which are another program's."""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from trainer.configfile import ConfigError
from trainer.hints.suffixes import NIFTI_SUFFIXES, PICTURE_SUFFIXES

IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES)
STRANGERS = (
    "@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found", "System Volume Information",
)  # fmt: skip
"""Folders that a NAS, a desktop or an archive leaves among one's own, beside the hidden ones."""


def is_stranger(name: str) -> bool:
    """Tell the files and folders that are hidden or another program's by their name."""
    return name.startswith((".", "~$")) or name in STRANGERS


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, strangers left out.

    Linked folders are entered, unless they lead back to where one is. A link to nothing and what
    is no file (a pipe, say) are yielded too: each stands for a file, and is refused by its name.

    Raises:
        ConfigError: A folder may not be read.
    """
    return _walk(str(folder), ())


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in above:
            return
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError([f"{folder}: {error.strerror or error}"]) from error
    for entry in found:
        if is_stranger(entry.name):
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, (*above, (stat.st_dev, stat.st_ino)))
        else:
            yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def image_files(folder: Path) -> list[Path]:
    """Return all NIfTI files and pictures below a folder, sorted."""
    return sorted(path for path in walk(folder) if path.name.lower().endswith(IMAGE_SUFFIXES))


def folders(root: Path) -> list[Path]:
    """Return the folders right below one, linked ones too, sorted, strangers left out."""
    return sorted(path for path in root.iterdir() if not is_stranger(path.name) and path.is_dir())


def stem(path: Path) -> str:
    """Return a file's name without its (double) suffix."""
    name = path.name
    lower = name.lower()
    for suffix in IMAGE_SUFFIXES:
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def missing(path: Path) -> Path:
    """Return where a file would lie that was not found: a path at which there is none."""
    return path.with_name(f"no {path.name}") if path.exists() else path


def same_letters(name: str) -> str:
    """Return a name with each accented letter as one: macOS writes a letter and its accent."""
    return unicodedata.normalize("NFC", name)


def modality_name(text: str) -> str:
    """Return a name fit for a column and a configuration key: `T1w MRI` -> `t1w_mri`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "image"
