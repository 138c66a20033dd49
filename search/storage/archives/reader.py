"""Opening an archive that anybody may have made: checked before anything of it is used.

Names, kinds and sizes are those of `layout` or the file is refused, so that nothing lands outside
of its folder, no link or device is made and no bomb unpacked; then every byte is compared with its
SHA-256. Nothing of it is ever run: settings are YAML without tags, weights tensors alone.
"""

import hashlib
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from search.storage.archives.layout import (
    FORMAT,
    MANIFEST,
    MAX_DIRECTORY_BYTES,
    MAX_RATIO,
    SLACK_BYTES,
    max_bytes,
)
from search.study.reference import plain_name
from trainer.configfile import ConfigError
from trainer.files.documents import from_json
from trainer.files.regular_files import open_regular

PIECE = 4 << 20
_DAMAGED = (
    zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError,
    UnicodeDecodeError, ValueError, struct.error, OverflowError, zlib.error,
)  # fmt: skip
"""What zipfile and zlib raise of damage."""


class Archive(NamedTuple):
    """An archive whose members are those that its manifest lists, their content not read yet."""

    path: Path
    study: str
    facts: Mapping[str, Any]
    """What the manifest says."""
    key: str
    """Names its content: the SHA-256 of the manifest, which has those of all else."""
    file: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]
    """By name below the study's folder, the manifest included."""

    @property
    def size(self) -> int:
        """Bytes of all members, unpacked."""
        return sum(info.file_size for info in self.members.values())

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a member's content, and compare it with its SHA-256 at the end.

        Raises:
            ConfigError: It is not as it was archived.
            OSError: It cannot be read.
        """
        digest = hashlib.sha256()
        with refusing(self.path), self.file.open(self.members[name]) as member:
            while piece := member.read(PIECE):
                digest.update(piece)
                yield piece
        expected = self.key if name == MANIFEST else self.facts["files"][name]["sha256"]
        if digest.hexdigest() != expected:
            rule = "is not as it was archived (its SHA-256 is another)"
            raise ConfigError([f"{self.path}: {name}: {rule}: get the archive again"])

    def verify(self) -> None:
        """Compare every member with its SHA-256.

        Raises:
            ConfigError: One is not as it was archived.
            OSError: It cannot be read.
        """
        for name in self.members:
            for _ in self.pieces(name):
                pass


def may_be_archive(path: Path) -> bool:
    """Return whether a path is a file that is, or is called, a ZIP file: what is wrong is said."""
    try:
        with open_regular(path) as file:
            return file.read(2) == b"PK" or path.suffix.lower() == ".zip"
    except OSError:
        return False


def is_archive(path: Path) -> bool:
    """Return whether a path is a file with an archive's manifest in it, sound or not."""
    try:
        with open_regular(path) as file:
            if file.read(2) != b"PK" or _directory_bytes(file) > MAX_DIRECTORY_BYTES:
                return False
            with zipfile.ZipFile(file) as content:
                return any(name.count("/") == 1 and name.endswith(f"/{MANIFEST}")
                           for name in content.namelist())  # fmt: skip
    except (OSError, *_DAMAGED):
        return False


@contextmanager
def opened_zip(path: Path) -> Iterator[Archive]:
    """Open an archive, and check all but its members' content.

    Raises:
        ConfigError: It is none, is damaged, or has what no archive has.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        if file.read(2) != b"PK":
            raise ConfigError([f"{path}: is no archive of a study: segtune archive makes one"])
        size = os.fstat(file.fileno()).st_size
        with refusing(path):
            if (directory := _directory_bytes(file)) > min(size, MAX_DIRECTORY_BYTES):
                raise ConfigError([f"{path}: refused: its list of members has {directory} bytes"])
            archive = _checked(path, zipfile.ZipFile(file), size)
        with archive.file:
            yield archive


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Say in one line that an archive is damaged, whatever zipfile raises of it."""
    try:
        yield
    except ConfigError:
        raise
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        rule = f"damaged, or no archive of a study ({reason}): get it again"
        raise ConfigError([f"{path}: {rule}"]) from error


def _directory_bytes(file: IO[bytes]) -> int:
    """Return how long the list of members at a ZIP file's end says that it is.

    Raises:
        ValueError: There is none.
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - (1 << 16) - 22 - 76))
    tail = file.read()
    file.seek(0)
    if (end := tail.rfind(b"PK\5\6")) < 0 or len(tail) < end + 22:
        raise ValueError(f"no list of members in its last {size - start} bytes")
    found: int = struct.unpack("<L", tail[end + 12 : end + 16])[0]
    large = end - 76  # where zipfile looks for the record of a large file
    if large >= 0 and tail[large : large + 4] == b"PK\6\6":
        found = max(found if found < 0xFFFFFFFF else 0,
                    struct.unpack("<Q", tail[large + 40 : large + 48])[0])  # fmt: skip
    return found


def _checked(path: Path, file: zipfile.ZipFile, size: int) -> Archive:
    infos = file.infolist()
    tops = {info.filename.partition("/")[0] for info in infos}
    if len(tops) != 1 or not re.fullmatch(r"[^/\\]+", study := next(iter(tops))):
        raise ConfigError([f"{path}: refused: an archive has one folder, and this {len(tops)}"])
    plain_name(study)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.partition("/")[2]
        if problem := _problem(name, info) or ("is there twice" if name in members else ""):
            raise ConfigError([f"{path}: refused: {info.filename!r}: {problem}"])
        members[name] = info
    if sum(info.compress_size for info in infos) > size:
        raise ConfigError([f"{path}: refused: its members lie in each other"])
    if MANIFEST not in members:
        raise ConfigError([f"{path}: is no archive of a study: has no {study}/{MANIFEST}"])
    content = file.read(members[MANIFEST])
    facts = from_json(content)
    if facts.get("format") != FORMAT:
        rule = f"this reads {FORMAT}"
        raise ConfigError([f"{path}: {MANIFEST}: format {facts.get('format')!r}: {rule}"])
    listed = facts.get("files")
    if facts.get("study") != study or not _is_list(listed):
        raise ConfigError([f"{path}: {MANIFEST}: damaged: names no study or no files"])
    assert isinstance(listed, dict)
    weights = facts.get("weights", [])
    if not (isinstance(weights, list) and all(type(number) is int for number in weights)):
        raise ConfigError([f"{path}: {MANIFEST}: damaged: weights"])
    if odd := sorted({*listed} ^ (members.keys() - {MANIFEST})):
        missing = "lacks" if odd[0] in listed else "has beside them"
        raise ConfigError([f"{path}: is not as it was archived: {missing} {odd[0]}"])
    if short := [n for n, each in listed.items() if each["bytes"] != members[n].file_size]:
        raise ConfigError([f"{path}: is not as it was archived: {short[0]} has another size"])
    return Archive(path, study, facts, hashlib.sha256(content).hexdigest(), file, members)


def _is_list(listed: Any) -> bool:
    return isinstance(listed, dict) and all(
        isinstance(each, dict)
        and isinstance(each.get("sha256"), str)
        and isinstance(each.get("bytes"), int)
        for each in listed.values()
    )


def _problem(name: str, info: zipfile.ZipInfo) -> str:
    """Return why a member is refused; empty where it is not."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or info.is_dir():
        return "is no regular file"
    if (limit := max_bytes(name)) is None:
        return "no archive has a file of this name"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed as no archive is"
    if info.file_size > limit:
        return f"has {info.file_size} bytes, above {limit}"
    if info.file_size > MAX_RATIO * info.compress_size + SLACK_BYTES:
        return f"becomes {info.file_size} bytes of {info.compress_size}"
    return ""
