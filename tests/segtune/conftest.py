"""A folder to work in, with a study that was really trained: the one of tests/fixtures."""

from pathlib import Path

import pytest

from tests.fixtures.copies import copied
from tests.fixtures.write import moved

FIXTURE = Path(__file__).parents[1] / "fixtures" / "semantics_2"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: mine.yaml, runs/mine with its trials, exported/, datasets/mine."""
    folder = copied(FIXTURE, tmp_path / "work")
    moved(folder, '"study":"finished"', '"study":"mine"')
    moved(folder, "named-by-the-command", "mine")
    (folder / "datasets").mkdir()
    names = {"study.yaml": "mine.yaml", "runs/finished": "runs/mine", "export": "exported"}
    for old, new in (names | {"dataset": "datasets/mine"}).items():
        (folder / old).rename(folder / new)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return folder
