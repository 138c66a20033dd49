"""What a driver does when it cannot write: it waits, and nothing is lost."""

import errno
from pathlib import Path
from typing import Any

import pytest

from search.ledger.journal import Event
from search.ledger.session import StudySession
from tests.search import offline


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A disk that is full for three attempts; returns them."""
    monkeypatch.setattr("search.ledger.patience.PAUSE_S", 0.001)
    return []


def fill(
    session: StudySession, attempts: list[int], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    append = session.ledger.append

    def full_for_a_while(*events: Event) -> list[Event]:
        attempts.append(len(attempts))
        if len(attempts) <= times:
            raise OSError(errno.ENOSPC, "No space left on device", str(session.ledger.path))
        return append(*events)

    monkeypatch.setattr(session.ledger, "append", full_for_a_while)


def test_waits_while_the_disk_is_full(
    store: Path,
    tmp_path: Path,
    full: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with offline.opened(offline.study(store), tmp_path) as session:
        fill(session, full, monkeypatch, 3)
        session.record({"event": "threshold", "dice": 0.5})
        assert len(full) == 4
        assert session.state.threshold is not None and session.state.threshold["dice"] == 0.5
        waits, goes_on = (record.message for record in caplog.records)
        assert waits.startswith(f"{session.ledger.path}: No space left on device since ")
        assert waits.endswith("; waiting") and goes_on.endswith(": goes on after 0 s")


def test_told_to_stop_it_waits_no_longer(
    store: Path, tmp_path: Path, full: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline.opened(offline.study(store), tmp_path) as session:
        fill(session, full, monkeypatch, 3)
        heard: list[dict[str, Any]] = []
        session.listeners.append(heard.append)
        session.stopping = "SIGTERM"
        with pytest.raises(OSError, match="No space left"):
            session.record({"event": "threshold", "dice": 0.5})
        assert len(full) == 1 and not heard and session.state.threshold is None
