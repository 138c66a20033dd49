"""A new folder that appears whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.configfile import ConfigError


def check_free(out: Path) -> None:
    """Refuse a place where something is already, or that is in no folder.

    Raises:
        ConfigError: It is.
    """
    if out.exists() or out.is_symlink():
        raise ConfigError([f"{out}: exists; name a folder that does not"])
    if not out.absolute().parent.is_dir():
        raise ConfigError([f"{out}: no such folder: {out.parent}"])


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Give a folder to fill, which gets its name when all of it is on the disk."""
    folder = out.absolute().with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    folder.mkdir()
    try:
        yield folder
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        check_free(out)
        folder.rename(out.absolute())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
