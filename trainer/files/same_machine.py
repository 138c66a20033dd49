"""Whether a file's holder ran here, and how long ago: by no name and no clock that may differ."""

import os
import socket
from pathlib import Path
from tempfile import TemporaryFile


def machine() -> str:
    """Return what the processes of one running kernel share; hostnames can be equal by chance."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def clock_s(folder: Path) -> float:
    """Return the time by which a folder's files are dated, which may be a server's.

    Args:
        folder: A file is made there for a moment.

    Raises:
        OSError: It cannot be written.
    """
    with TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
