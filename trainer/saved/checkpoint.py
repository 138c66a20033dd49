"""Checkpoints: written atomically, loaded without running code, the newest readable one wins."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from trainer.atomic import write_atomically

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
    with zipfile.ZipFile(path) as file:
        if damaged := file.testzip():
            raise zipfile.BadZipFile(f"{path}: {damaged} is not as it was written")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint that can be read, on the CPU; None where there is none."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            return read(path)
        except Exception as error:  # torch.load raises whatever its unzipping and unpickling raise
            print(f"{path}: damaged, the checkpoint before it is used ({type(error).__name__})")
    return None
