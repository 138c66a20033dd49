"""A damaged mlflow.json ends no command and holds none up: all is delivered again."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.monitor.problem import problem_of
from search.monitor.snapshot import StudySnapshot
from search.storage.mlflow_cursor import FILE, Cursor, read_cursor, write_cursor
from search.tracking.tracker import Tracker
from tests.search import offline

DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "nul": lambda path: path.write_bytes(bytes(60)),
    "no uri": lambda path: path.write_text('{"delivered": 3}'),
    "no count": lambda path: path.write_text('{"uri": "x", "delivered": "many"}'),
    "endless": lambda path: path.write_text('{"uri": "x", "delivered": Infinity}'),
    "below nothing": lambda path: path.write_text('{"uri": "x", "delivered": -3}'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_all_is_delivered_again(store: Path, tmp_path: Path, damage: str) -> None:
    with offline.opened(offline.study(store), tmp_path) as session:
        offline.propose(session)
        DAMAGED[damage](session.folder / FILE)
        assert read_cursor(session.folder) is None
        assert Tracker(session, print, print).behind
        snapshot = StudySnapshot.of(session.ledger)
        assert snapshot is not None
        problem_of(snapshot, session.folder, "pid 1 on h", time.time() + 900)
        write_cursor(session.folder, Cursor("x", 2, 1))
        assert read_cursor(session.folder) == ("x", 2, 1)
