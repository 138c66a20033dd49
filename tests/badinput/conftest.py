"""The folder that commands run in; and tests/conftest.py is told how much bad input there was."""

import shutil
from pathlib import Path

import pytest

from search.ledger.journal import Ledger
from search.study.config import StudyConfig
from search.study.frozen import birth
from tests.badinput import study_files
from tests.badinput.judge import COUNTS
from tests.conftest import BAD_INPUT
from tests.search import offline
from trainer.data.store import Store

STUDIES = ("status STUDY", "status STUDY --json", "compare STUDY", "compare STUDY --json",
           "stop STUDY", "replay STUDY 1", "resume STUDY --top 1 --epochs 9",
           "retry STUDY", "retry STUDY --dry-run", "enqueue STUDY optimizer.lr=1e-3 --dry-run",
           "note STUDY:1 text", "stop STUDY:1",
           "confirm STUDY --dry-run", "explain STUDY:1")  # fmt: skip
"""Commands that read a study."""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, phantom_store: Path) -> Path:
    """A study file, a store, and in runs/ a study of three trials and a finished one."""
    place = tmp_path_factory.mktemp("template")
    shutil.copytree(phantom_store, place / "store")
    (place / "study.yaml").write_text(study_files.BASE.replace("STORE", "store"))
    (place / "config.yaml").write_text("data.store: store\nmodel.width: 8\nepochs: 1\n")
    write_study(place)
    offline.finished(place / "runs/toy", place / "store")
    (place / "empty").mkdir()
    (place / "data").symlink_to(phantom_store.parent / "dataset")
    (place / "runs" / "file").touch()
    return place


@pytest.fixture
def place(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder again, as the working directory."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("SEGTUNE_RUNS", raising=False)
    shutil.copytree(template, tmp_path / "place", symlinks=True)
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def write_study(place: Path) -> None:
    from search.study.load import load_study

    study: StudyConfig = load_study(place / "study.yaml", [f"data.store={place}/store"])
    params = {"optimizer.lr": 1e-3, "batch.effective": 2, "loss.weighting": "fixed"}
    with Ledger.open(place / "runs/demo/ledger.jsonl", writer=True) as ledger:
        ledger.append(
            {
                "event": "study",
                "uid": "0",
                "config": study.model_dump(mode="json"),
                "config_hash": study.config_hash(),
                **birth(study)._asdict(),
                "store_hash": Store.open(place / "store").content_hash,
                "commit": "",
                "versions": {},
            }
        )
        for number in range(3):
            about = {"trial": number}
            kind = "control" if number == 0 else "sampled"
            its = {"model.family": "unet"} if number == 0 else params
            ledger.append(
                {"event": "proposed", **about, "params": its, "kind": kind, "protected": not number}
            )
            ledger.append({"event": "started", **about, "attempt": 1, "host": "h", "pid": 1})
            metrics = {"val/dice": 0.1}
            ledger.append(
                {"event": "reported", **about, "epoch": 1, "value": 0.1, "metrics": metrics}
            )
            ledger.append(
                {"event": "ended", **about, "ending": "stopped", "epoch": 1, "reason": "why"}
            )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give it to the process that prints, where that is another one."""
    worker = getattr(session.config, "workeroutput", None)  # of pytest-xdist
    if worker is None:
        BAD_INPUT.append(COUNTS)
    else:
        worker["bad_input"] = {kind: dict(count) for kind, count in COUNTS.items()}
