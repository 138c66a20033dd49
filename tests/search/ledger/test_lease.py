"""One driver at a time, on one machine and on several that share a folder."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from search.ledger import lease
from search.ledger.lease import Lease, TakenOver, holder

HERE = f"pid {os.getpid()} on {os.uname()[1]}"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch):
    """Return what makes this process, from then on, one on another machine; with short times."""
    monkeypatch.setattr(lease, "LEASE_S", 0.6)
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    return lambda: monkeypatch.setattr(lease, "machine", lambda: "another")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_taken_and_released(tmp_path):
    assert holder(tmp_path) is None
    for fence in (1, 2, 3):
        held = Lease.take(tmp_path)
        assert (held.fence, holder(tmp_path)) == (fence, HERE)
        held.check()
        held.release()
        held.release()
        assert holder(tmp_path) is None
        assert names(tmp_path) == [f"lease.{fence:06d}"]


def test_the_number_is_above_what_the_ledger_has(tmp_path):
    held = Lease.take(tmp_path, above=41)
    assert held.fence == 42
    held.release()


def test_refused_on_one_machine_at_once(tmp_path):
    held = Lease.take(tmp_path)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=rf"{tmp_path}: this study is being run by {HERE}"):
        Lease.take(tmp_path)
    assert time.monotonic() - begun < lease.BEAT_S / 2
    held.check()
    held.release()


def test_refused_on_another_machine_after_a_heartbeat(tmp_path, elsewhere):
    held = Lease.take(tmp_path)
    elsewhere()
    assert holder(tmp_path) == HERE
    with pytest.raises(ValueError, match=f"is being run by {HERE}"):
        Lease.take(tmp_path)
    held.check()
    held.release()
    assert holder(tmp_path) is None
    begun = time.monotonic()
    Lease.take(tmp_path).release()  # a clean end needs no waiting
    assert time.monotonic() - begun < lease.BEAT_S / 2


def test_taken_over_when_the_heartbeat_stops(tmp_path, elsewhere, monkeypatch, caplog):
    monkeypatch.setattr(lease, "LEASE_S", 1.5)
    monkeypatch.setattr(lease, "BEAT_S", 100.0)
    dead = Lease.take(tmp_path)
    elsewhere()
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        held = Lease.take(tmp_path)
    assert 1.2 < time.monotonic() - begun < 4
    assert f"for a sign of life of {HERE}" in caplog.text and "takes over" in caplog.text
    assert names(tmp_path) == ["lease.000002"]
    with pytest.raises(TakenOver, match=r"another driver \(pid .* has taken this study over"):
        dead.check()
    dead.release()
    held.check()
    held.release()


def test_released_while_another_machine_waits(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 100.0)
    monkeypatch.setattr(lease, "LEASE_S", 30.0)
    held = Lease.take(tmp_path)
    elsewhere()
    threading.Timer(0.3, held.release).start()
    begun = time.monotonic()
    Lease.take(tmp_path).release()
    assert time.monotonic() - begun < 3


def test_long_expired_on_another_machine(tmp_path, elsewhere, monkeypatch):
    """Its file is older than a new one in the same folder; this machine's clock is not asked."""
    monkeypatch.setattr(lease, "LEASE_S", 30.0)
    path = tmp_path / "lease.000009"
    path.write_text(json.dumps({"fence": 9, "host": "far", "pid": 1, "machine": "far"}))
    os.utime(path, (time.time() - 31,) * 2)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert holder(tmp_path) is None
    held = Lease.take(tmp_path)
    assert held.fence == 10
    held.release()


def test_without_locks_the_age_tells(tmp_path, elsewhere, monkeypatch):
    def refuse(*_):
        raise OSError(95, "not supported")

    with monkeypatch.context() as patch:
        patch.setattr(lease.fcntl, "flock", refuse)
        held = Lease.take(tmp_path)
        with pytest.raises(ValueError, match="is being run by"):
            Lease.take(tmp_path)
    held.release()
    Lease.take(tmp_path).release()


def test_a_lease_that_is_not_signed_yet_is_respected(tmp_path, elsewhere):
    (tmp_path / "lease.000001").touch()
    assert holder(tmp_path) == "another process"
    begun = time.monotonic()
    held = Lease.take(tmp_path)  # nobody signs it
    assert time.monotonic() - begun > 0.5 and held.fence == 2
    held.release()


def test_a_claimant_that_was_asleep_does_not_come_back_below(tmp_path, monkeypatch):
    """Between its look at the folder and its claim, two drivers came and went."""
    real, looked = lease._newest, []

    def asleep(folder):
        newest = real(folder)
        if not looked:
            looked.append(newest)
            monkeypatch.setattr(lease, "_newest", real)
            for _ in range(2):
                Lease.take(tmp_path).release()
        return newest

    monkeypatch.setattr(lease, "_newest", asleep)
    held = Lease.take(tmp_path)
    assert looked == [0] and held.fence == 3
    assert names(tmp_path) == ["lease.000003"]
    held.release()


RACE = """
import multiprocessing, os, sys
from pathlib import Path
from search.ledger import lease

lease.LEASE_S, lease.BEAT_S = 0.8, 0.05

def run(number, apart, root, ready, tried, results):
    if apart:
        lease.machine = lambda: f"machine {number}"
    for round in range(8):
        held = None
        ready.wait()
        try:
            held = lease.Lease.take(root / str(round % 2))
        except ValueError:
            results.put((round, "refused"))
        else:
            results.put((round, "held"))
        tried.wait()
        if held:
            held.check()
            held.release()

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    root, apart, number = Path(sys.argv[1]), sys.argv[2] == "apart", 4
    for name in "01":
        (root / name).mkdir()
    ready, tried, results = fork.Barrier(number), fork.Barrier(number), fork.SimpleQueue()
    arguments = (apart, root, ready, tried, results)
    racers = [fork.Process(target=run, args=(n, *arguments)) for n in range(number)]
    for racer in racers:
        racer.start()
    for _ in range(8 * number):
        print(*results.get())
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
"""


@pytest.mark.parametrize("where", ["together", "apart"])
def test_of_racing_drivers_one_wins(tmp_path, where):
    """Four processes want the same lease at the same instant, eight times."""
    command = [sys.executable, "-c", RACE, str(tmp_path), where]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout
    outcomes = Counter(out.splitlines())
    assert outcomes == {f"{n} {what}": times for n in range(8)
                        for what, times in (("held", 1), ("refused", 3))}  # fmt: skip
