"""Checkpoints on a disk that fills up while they are written."""

import errno
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.saved import checkpoint

STATE = {"weights": torch.arange(3000.0), "parts": [torch.ones(10) for _ in range(20)]}


class Disk(io.RawIOBase):
    """A file on a disk that takes so many bytes more."""

    def __init__(self, free: int):
        self.free = free

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = min(len(data), self.free)
        self.free -= written
        return written


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    """Wherever it fills up, the error says so, and the checkpoint before it stays as it was."""
    checkpoint.save(tmp_path, 1, STATE)
    path = tmp_path / "000000000001.pt"
    sound = path.read_bytes()
    with monkeypatch.context() as patch:
        for free in range(0, len(sound), 97):
            disk = io.BufferedWriter(Disk(free))
            patch.setattr(checkpoint, "open", lambda *_, disk=disk: disk, raising=False)
            with pytest.raises(OSError) as raised:
                checkpoint.save(tmp_path, 2, STATE)
            assert raised.value.errno == errno.ENOSPC, free
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == sound


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_no_older_one_is_taken_for_one_that_cannot_be_read(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, {"epoch": 1})
    checkpoint.save(tmp_path, 2, {"epoch": 2})
    newest = tmp_path / f"{2:012d}.pt"

    def unread(file: zipfile.ZipFile) -> None:
        raise OSError(number, "cannot be read", str(newest))

    monkeypatch.setattr(zipfile.ZipFile, "testzip", unread)
    with pytest.raises(OSError, match="cannot be read"):
        checkpoint.load_latest(tmp_path)
    with pytest.raises(OSError, match="cannot be read"):
        checkpoint.read_if_whole(newest)
    monkeypatch.undo()
    newest.write_bytes(b"cut")
    assert (
        checkpoint.load_latest(tmp_path) == {"epoch": 1}
        and checkpoint.read_if_whole(newest) is None
    )
