"""Archives as folders: unpacked once on this machine, read-only, and checked whenever they changed.

    CACHE/archives/<SHA-256 of the manifest>/STUDY/…   what was archived, every byte verified
    CACHE/archives/<SHA-256 of the manifest>.json      the file it came from, as it was then

CACHE is SEGTUNE_CACHE, else ~/.cache/segtune; `rm -r ~/.cache/segtune/archives` frees the space,
and the next command unpacks again. A folder with an `archive.json` is read-only to all commands,
also where somebody unpacked it by hand.
"""

import errno
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, NoReturn

from search.storage.archives.layout import MANIFEST
from search.storage.archives.reader import Archive, opened_zip
from search.storage.s3 import cache_folder
from trainer.configfile import ConfigError
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json

RESERVE_BYTES = 1 << 28
"""Of the cache's disk, which an archive leaves free."""


def open_archive(path: Path) -> Path:
    """Return the folder of an archived study, unpacked and verified.

    Raises:
        ConfigError: It is no archive, is damaged, or has what no archive has.
        OSError: It cannot be read, or there is no space for it.
    """
    with opened_zip(path) as archive:
        cache = cache_folder() / "archives"
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        place, record = cache / archive.key, cache / f"{archive.key}.json"
        about = path.stat()
        now = {
            "file": str(path.absolute()),
            "stat": [about.st_size, about.st_mtime_ns, about.st_ino],
        }
        if not place.exists():
            _unpack(archive, place)
        elif now["stat"] != _recorded(record).get("stat"):
            archive.verify()
        if now != _recorded(record):
            text = to_json(now)
            write_atomically(record, lambda temporary: temporary.write_text(text))
        return place / archive.study


def _recorded(record: Path) -> dict[str, Any]:
    try:
        return from_json(record.read_text())
    except (OSError, ValueError):
        return {}


def _unpack(archive: Archive, place: Path) -> None:
    """Write every member where it belongs; the place appears with all of them, or not at all."""
    if shutil.disk_usage(place.parent).free < archive.size + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place.parent))
    unfinished = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        for name in archive.members:
            path = unfinished / archive.study / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for piece in archive.pieces(name):
                    file.write(piece)
            path.chmod(0o444)
        try:
            unfinished.rename(place)
        except OSError:
            if not place.exists():  # another process was quicker
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_archived(folder: Path) -> bool:
    """Return whether a study's folder is that of an archive."""
    return (folder / MANIFEST).is_file()


def archive_file(folder: Path) -> Path | None:
    """Return the archive that a study's folder was unpacked from; None for any other folder."""
    if not is_archived(folder):
        return None
    place = folder.absolute().parent
    given = _recorded(place.with_name(f"{place.name}.json")).get("file")
    return Path(given) if isinstance(given, str) else folder


def facts_of(folder: Path) -> dict[str, Any]:
    """Return what the manifest of an archived study says; empty for any other."""
    return _recorded(folder / MANIFEST)


def check_not_archived(folder: Path) -> None:
    """Refuse to change an archived study.

    Raises:
        ConfigError: It is one, and how to go on.
    """
    if is_archived(folder):
        refuse(folder)


def refuse(folder: Path, what: str = "is an archive, and read-only") -> NoReturn:
    """Raise that an archived study cannot be changed, and how to go on.

    Args:
        folder: The study's.
        what: What it is.
    """
    name = archive_file(folder)
    rule = (
        "the study goes on where its folder and data are; another that learns from it: segtune "
        f"launch FILE.yaml data.store=PATH --warm-start {name}"
    )
    raise ConfigError([f"{name}: {what}: {rule}"])
