"""A file by which the nodes of a cluster show that they see a study's folder as its driver does."""

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Self

from search.storage.s3 import Remote, is_remote, remote_of


class SharedMarker:
    """A file of a random name in a study's folder or in S3, and those that nodes write beside it.

    Args:
        folder: The study's; the mirror of one in S3.

    Attributes:
        name: Of the file.
        place: The folder or the address, for `answer_marker` on another node.
    """

    def __init__(self, folder: Path):
        self.name = f"seen-{uuid.uuid4().hex[:8]}"
        self._place = remote_of(folder) or folder
        self.place = self._place.uri if isinstance(self._place, Remote) else str(folder)
        self._answers: list[str] = []

    def __enter__(self) -> Self:
        if isinstance(self._place, Path):
            (self._place / self.name).touch()
        else:
            self._place.put(self.name, b"")
        return self

    def has(self, answer: str) -> bool:
        """Return whether the file that a node wrote is there."""
        self._answers.append(answer)
        if isinstance(self._place, Path):
            os.listdir(self._place)  # NFS asks its server again
            return (self._place / answer).exists()
        return self._place.get(answer) is not None

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if isinstance(self._place, Path):
                for path in self._place.glob(f"{self.name}*"):
                    path.unlink(missing_ok=True)
            else:
                self._place.delete([self.name, *self._answers])


def answer_marker(place: str, marker: str) -> str:
    """Write a file beside a marker, from the node on which this runs.

    Args:
        place: `SharedMarker.place`.
        marker: Its name.

    Returns:
        The file's name; empty where the marker is not there.

    Raises:
        OSError: The place cannot be read or written.
    """
    answer = f"{marker}-{uuid.uuid4().hex[:8]}"
    if is_remote(place):
        remote = Remote.parse(place)
        if remote.get(marker) is None:
            return ""
        remote.put(answer, b"")
    else:
        if not (Path(place) / marker).exists():
            return ""
        (Path(place) / answer).touch()
    return answer
