"""The folder `head` of a study that jobs work on: where its Ray is, and which job wants to leave.

Jobs on any host share the study's folder and nothing else, so they speak by files there. The lease
in it says which job is the head: it starts Ray, and the driver.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.ledger.users import user_name
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json
from trainer.files.regular_files import open_regular

MAX_BYTES = 1 << 16
LEAVES = "leaves."
"""Begins the file by which a node says that it has to go; what follows is its name."""


def head_folder(folder: Path) -> Path:
    """Return where jobs meet that work on the study of a folder."""
    return folder / "head"


def say(folder: Path, about: dict[str, Any]) -> None:
    """Say to all jobs where the study's Ray is, or that its driver has ended for good.

    Args:
        folder: The study's.
        about: `address`, with `leaves` where its job has to end; or `status`, with which the driver
            ended.

    Raises:
        OSError: The folder cannot be written.
    """
    text = to_json(about, indent=None)
    path = head_folder(folder) / "now.json"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def said(folder: Path) -> dict[str, Any]:
    """Return what the head says now; empty while it says nothing.

    Of another user's, a member of the study's group, there is `member`, the name, in place of
    `address`: a job joins what that names, and shows it the token.
    """
    try:
        with open_regular(head_folder(folder) / "now.json", follow=False) as file:
            about, uid = from_json(file.read(MAX_BYTES)), os.fstat(file.fileno()).st_uid
    except (OSError, ValueError):
        return {}
    if uid != os.getuid() and about.pop("address", None):
        about["member"] = user_name(uid)
    return about


def ask_to_leave(folder: Path, node: str) -> None:
    """Ask the driver to let a node go.

    Raises:
        OSError: The folder cannot be written.
    """
    (head_folder(folder) / f"{LEAVES}{node}").touch()


def let_go(folder: Path, node: str) -> None:
    """Let a node go that asked for it."""
    with suppress(OSError):
        (head_folder(folder) / f"{LEAVES}{node}").unlink()


def waits_to_leave(folder: Path, node: str) -> bool:
    """Return whether a node that asked to leave must wait still."""
    return (head_folder(folder) / f"{LEAVES}{node}").exists()


def leaving(folder: Path) -> Iterator[str]:
    """Yield the names of the nodes that ask to leave."""
    for path in head_folder(folder).glob(f"{LEAVES}*"):
        yield path.name.removeprefix(LEAVES)
