"""`segtune check` of a study's files as they may lie about: unread, shared by a group, no files."""

import errno
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from search.workflows.check.study import check_study
from tests.search.conftest import ROOT


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A finished study of version 0.1, whole but for what its repair has mended."""
    folder = tmp_path / "finished"
    shutil.copytree(ROOT / "tests" / "fixtures" / "v0_1" / "runs" / "finished", folder)
    for path in folder.rglob("*"):
        path.chmod(0o775 if path.is_dir() else 0o664)
    check_study(folder, repair=True)
    return folder


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_what_cannot_be_read_is_not_damaged(
    study: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(file: zipfile.ZipFile) -> None:
        raise OSError(number, "cannot be read", file.filename)

    monkeypatch.setattr(zipfile.ZipFile, "testzip", unread)
    before = sorted(study.rglob("*"))
    with pytest.raises(OSError, match="cannot be read"):
        check_study(study, repair=True)
    assert sorted(study.rglob("*")) == before


def test_what_is_mended_for_a_group_is_the_groups(study: Path) -> None:
    study.chmod(0o2775)
    ledger = study / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    check_study(study, repair=True)
    assert ledger.read_bytes() == whole
    assert [path for path in study.iterdir() if not path.stat().st_mode & 0o020] == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "config.yaml", "cases.parquet", "checkpoints/000000000384.pt"]
)
def test_a_fifo_in_place_of_a_file_is_damage(study: Path, name: str) -> None:
    fifo = study / "trials" / "0003" / name
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    assert f"trials/0003/{name}" in [row.what for row in check_study(study)]
    check_study(study, repair=True)
    assert not fifo.is_fifo()
