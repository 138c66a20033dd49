"""Who may change what a study writes: its owner, and where it was begun with `--group` that group.

The study's folder says so itself: it belongs to the group, has the set-group-ID bit, so that all
below it does too, and the group may write. Everybody who writes there goes by that.
"""

import grp
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.storage.s3 import remote_of
from trainer.configfile import ConfigError, did_you_mean


def of_a_group(folder: Path) -> bool:
    """Return whether a group shares a study's folder."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def use_modes_of(folder: Path) -> int:
    """Let what this process writes from here on be as a study's folder says; never for all.

    Returns:
        The umask before.
    """
    before = os.umask(0o022)
    os.umask((before | 0o022) & ~0o070 if of_a_group(folder) else before | 0o022)
    return before


@contextmanager
def modes_of(folder: Path) -> Iterator[None]:
    """Let what is written meanwhile be as a study's folder says."""
    before = use_modes_of(folder)
    try:
        yield
    finally:
        os.umask(before)


def check_group(name: str, folder: Path) -> None:
    """Check that a study may be begun for a group, or is of it already.

    Raises:
        ConfigError: There is no such group, the user is not in it, or the study is begun otherwise.
    """
    where = f"--group {name}"
    if remote_of(folder):
        rule = "a study in S3 has no modes: who may write there is up to the bucket"
        raise ConfigError([f"{where}: {rule}"])
    try:
        group = grp.getgrnam(name)
    except KeyError:
        hint = did_you_mean(name, [each.gr_name for each in grp.getgrall()])
        raise ConfigError([f"{where}: no such group on this machine{hint}"]) from None
    if os.geteuid() and group.gr_gid not in {os.getegid(), *os.getgroups()}:
        rule = f"you are not in it; who has just become a member: newgrp {name}, or log in again"
        raise ConfigError([f"{where}: {rule}"])
    if (folder / "ledger.jsonl").exists():
        about = folder.stat()
        if about.st_gid != group.gr_gid or not of_a_group(folder):
            rule = "was begun without it, and a study's group is named when it is begun"
            raise ConfigError([f"{where}: {folder}: {rule}"])


def begin_for_group(name: str, folder: Path) -> None:
    """Make a study's folder for a group, unless it is there.

    Raises:
        ConfigError: As `check_group`.
        OSError: It cannot be made.
    """
    check_group(name, folder)
    if (folder / "ledger.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, -1, grp.getgrnam(name).gr_gid)
    folder.chmod(0o2775)
