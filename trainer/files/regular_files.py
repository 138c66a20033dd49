"""Files that somebody else may have put there: read where they are files, and nothing else.

A fifo would keep whoever reads it waiting, a device never end, and a link leads elsewhere.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


class NotRegular(OSError):
    """What is there is a folder, fifo or device, or a link where none may be."""


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a file to be read.

    Args:
        path: The file.
        follow: Whether it may be a symbolic link to one.

    Raises:
        NotRegular: It is no regular file.
        OSError: It cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return open(descriptor, "rb")


def check_regular(path: Path) -> None:
    """Make sure that what opens a path by itself finds a file there.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    open_regular(path).close()


def _not_regular(path: Path) -> NotRegular:
    return NotRegular(errno.EINVAL, "is no regular file", str(path))
