"""Faults of storage that pass while the ledger is written: waited for, said once, nothing lost."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from search.ledger import journal, patience
from search.ledger.journal import Ledger
from tests.search import offline
from trainer.exit_status import Exit, status_of_error
from trainer.files.passing_faults import PASSING


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return what lets a call of the system fail in the ledger so many times."""
    monkeypatch.setattr(patience, "PAUSE_S", 0.001)

    def begin(call: str, code: int, times: int, *, after: int = 0) -> list[int]:
        real, calls = getattr(os, call), list[int]()

        class Calls:
            def __getattr__(self, name: str) -> object:
                return failing if name == call else getattr(os, name)

        def failing(*words: object) -> object:
            calls.append(len(calls))
            if len(calls) <= times:
                if call == "write" and after:  # a part of it is there
                    os.write(words[0], words[1][:after])
                raise OSError(code, os.strerror(code))
            return real(*words)

        monkeypatch.setattr(journal, "os", Calls())
        return calls

    return begin


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EHOSTDOWN])
def test_a_file_server_that_hiccups_is_waited_for(
    store: Path,
    tmp_path: Path,
    faults: Callable[..., list[int]],
    caplog: pytest.LogCaptureFixture,
    call: str,
    code: int,
) -> None:
    with offline.opened(offline.study(store), tmp_path) as session:
        calls = faults(call, code, 3)
        session.record({"event": "threshold", "dice": 0.5}, {"event": "data", "ceiling": 0.9})
        assert len(calls) == 4 and session.state.threshold
    begin, end = [record.getMessage() for record in caplog.records]
    assert begin.startswith(f"{session.ledger.path}: {os.strerror(code)} since ")
    assert end.startswith(f"{session.ledger.path}: goes on after ")
    kinds = [e["event"] for e in Ledger.open(session.ledger.path, writer=False).events]
    assert kinds == ["driver", "study", "threshold", "data"]


def test_a_part_that_was_written_before_the_fault_is_removed(
    store: Path, tmp_path: Path, faults: Callable[..., list[int]]
) -> None:
    with offline.opened(offline.study(store), tmp_path) as session:
        size = session.ledger.path.stat().st_size
        faults("fsync", errno.EIO, 1)
        session.record({"event": "threshold", "dice": 0.5})
        line = session.ledger.path.read_bytes()[size:]
        assert line.count(b"\n") == 1 and b"threshold" in line


def test_what_remains_ends_with_the_file_and_a_status_that_is_repeated(
    store: Path,
    tmp_path: Path,
    faults: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "LIMIT_S", 0.02)
    with offline.opened(offline.study(store), tmp_path) as session:
        faults("fsync", errno.EIO, 10**6)
        with pytest.raises(OSError, match=r"ledger\.jsonl") as raised:
            session.record({"event": "threshold", "dice": 0.5})
        assert session.state.threshold is None
    assert status_of_error(raised.value) == Exit.AWAY
    kinds = [e["event"] for e in Ledger.open(session.ledger.path, writer=False).events]
    assert kinds[:2] == ["driver", "study"]


def test_what_does_not_pass_is_not_waited_for(
    store: Path, tmp_path: Path, faults: Callable[..., list[int]]
) -> None:
    with offline.opened(offline.study(store), tmp_path) as session:
        calls = faults("write", errno.EROFS, 10)
        with pytest.raises(OSError, match="Read-only") as raised:
            session.record({"event": "threshold", "dice": 0.5})
        assert len(calls) == 1
    assert status_of_error(raised.value) == Exit.REFUSED
    assert errno.EROFS not in PASSING
