"""Writing an archive: member by member in pieces, so that no weights are held in memory."""

import hashlib
import io
import stat
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from search.storage.archives.layout import FORMAT, MANIFEST, is_packed, max_bytes
from trainer.files.documents import to_json
from trainer.files.regular_files import open_regular

PIECE = 4 << 20


class ArchiveWriter:
    """An archive that is being written; `finish` makes it one.

    Args:
        file: The ZIP file, empty.
        study: The study's name.
    """

    def __init__(self, file: zipfile.ZipFile, study: str):
        self._zip = file
        self._study = study
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, content: bytes | IO[bytes]) -> None:
        """Add a member.

        Args:
            name: Below the study's folder.
            content: As it is, or open to be read to its end.

        Raises:
            OSError: It cannot be read, or the archive not be written.
        """
        assert max_bytes(name), f"{name}: no archive has this"
        assert name not in self.files, f"{name}: twice"
        about = zipfile.ZipInfo(f"{self._study}/{name}", time.localtime()[:6])
        about.compress_type = zipfile.ZIP_DEFLATED if is_packed(name) else zipfile.ZIP_STORED
        about.create_system, about.external_attr = 3, (stat.S_IFREG | 0o644) << 16
        digest, size = hashlib.sha256(), 0
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        with self._zip.open(about, "w", force_zip64=True) as member:
            while piece := source.read(PIECE):
                member.write(piece)
                digest.update(piece)
                size += len(piece)
        self.files[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def add_file(self, name: str, path: Path) -> bool:
        """Add a file where there is one, and return whether there is.

        Raises:
            OSError: It cannot be read, or the archive not be written.
        """
        try:
            with open_regular(path) as file:
                self.add(name, file)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Add the manifest; nothing comes after it.

        Args:
            facts: What it says beside the format, the study and the files.
        """
        values = {"format": FORMAT, "study": self._study, **facts, "files": self.files}
        self.add(MANIFEST, to_json(dict(values)).encode())
