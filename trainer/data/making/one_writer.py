"""One process at a time makes a folder: a lock file beside it says who, where and since when.

The lock ends with its process, however that ends, and what was left of the file is taken over. The
file stays as long as an unfinished folder does, and tells that this is ours. It is a lock of the
file system, which most shared ones have among hosts too. Where hosts do not see each other's locks,
the file's age tells: its process touches it every few seconds.
"""

import errno
import fcntl
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.files.documents import from_json, to_json
from trainer.files.passing_faults import FULL, is_passing
from trainer.files.same_machine import clock_s, machine
from trainer.terminal import shown

BEAT_S = 5.0
"""Between two touches."""
SILENT_S = 30.0
"""A lock of another host that nobody touches for so long is nobody's."""
IN_THE_WAY = "is in the way, and nothing that was interrupted left it: move it away"
UNFINISHED = ".unfinished"
"""At the end of a folder's name while it is made."""


@contextmanager
def only_writer(out: Path) -> Iterator[Path]:
    """Be the only process that makes a folder, or say who is.

    Folders above it are made, and removed again where nothing came into them.

    Args:
        out: The folder.

    Yields:
        Where to make it: a folder beside it, which may have what an earlier process left.

    Raises:
        ConfigError: Another process makes it, or the folder above cannot be written.
        OSError: Its disk is full, or does not answer for now.
    """
    path = out.with_name(f".{out.name}.segtune-lock")
    unfinished = out.with_name(out.name + UNFINISHED)
    new = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    try:
        for folder in reversed(new):
            folder.mkdir(exist_ok=True)
        try:
            file = _take(path, out, unfinished)
        except OSError as error:
            if is_passing(error):
                raise naming_disk(error, out) from error
            raise ConfigError([f"{shown(out)}: {error.strerror or error}"]) from error
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, ended), name="lock", daemon=True)
        heart.start()
        try:
            yield unfinished
        finally:
            ended.set()
            heart.join()
            if _is_ours(path, file) and not unfinished.exists():
                path.unlink(missing_ok=True)
            os.close(file)
    finally:
        with suppress(OSError):  # something came into it
            for folder in new:
                folder.rmdir()


def naming_disk(error: OSError, folder: Path, *, needed: int = 0) -> OSError:
    """Return an error that says which disk is full, and how full; another one as it is.

    Args:
        error: Of writing into the folder.
        folder: It may be gone.
        needed: Bytes that would have been written yet, 0 where that is not known.
    """
    if error.errno not in FULL:
        return error
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    disk = next(each for each in (there.resolve(), *there.resolve().parents) if each.is_mount())
    free, files = shutil.disk_usage(there).free, os.statvfs(there)
    room = f"{_megabytes(free)} free" + (f", about {_megabytes(needed)} needed" if needed else "")
    if files.f_files and not files.f_favail:
        room += ", no further file allowed"
    reason = (
        f"{os.strerror(error.errno)} on the disk of {shown(disk)} ({room}): make room and run it "
        "again"
    )
    return OSError(error.errno, reason, str(folder))


def _take(path: Path, out: Path, unfinished: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                has_locks = True
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise ConfigError([_busy(out, _read(file))]) from None
                has_locks = False  # the age alone tells
            if not _is_ours(path, file):  # its holder has ended, and removed it, meanwhile
                os.close(file)
                continue
            who = _read(file)
            if os.fstat(file).st_size and "machine" not in who:
                raise ConfigError([f"{shown(path)}: {IN_THE_WAY}"])
            if unfinished.exists() and not who:
                path.unlink()
                raise ConfigError([f"{shown(unfinished)}: {IN_THE_WAY}"])
            elsewhere = who.get("machine") != machine() or not has_locks
            if who and elsewhere and clock_s(path.parent) - os.fstat(file).st_mtime < SILENT_S:
                raise ConfigError([_busy(out, who)])
            about = {"pid": os.getpid(), "host": socket.gethostname(), "machine": machine()}
            about["since"] = datetime.now().astimezone().isoformat(timespec="seconds")
            text = to_json(about, indent=None).encode() + b"\n"
            os.ftruncate(file, 0)
            os.pwrite(file, text, 0)
            return file
        except BaseException:
            with suppress(OSError):
                os.close(file)
            raise


def _busy(out: Path, who: dict[str, Any]) -> str:
    by = "another process"
    if who:
        by = f"pid {who.get('pid')} on {who.get('host')} since {who.get('since')}"
    return f"{shown(out)}: is being written by {by}: wait for it, or choose another folder"


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(OSError):
            os.utime(path)


def _is_ours(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except OSError:
        return False


def _read(file: int) -> dict[str, Any]:
    try:
        return from_json(os.pread(file, 4096, 0))
    except (OSError, ValueError):
        return {}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e10 else f"{size / 1e9:.0f} GB"
