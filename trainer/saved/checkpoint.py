"""Checkpoints: written atomically, loaded without running code, the newest readable one wins."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from trainer.files.atomic import write_atomically
from trainer.files.passing_faults import is_unread
from trainer.files.regular_files import open_regular

KEEP = 2
"""The one before the newest is the way back when the newest is damaged."""


def save(folder: Path, images: int, state: dict[str, Any]) -> None:
    """Write `<images>.pt`, images being the training images seen, and keep the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{images:012d}.pt", state)
    for old in sorted(folder.glob("*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)


def write(path: Path, state: dict[str, Any]) -> None:
    """Write one file atomically.

    Raises:
        OSError: The disk is full or fails.
    """

    def write_to(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # given a path, torch hides what went wrong
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch's own, as it closes what the disk had refused
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    write_atomically(path, write_to)


def read(path: Path) -> dict[str, Any]:
    """Load one file on the CPU, without running code from it.

    Every byte is checked first: torch reads tensors and not their checksums, and would go on with
    weights of which one is wrong.

    Raises:
        zipfile.BadZipFile: The file is damaged.
        Exception: Whatever torch.load raises.
    """
    with open_regular(path) as content:
        with zipfile.ZipFile(content) as file:
            if damaged := file.testzip():
                raise zipfile.BadZipFile(f"{path}: {damaged} is not as it was written")
        content.seek(0)  # given a path, torch hides what went wrong
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    return state


def read_if_whole(path: Path) -> dict[str, Any] | None:
    """Load one file as `read`; None where it is damaged, or not there.

    Raises:
        OSError: It cannot be read, which proves no damage.
    """
    try:
        return read(path)
    except Exception as error:  # as in load_latest
        if is_unread(error):
            raise
        return None


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint that is whole, on the CPU; None where there is none.

    Raises:
        OSError: One cannot be read, which proves no damage.
    """
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            return read(path)
        except Exception as error:  # torch.load raises whatever its unzipping and unpickling raise
            if is_unread(error):
                raise
            print(f"{path}: damaged, the checkpoint before it is used ({type(error).__name__})")
    return None
