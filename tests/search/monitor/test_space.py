"""Room on a study's disk: said before it is needed, with the hours that are left."""

import json
import shutil
from pathlib import Path

import pytest

from search.ledger.journal import Ledger
from search.monitor.live_screen import Screen
from search.monitor.snapshot import StudySnapshot
from search.monitor.space import RESERVE_BYTES, SpaceWatch, note_of, space_of
from search.storage.studies import read_study
from search.study.config import StudyConfig
from tests.fixtures.copies import segtune
from tests.search import offline

EACH = 1_000_000


@pytest.fixture
def runs(tmp_path: Path, store: Path) -> Path:
    """A study of which three of seven trials have ended, in 30 minutes, with a megabyte each."""
    runs = tmp_path / "runs"
    config = offline.study(store)
    with offline.opened(config, runs / "toy") as session:
        offline.propose(session)
        for number in (0, 1, 2):
            offline.train(session, session.state.trials[number])
            run_dir = runs / "toy/trials" / f"{number:04d}"
            used = sum(path.stat().st_size for path in run_dir.rglob("*") if path.is_file())
            (run_dir / "ema.pt").write_bytes(bytes(EACH - used))
    return runs


def free(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=left)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)


def test_what_is_needed_and_for_how_long_it_lasts(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, state = read_study(runs / "toy")
    monkeypatch.setattr(
        type(state.meter), "spent", lambda *_: {"wall_hours": 0.5, "gpu_hours": 0, "epochs": 9}
    )
    free(monkeypatch, 12 * EACH)
    found = space_of(study, state, runs / "toy")
    assert found is not None and found.needed == 4 * EACH
    assert found.hours == pytest.approx(12 * 0.5 / 3)
    assert found.is_short
    free(monkeypatch, RESERVE_BYTES + 5 * EACH)
    found = space_of(study, state, runs / "toy")
    assert found is not None and not found.is_short


def test_every_surface_says_it(runs: Path, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    free(monkeypatch, RESERVE_BYTES)
    line = f"{runs} has 1.1 GB free, and the rest of toy needs about 4.0 MB: full in about"
    assert f"space       {line}" in segtune("status", "toy", "--runs", runs)
    said = json.loads(segtune("status", "toy", "--runs", runs, "--json"))["space"]
    assert said["free"] == RESERVE_BYTES and said["needed"] == 4 * EACH and line in said["line"]
    assert note_of(runs / "toy").startswith(f"note: {line}")
    snapshot = StudySnapshot.of(Ledger.open(runs / "toy/ledger.jsonl", writer=False))
    assert snapshot
    screen = Screen(snapshot, "pid 7 on host", runs / "toy").lines(300, 40, 0.0)
    assert any(text.plain.startswith(f"space       {line}") for text in screen)
    free(monkeypatch, 10 * RESERVE_BYTES)
    assert "space" not in segtune("status", "toy", "--runs", runs) and not note_of(runs / "toy")


def test_a_driver_says_it_once_and_again_when_half_of_the_hours_are_gone(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.monitor.space.LOOK_S", 0.0)
    study, state = read_study(runs / "toy")
    watch = SpaceWatch(runs / "toy")
    said = []
    for left in (4e9, 1e9, 0.9e9, 0.6e9, 0.45e9, 4e9, 0.4e9):
        free(monkeypatch, int(left))
        said.append(watch.look(study, state))
        assert bool(watch.note) == (left < 4e9)
    assert said == [False, True, False, False, True, False, True]


def test_nothing_is_known_before_a_trial(tmp_path: Path, store: Path) -> None:
    config: StudyConfig = offline.study(store)
    with offline.opened(config, tmp_path / "toy") as session:
        assert space_of(config, session.state, tmp_path / "toy") is None
        assert not SpaceWatch(tmp_path / "toy").look(config, session.state)
