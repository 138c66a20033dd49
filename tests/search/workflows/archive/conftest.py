"""A folder to work in, with a study that was really trained and one that was interrupted."""

from pathlib import Path

import pytest

from tests.fixtures.copies import copied
from tests.fixtures.write import moved

FIXTURE = Path(__file__).parents[3] / "fixtures" / "semantics_2"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: runs/mine, runs/interrupted, store/; its cache is here, too."""
    folder = copied(FIXTURE, tmp_path / "work")
    moved(folder, '"study":"finished"', '"study":"mine"')
    moved(folder, "study: finished", "study: mine")
    (folder / "runs/finished").rename(folder / "runs/mine")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return folder
