"""What a driver does when it cannot write: it waits, and nothing is lost."""

import errno
from pathlib import Path
from typing import Any

import pytest

from search.ledger.journal import Event
from search.ledger.session import LiveStudy
from tests.search import offline


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A disk that is full for three attempts; returns them."""
    monkeypatch.setattr("search.ledger.session.LiveStudy.FULL_S", 0.001)
    return []


def fill(live: LiveStudy, attempts: list[int], monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    append = live.ledger.append

    def full_for_a_while(*events: Event) -> list[Event]:
        attempts.append(len(attempts))
        if len(attempts) <= times:
            raise OSError(errno.ENOSPC, "No space left on device", str(live.ledger.path))
        return append(*events)

    monkeypatch.setattr(live.ledger, "append", full_for_a_while)


def test_waits_while_the_disk_is_full(
    store: Path,
    tmp_path: Path,
    full: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with offline.opened(offline.study(store), tmp_path) as live:
        fill(live, full, monkeypatch, 3)
        live.record({"event": "threshold", "dice": 0.5})
        assert len(full) == 4
        assert live.state.threshold is not None and live.state.threshold["dice"] == 0.5
        assert [record.message for record in caplog.records] == [
            f"{live.folder}: No space left on device; waiting for space"
        ]


def test_told_to_stop_it_waits_no_longer(
    store: Path, tmp_path: Path, full: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline.opened(offline.study(store), tmp_path) as live:
        fill(live, full, monkeypatch, 3)
        heard: list[dict[str, Any]] = []
        live.listeners.append(heard.append)
        live.stopping = "SIGTERM"
        with pytest.raises(OSError, match="No space left"):
            live.record({"event": "threshold", "dice": 0.5})
        assert len(full) == 1 and not heard and live.state.threshold is None
