"""`status` says in one line what is wrong with a study, since when, and what to type."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from search.ledger import lease
from search.ledger.budget import Meter
from search.ledger.journal import Ledger
from search.ledger.lease import Lease
from search.ledger.session import StudySession
from search.monitor.snapshot import StudySnapshot
from search.monitor.status import render, status, status_of
from tests.search import offline


def begun(store: Path, folder: Path, **settings: Any) -> Path:
    """A study of which two trials train, and its driver is gone."""
    folder = folder / "toy"
    folder.mkdir()
    with offline.opened(offline.study(store, **settings), folder) as session:
        offline.propose(session)
        for trial in (0, 1):
            started(session, trial)
    return folder


def started(session: StudySession, trial: int) -> None:
    session.record({"event": "started", "trial": trial, "attempt": 1, "host": "h", "pid": 1})


def said(folder: Path, driver: str | None = None, later_s: float = 0.0) -> str:
    snapshot = StudySnapshot.of(Ledger.open(folder / "ledger.jsonl", writer=False))
    assert snapshot
    with pytest.MonkeyPatch.context() as patch:
        now = time.time() + later_s
        patch.setattr(time, "time", lambda: now)
        result = status_of(snapshot, folder, driver)
    line = result["problem"]["line"] if result["problem"] else ""
    assert (f"problem     {line}" in render(result)) == bool(line)
    return line


def interrupted(folder: Path, cause: str, store: Path) -> None:
    with offline.opened(offline.study(store), folder) as session:
        for trial in session.live():
            started(session, trial.number)
            about = {"trial": trial.number, "epoch": 0, "reason": "OSError: [Errno 5]"}
            session.record({"event": "interrupted", **about, "cause": cause})


def test_a_driver_that_is_gone(store: Path, tmp_path: Path) -> None:
    folder = begun(store, tmp_path)
    line = said(folder, later_s=7200)
    assert f"(pid {os.getpid()} on " in line and "ended without a word, for 2" in line
    assert f"segtune launch {folder}/study.yaml --runs {tmp_path}" in line
    found = status(folder)["problem"]
    assert abs(found["since"] - time.time()) < 60 and found["remedy"].startswith("segtune launch")


def test_stopped_by_hand_and_spent(store: Path, tmp_path: Path) -> None:
    folder = begun(store, tmp_path)
    interrupted(folder, "stop", store)
    assert said(folder).startswith("it was told to stop")
    (tmp_path / "other").mkdir()
    folder = begun(store, tmp_path / "other", budget={"wall_hours": 1e-9})
    line = said(folder)
    assert line.startswith("stopped: the budget of 1e-09 wall hours is spent")
    assert line.endswith("budget.wall_hours=MORE")


def test_trials_that_wait_for_storage_or_for_a_node(store: Path, tmp_path: Path) -> None:
    folder = begun(store, tmp_path)
    interrupted(folder, "storage", store)
    assert said(folder, "pid 1 on h").startswith("all trials wait for storage (OSError: [Errno 5])")
    interrupted(folder, "node", store)
    assert said(folder, "pid 1 on h") == ""
    line = said(folder, "pid 1 on h", later_s=600)
    assert line.startswith("no node runs a trial (the last one was lost), for 10 min")


def test_a_driver_that_is_silent(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun(store, tmp_path)
    held = Lease.take(folder)
    try:
        driver = f"pid {os.getpid()} on {os.uname()[1]}"
        assert "no sign of life" not in said(folder, driver)
        assert "no sign of life" not in said(folder, driver, later_s=300), "a clock that is ahead"
        path = lease.lease_path(folder, held.fence)
        ago_s = time.time() - 300
        os.utime(path, (ago_s, ago_s))
        line = said(folder, driver)
        assert line.startswith(f"{driver} holds the study and gives no sign of life, for 5 min")
        assert f"kill -CONT {os.getpid()}" in line and f"kill -9 {os.getpid()}" in line
        monkeypatch.setattr(lease, "machine", lambda: "another")
        os.utime(path, (ago_s, ago_s))
        assert "kill -9" not in said(folder, driver)
    finally:
        held.release()


def test_mlflow_that_is_away(store: Path, tmp_path: Path) -> None:
    folder = begun(store, tmp_path)
    (folder / "mlflow.json").write_text('{"uri": "x", "delivered": 1, "reported": 0}')
    assert "MLflow" not in said(folder, "pid 1 on h")
    line = said(folder, "pid 1 on h", later_s=900)
    assert line.startswith("MLflow lacks ") and "segtune sync toy" in line


def test_a_clock_that_jumps_for_a_moment_spends_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = offline.study(store, budget={"wall_hours": 1.0})
    with offline.opened(config, tmp_path) as session:
        offline.propose(session)
        started(session, 0)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 36_000)
        session.record({"event": "threshold", "dice": 0.5})
        assert session.overspent(session.now_s) is None
        monkeypatch.setattr(time, "time", real)
        report = {"epoch": 1, "value": 0.5, "metrics": {"val/dice": 0.5}}
        session.record({"event": "reported", "trial": 0, **report})
        assert session.overspent(session.now_s) is None
    events = Ledger.open(tmp_path / "ledger.jsonl", writer=False).events
    assert max(event["time"] for event in events) > real() + 30_000  # the jump is in the ledger
    assert 0 <= sum(event["after_s"] for event in events) < 600  # and what was charged beside it
    spent = Meter()
    for event in events:
        spent.apply(event)
    assert spent.wall_s < 600 and spent.attempt_s < 600
    old = Meter()  # as a ledger that does not say it is charged
    for event in events:
        old.apply({key: value for key, value in event.items() if key != "after_s"})
    assert old.wall_s > 30_000
