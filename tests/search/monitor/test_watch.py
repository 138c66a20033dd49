"""The screen beside a running driver, and what `status --watch` prints where there is none."""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from search.cli.main import main
from search.ledger.journal import Ledger
from search.monitor.live_screen import terminal
from search.monitor.watch import StudyFollower, watch
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_ledger import fetch_ledger
from search.storage.studies import open_as_driver
from tests.search.conftest import ROOT, Driver, write_study
from tests.search.monitor.test_snapshot import Simulated, study
from tests.terminal import Terminal

THRESHOLD = {"event": "threshold", "modality": "tmax", "above": True, "threshold": 6, "dice": 0.31}
SEGTUNE = [sys.executable, "-m", "search.cli.main"]


def num_reported(follower: StudyFollower) -> int:
    return len(follower.snapshot.state.reported)


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    simulated = Simulated(study())
    simulated.run()
    return simulated


@pytest.fixture
def folder(tmp_path: Path, simulated: Simulated) -> Path:
    """A study's ledger with 300 events and no driver."""
    with Ledger.open(tmp_path / "runs" / "known" / "ledger.jsonl", writer=True) as ledger:
        for first in range(0, 300, 10):
            ledger.append(*simulated.events[first : first + 10])
    return tmp_path / "runs" / "known"


def test_follows_what_is_appended(folder: Path, simulated: Simulated) -> None:
    follower = StudyFollower(folder)
    assert follower.driver is None and len(follower.snapshot.state.reported) > 50
    events: list[str] = []
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        assert follower.poll(lambda event: events.append(event["event"]))
        assert events == ["driver"] and f"pid {os.getpid()} " in str(follower.driver)
        snapshot = follower.snapshot
        for number, event in enumerate(simulated.events[300:420]):
            ledger.append(event)
            if number % 7 == 0:
                assert follower.poll() and not follower.poll()
        follower.poll()
    assert follower.snapshot is snapshot  # never read anew
    assert snapshot.state.reported == StudyFollower(folder).snapshot.state.reported
    assert follower.poll() and follower.driver is None


def test_a_command_for_what_failed_is_printed_as_it_is_typed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        trial = StudyFollower(folder).snapshot.state.live()[0]
        about = {"trial": trial.number, "epoch": trial.epoch, "reason": "its own"}
        ledger.append({"event": "ended", **about, "ending": "failed"})
    monkeypatch.setattr("search.monitor.watch.terminal", lambda: Console(file=io.StringIO()))
    watch(folder, every_s=None, as_json=False)
    assert capsys.readouterr().out.endswith(" 1 failed: segtune retry known\n")


def test_half_a_line_is_no_damage(folder: Path, simulated: Simulated) -> None:
    path = folder / "ledger.jsonl"
    with Ledger.open(path, writer=True) as ledger:
        before = path.stat().st_size
        ledger.append(*simulated.events[300:303])  # one append of three lines
    whole = path.read_bytes()
    path.write_bytes(whole[:before])
    follower = StudyFollower(folder)
    for cut in range(before, len(whole), 29):
        path.write_bytes(whole[:cut])
        assert not follower.poll()
    path.write_bytes(whole)
    assert follower.poll()
    assert len(follower.snapshot.state.reported) == len(
        StudyFollower(folder).snapshot.state.reported
    )


def test_a_file_that_was_replaced_is_read_anew(folder: Path, simulated: Simulated) -> None:
    path = folder / "ledger.jsonl"
    follower = StudyFollower(folder)
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:101]))  # as a mirror whose last lines never got to S3
    assert follower.poll()
    assert len(follower.snapshot.state.reported) == len(
        StudyFollower(folder).snapshot.state.reported
    )
    path.write_bytes(b"".join(whole[:101]) + b"nonsense\n")
    with pytest.raises(ValueError, match="line 102: damaged"):
        follower.poll()


def test_piped_it_prints_once_per_change(folder: Path) -> None:
    """Nobody runs it: once. While somebody does: after each change, and a last time."""
    words = ["status", "known", "--runs", str(folder.parent), "--watch", "--every", "0.2"]
    alone = CliRunner().invoke(main, words)
    assert alone.exit_code == 0 and alone.output.count("study ") == 1
    assert "\nproblem " in alone.output and "segtune launch" in alone.output
    for extra, divider in ((), "\n\n"), (("--json",), "\n"):
        with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
            timers = [
                threading.Timer(1.0, ledger.append, [THRESHOLD]),
                threading.Timer(2.0, ledger.close),
            ]
            for timer in timers:
                timer.start()
            result = CliRunner().invoke(main, [*words, *extra])
            for timer in timers:
                timer.join()
        assert result.exit_code == 0, result.output
        said = [part for part in result.output.split(divider) if part.strip()]
        assert len(said) == 3
    values = [json.loads(line) for line in said]
    assert [bool(value["driver"]) for value in values] == [True, True, False]


def test_options_of_watch_that_contradict_are_refused(folder: Path) -> None:
    runs = str(folder.parent)
    for words, line in (
        (["--every", "2"], "--every: goes with --watch"),
        (["--watch", "--submit", "http://h:1"], "segtune logs known --submit http://h:1 --follow"),
    ):
        result = CliRunner().invoke(main, ["status", "known", "--runs", runs, *words])
        assert result.exit_code == 2 and line in result.stderr
        assert result.stderr.count("\n") == 1


def test_follows_a_study_in_s3(s3: str, simulated: Simulated, tmp_path: Path, monkeypatch) -> None:
    """The driver writes elsewhere; here only what it has sent is seen."""
    place = Remote.parse(s3) / "known"
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "elsewhere"))
    with open_as_driver(mirror_of(place.parent) / "known") as ledger:
        ledger.append(*simulated.events[:50])
        monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "here"))
        folder = mirror_of(place.parent) / "known"
        end = time.monotonic() + 120
        while not (folder / "ledger.jsonl").exists():
            assert time.monotonic() < end
            fetch_ledger(folder)
        follower = StudyFollower(folder)  # which waits for the settings
        assert follower.driver
        snapshot = follower.snapshot
        ledger.append(*simulated.events[50:90])
        while len(snapshot.state.reported) < 15:
            assert time.monotonic() < end
            follower.poll()
        assert follower.snapshot is snapshot
    follower.poll()
    assert follower.driver is None


@pytest.fixture(scope="module")
def env(cluster: str, mlflow_uri: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": mlflow_uri, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def slow(tmp_path: Path, store: Path) -> Path:
    """A toy study of two trials at once, a second an epoch; returns its YAML."""
    return write_study(
        tmp_path / "runs",
        store,
        toy={"slow": "1"},
        trials={"num_trials": 4, "cpus_per_trial": 1},
        scheduler={"grace_period": 6, "max_t": 60, "reduction_factor": 3, "smoothing": 1},
    )


@pytest.fixture
def launched(slow: Path, cluster: str, env: dict[str, str]) -> Iterator[Terminal]:
    """`segtune launch` of it on a terminal."""
    words = ["tests.search.drive", str(slow), str(slow.parent), cluster]
    command = [sys.executable, "-m", *words]
    with Terminal(command, columns=100, rows=30, env=env, cwd=ROOT) as terminal:
        yield terminal


def both_run(text: str) -> bool:
    return "control running; references: 1 running" in text and "val/dice 0." in text


@pytest.mark.slow
def test_launch_and_watch_on_terminals(slow: Path, launched: Terminal, env: dict[str, str]) -> None:
    """Two shells show the same, Ctrl-C ends each of them as it should, and nothing is torn."""
    launched.wait_for(both_run)
    watching = [*SEGTUNE, "status", "toy", "--runs", str(slow.parent), "--watch", "--every", "0.3"]
    with Terminal(watching, columns=100, rows=30, env=env, cwd=ROOT) as watched:
        watched.wait_for(both_run)
        watched.type("\x03")
        assert watched.finish(20) == 0
        assert "Traceback" not in watched.grid.text and watched.grid.cursor_shown
    with Terminal(watching, columns=100, rows=30, env=env, cwd=ROOT) as watched:
        watched.wait_for(both_run)
        launched.type("\x03")
        assert launched.finish(60) == 0
        assert watched.finish(30) == 0
    here, there = launched.grid.text, watched.grid.text
    assert "stopping (SIGINT): 2 trials write their checkpoints" in here
    assert "interrupted at epoch" in here and "interrupted at epoch" in there
    assert here.count("study       toy") == there.count("study       toy") == 1
    assert "Nobody runs this study any more. To continue it" in there
    assert "Not finished; to continue: segtune launch" in here
    assert "Traceback" not in here + there
    # The screen was left as it was last, the leaderboard after it.
    screen = [line for line in here.splitlines() if line.startswith(("epochs ", "rungs "))]
    assert screen and all(line in there for line in screen[1:])
    assert here.index("study       toy") < here.index("Look at ")


def test_piped_launch_prints_plain_lines(
    calm: Driver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = calm.log.read_text()
    before = text[: text.index("Dice of each trial")]
    assert "epoch 1/9   val/dice 0." in before and "proposed    control" in before
    assert "\x1b" not in before and "running" not in before
    monkeypatch.setenv("FORCE_COLOR", "1")  # colours in a file are one thing, a screen another
    assert terminal() is None
