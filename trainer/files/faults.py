"""What a line says of a file that could not be read or written: whose it is, and what helps."""

import errno
import os
import shlex
import stat
from pathlib import Path


def fault_line(error: OSError) -> str:
    """Return an error in one line; of a file that is not ours, with its owner and a remedy."""
    name, reason = error.filename, error.strerror
    if not (isinstance(name, str) and name and reason):
        return str(error) or type(error).__name__
    remedy = _not_ours(Path(name)) if error.errno in (errno.EACCES, errno.EPERM) else ""
    return ": ".join(filter(None, (name, reason, remedy)))


def _not_ours(path: Path) -> str:
    """Return who owns the nearest thing on the way to a path that may be looked at."""
    for there in (path, *path.parents):
        try:
            status = there.stat()
        except OSError:
            continue
        who = "you" if status.st_uid == os.geteuid() else _owner(there)
        mode = stat.filemode(status.st_mode)
        mend = "chmod -R g+rwX" if there.is_dir() else "chmod g+rw"
        command = f"`{mend} {shlex.quote(str(there))}`"
        share = command if who == "you" else f"ask {who} for {command}"
        return f"{there} belongs to {who} ({mode}): {share}, or name another folder"
    return ""


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"uid {path.stat().st_uid}"
