"""A folder of this user's alone among everybody's temporary files."""

import os
import tempfile
from pathlib import Path


def private_folder(above: str) -> Path:
    """Return `segtune-UID` in a folder of temporary files, and make it; another if it is not ours.

    Raises:
        OSError: There is no room, or nothing can be written there.
    """
    folder = Path(above, f"segtune-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or folder.is_symlink():
        folder = Path(tempfile.mkdtemp(prefix="segtune-", dir=above))
    return folder
