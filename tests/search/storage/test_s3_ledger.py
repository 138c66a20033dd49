"""A ledger in S3: what another machine finds there, whatever happened to the drivers."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.ledger.journal import Ledger
from search.ledger.lease import TakenOver
from search.storage import requests, s3_lease, s3_ledger
from search.storage.requests import leave, waiting, waiting_here
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_ledger import fetch_ledger
from search.storage.studies import ask_to_stop, open_as_driver, writer_of
from tests.search.s3 import Gate, Moto

Machine = Callable[[str], Path]


@pytest.fixture
def machine(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return the mirror of one and the same study on a machine of some name."""

    def on(name: str, uri: str = s3) -> Path:
        monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / name))
        return mirror_of(Remote.parse(uri)) / "toy"

    return on


def said(folder: Path) -> list[Any]:
    """Return what the ledger here says, without the drivers' own lines."""
    found = Ledger.open(folder / "ledger.jsonl", writer=False).events
    return [event["say"] for event in found if event["event"] == "word"]


def until(ready: Callable[[], Any], limit_s: float = 10) -> None:
    end = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def word(say: Any) -> dict[str, Any]:
    return {"event": "word", "say": say}


def test_another_machine_goes_on(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    with open_as_driver(here) as ledger:
        ledger.append(word(1))
        ledger.append(word(2), word(3))
        (here / "study.yaml").write_text("study: toy\n")
    with open_as_driver(there) as ledger:
        assert ledger.fence == 2
        ledger.append(word(4))
    assert said(there) == [1, 2, 3, 4]
    assert (there / "study.yaml").read_text() == "study: toy\n"
    fetch_ledger(here)
    assert said(here) == [1, 2, 3, 4]
    with open_as_driver(here) as ledger:
        ledger.append(word(5))
    fetch_ledger(there)
    assert said(there) == [1, 2, 3, 4, 5]


def test_a_second_behind_at_most(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    with open_as_driver(here) as ledger:
        for number in range(5):
            ledger.append(word(number))
            written = time.monotonic()
            until(
                lambda: (
                    fetch_ledger(there) or ((there / "ledger.jsonl").exists() and said(there)[-1:])
                )
            )
            until(lambda number=number: fetch_ledger(there) or said(there)[-1] == number)
            assert time.monotonic() - written < 2
        assert writer_of(there / "ledger.jsonl") == writer_of(here / "ledger.jsonl")
        with pytest.raises(ValueError, match="is being run by pid"), open_as_driver(there):
            pass
        with pytest.raises(ValueError, match="is being run by pid"), open_as_driver(here):
            pass
    assert writer_of(there / "ledger.jsonl") is None


DRIVER = """
import sys, time
from pathlib import Path
from search.storage import s3_ledger, studies
s3_ledger.PERIOD_S = float(sys.argv[2])
with studies.open_as_driver(Path(sys.argv[1])) as ledger:
    ledger.append({"event": "word", "say": "sent"})
    time.sleep(1)
    ledger.append({"event": "word", "say": "not sent"})
    print("ready", flush=True)
    time.sleep(60)
"""


def killed_driver(folder: Path, period_s: float) -> None:
    """Let a driver append, and kill it; with a long period before it has sent the last."""
    command = [sys.executable, "-c", DRIVER, str(folder), str(period_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ}) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == b"ready\n"
        driver.kill()


def test_killed_and_launched_on_the_same_machine(machine: Machine) -> None:
    """Nothing is lost: what was not sent is sent now."""
    here = machine("here")
    killed_driver(here, period_s=0.7)
    with open_as_driver(here):
        assert said(here) == ["sent", "not sent"]
    there = machine("there")
    fetch_ledger(there)
    assert said(there) == ["sent", "not sent"]


def test_killed_and_launched_elsewhere(machine: Machine) -> None:
    """The last second is lost, and the first machine forgets it as well."""
    here, there = machine("here"), machine("there")
    machine("here")
    killed_driver(here, period_s=0.7)
    assert said(here) == ["sent", "not sent"]
    with open_as_driver(there) as ledger:
        assert said(there) == ["sent"]
        ledger.append(word("more"))
    fetch_ledger(here)
    assert said(here) == ["sent", "more"]


@pytest.mark.slow
def test_a_driver_thought_dead_writes_what_does_not_count(
    machine: Machine, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machine("here"), machine("there")
    monkeypatch.setattr(s3_lease, "BEAT_S", 3.0)
    with open_as_driver(here) as ledger:
        ledger.append(word(1))
        until(lambda: fetch_ledger(there) or said(there) == [1])
        place = Remote.parse(s3) / "toy"
        [lease] = place.entries("lease")
        gone = {"host": "far", "pid": 7, "kernel": "another", "started": "1"}
        place.put(lease.key, json.dumps(gone).encode())
        monkeypatch.setattr(s3_lease, "LEASE_S", 0.5)
        with open_as_driver(there) as other:
            ledger.append(word("in vain"))
            other.append(word(2))
            with pytest.raises(TakenOver, match="another driver"):
                until(lambda: ledger.append(word("in vain")) == 0)
        assert any("000001-" in e.key for e in place.entries("ledger")), "it did write"
        machine("third")
        third = machine("third")
        fetch_ledger(third)
        assert said(third) == [1, 2]


@pytest.mark.slow
def test_appends_go_on_while_s3_is_away(
    machine: Machine, s3: str, moto: Moto, caplog: pytest.LogCaptureFixture
) -> None:
    """Appends take no longer, one line says so and one that all is there again."""
    gate = Gate(moto.address)
    uri = s3.replace(moto.address, gate.address)
    here, there = machine("here", uri), machine("there")
    with open_as_driver(here) as ledger:
        gate.shut()
        for number in range(40):
            begun = time.monotonic()
            ledger.append(word(number))
            assert time.monotonic() - begun < 1
            time.sleep(0.1)
        gate.open()
        until(lambda: fetch_ledger(there) or said(there) == [*range(40)])
        until(lambda: "has everything" in caplog.text)
    assert caplog.text.count("does not answer, events wait") == 1
    gate.shut()


def test_s3_is_away_at_the_end(
    machine: Machine,
    s3: str,
    moto: Moto,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_lease, "LEASE_S", 1.0)
    monkeypatch.setattr(s3_lease, "_kernel", lambda: uuid.uuid4().hex)
    gate = Gate(moto.address)
    here = machine("here", s3.replace(moto.address, gate.address))
    with open_as_driver(here) as ledger:
        gate.shut()
        ledger.append(word("kept here"))
    assert "launch from this machine to send the rest" in caplog.text
    gate.open()
    with open_as_driver(here):
        pass
    there = machine("there")
    fetch_ledger(there)
    assert said(there) == ["kept here"]
    gate.shut()


def test_a_stop_and_signs_of_life_travel_through_s3(
    machine: Machine, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop file comes, the trials' stop goes, and signs of life arrive."""
    monkeypatch.setattr(s3_ledger, "SIGNS_S", 0.1)
    here, there = machine("here"), machine("there")
    place = Remote.parse(s3) / "toy"
    ask_to_stop(there)
    trial = here / "trials" / "0003"
    with open_as_driver(here) as ledger:
        time.sleep(1)
        assert not (here / "stop").exists(), "it was meant for the driver before"
        ask_to_stop(there)
        until((here / "stop").exists)
        place.put("signs/alive-0003", b"")
        until((trial / "alive").exists)
        (trial / "stop").touch()
        stopping = f"signs/stopping-{ledger.fence:06d}-0003"
        until(lambda: stopping in [entry.key for entry in place.entries("signs")])
    with open_as_driver(here):
        assert not (trial / "stop").exists()


def test_a_request_goes_to_the_driver_and_goes_once_s3_has_what_it_became(
    machine: Machine, s3: str
) -> None:
    here, there = machine("here"), machine("there")
    place = Remote.parse(s3) / "toy"
    early = leave(there, {"kind": "note", "trial": 0, "text": "before the driver"})
    with open_as_driver(here) as ledger:
        assert waiting_here(here) == [early], "at once"
        late = leave(there, {"kind": "note", "trial": 0, "text": "while it lives"})
        until(lambda: waiting_here(here) == [early, late])
        assert waiting(there) == [early, late]
        ledger.append(word(1))
        (here / "requests" / f"{early}.json").unlink()
        until(lambda: waiting(there) == [late])
        fetch_ledger(there)
        assert said(there) == [1], "what it became is there before it goes"
        place.put(
            "requests/9999999999999999-" + 32 * "0" + ".json", b" " * (requests.MAX_BYTES + 1)
        )
        until(lambda: len(waiting_here(here)) == 2)
        assert all(path.stat().st_size < 200 for path in (here / "requests").iterdir())
        (here / "requests" / f"{late}.json").unlink()
    assert late not in waiting(there), "sent at the end, too"
    (here / "requests").rename(here / "gone")
    with open_as_driver(there):
        assert len(waiting_here(there)) == 1, "what no driver took up is the next one's"
