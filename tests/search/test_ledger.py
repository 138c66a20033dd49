"""The ledger under torn writes, full disks, damage and two drivers."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.ledger import Ledger

EVENTS = [
    {
        "event": "proposed",
        "trial": 0,
        "params": {"optimizer.lr": 1e-4, "note": "a\nb \u00e4 \u2028"},
    },
    {"event": "reported", "trial": 0, "epoch": 1, "value": 0.1 + 0.2, "metrics": {"val/dice": 0.3}},
    {"event": "ended", "trial": 0, "epoch": 1, "ending": "completed"},
]


def write(path: Path, events=EVENTS) -> bytes:
    with Ledger.open(path, writer=True) as ledger:
        for event in events:
            ledger.append(event)
    return path.read_bytes()


def test_events_come_back_as_they_were(tmp_path):
    path = tmp_path / "study" / "ledger.jsonl"
    before = time.time()
    write(path)
    events = Ledger.open(path, writer=False).events
    for event in events:
        assert before - 1 < event.pop("time") < time.time() + 1
    assert events == EVENTS


def test_append_returns_what_a_reader_reads(tmp_path):
    with Ledger.open(tmp_path / "ledger.jsonl", writer=True) as ledger:
        seen = ledger.append({"event": "x", "tuple": (1, 2), "value": math.inf}, {"event": "y"})
        assert seen == Ledger.open(ledger.path, writer=False).events == ledger.events
        assert seen[0]["tuple"] == [1, 2]


def test_not_finite_values_are_strict_json_and_come_back(tmp_path):
    path = tmp_path / "ledger.jsonl"
    metrics = {"a": math.nan, "b": [math.inf, -math.inf], "c": 1.0}
    write(path, [{"event": "reported", "value": math.nan, "metrics": metrics}])

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    [event] = Ledger.open(path, writer=False).events
    assert math.isnan(event["value"]) and math.isnan(event["metrics"]["a"])
    assert event["metrics"]["b"] == [math.inf, -math.inf]
    assert event["metrics"]["c"] == 1.0


def test_a_ledger_cut_anywhere_keeps_its_complete_lines(tmp_path, caplog):
    content = write(tmp_path / "whole.jsonl")
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for size in sorted({*range(0, len(content), 5), *ends, *(end - 1 for end in ends)}):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:size])
        complete = sum(end <= size for end in ends)
        torn = size not in (0, *ends)

        assert len(Ledger.open(path, writer=False).events) == complete
        caplog.clear()
        with caplog.at_level(logging.WARNING), Ledger.open(path, writer=True) as ledger:
            assert len(ledger.events) == complete
            ledger.append({"event": "after"})
        assert ("torn last line" in caplog.text) == torn
        kinds = [event["event"] for event in Ledger.open(path, writer=False).events]
        assert kinds == [event["event"] for event in EVENTS[:complete]] + ["after"]


@pytest.mark.parametrize("damage", [b"{\n", b"[]\n", b"{}\n", b"\n", b"\xff\xfe\n", b"\0\0\n"])
@pytest.mark.parametrize("last", [False, True])
def test_a_damaged_complete_line_is_refused_with_its_number(tmp_path, damage, last):
    path = tmp_path / "ledger.jsonl"
    lines = write(path).splitlines(keepends=True)
    damaged = [*lines, damage] if last else [lines[0], damage, *lines[1:]]
    path.write_bytes(b"".join(damaged))
    number = len(damaged) if last else 2
    for writer in (False, True):
        with pytest.raises(ValueError, match=rf"ledger\.jsonl: line {number}: damaged"):
            Ledger.open(path, writer=writer)
    assert path.read_bytes() == b"".join(damaged)
    path.write_bytes(b"".join(lines))
    Ledger.open(path, writer=True).close()  # the refusal left no lock behind


def test_a_second_writer_is_told_who_writes(tmp_path):
    path = tmp_path / "ledger.jsonl"
    code = (
        "import sys; from search.ledger import Ledger; "
        "ledger = Ledger.open(sys.argv[1], writer=True); "
        "ledger.append({'event': 'x'}); print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(
            ValueError, match=rf"is being run by pid {other.pid} on {os.uname()[1]}"
        ):
            Ledger.open(path, writer=True)
        assert len(Ledger.open(path, writer=False).events) == 1
        other.send_signal(signal.SIGKILL)
        other.wait()
        with Ledger.open(path, writer=True) as ledger:  # a dead holder holds nothing
            assert len(ledger.append({"event": "y"})) == 1
    finally:
        other.kill()
        other.communicate()


FULL_DISK = """
import json, resource, signal, sys
from search.ledger import Ledger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger.open(sys.argv[1], writer=True)
ledger.append({"event": "first"})
size = ledger.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60, resource.RLIM_INFINITY))
try:
    ledger.append({"event": "second"}, {"event": "third", "text": "x" * 200})
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.append({"event": "fourth"})
print(json.dumps([event["event"] for event in ledger.events]))
"""


def test_a_full_disk_leaves_no_half_append(tmp_path):
    path = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "is the disk full?" in out[0]
    kinds = [event["event"] for event in Ledger.open(path, writer=False).events]
    assert json.loads(out[1]) == kinds == ["first", "fourth"]


def test_append_costs_one_write_and_one_fsync(tmp_path, monkeypatch):
    calls = []
    with Ledger.open(tmp_path / "ledger.jsonl", writer=True) as ledger:
        for name in ("write", "fsync"):
            real = getattr(os, name)
            monkeypatch.setattr(
                os, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1]
            )
        ledger.append(*EVENTS)
        monkeypatch.undo()
    assert calls == ["write", "fsync"]


def test_readers_do_not_create(tmp_path):
    with pytest.raises(FileNotFoundError):
        Ledger.open(tmp_path / "none" / "ledger.jsonl", writer=False)
    assert list(tmp_path.iterdir()) == []
