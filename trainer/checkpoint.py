"""Checkpoints: written atomically, loaded without running code, the newest readable one wins."""

from pathlib import Path
from typing import Any

import torch

from trainer.atomic import write_atomically

KEEP = 2
"""The one before the newest is the way back when the newest is damaged."""


def save(folder: Path, images: int, state: dict[str, Any]) -> None:
    """Write `<images>.pt`, images being the training images seen, and keep the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{images:012d}.pt", lambda path: torch.save(state, path))
    for old in sorted(folder.glob("*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)


def load_latest(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Load the newest checkpoint that can be read; None where there is none."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except Exception as error:  # torch.load raises whatever its unzipping and unpickling raise
            print(f"{path}: damaged, the checkpoint before it is used ({type(error).__name__})")
            continue
        return state
    return None
