"""A folder of this user's in /tmp, for what has no better place."""

import os
import tempfile
from pathlib import Path


def private_folder() -> Path:
    """Return /tmp/segtune-UID, which nobody else may enter; a new folder if that is another's.

    Raises:
        OSError: There is no room in /tmp.
    """
    own = Path(f"/tmp/segtune-{os.getuid()}")
    own.mkdir(mode=0o700, exist_ok=True)
    about = own.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or own.is_symlink():
        return Path(tempfile.mkdtemp(prefix="segtune-", dir="/tmp"))
    return own
