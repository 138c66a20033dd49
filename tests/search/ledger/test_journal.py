"""The ledger under torn writes, full disks, damage, and drivers thought dead."""

import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.ledger import journal as module
from search.ledger import lease
from search.ledger.journal import Ledger
from search.ledger.users import user_name
from search.storage.studies import writer_of

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


def kinds(path: Path) -> list[str]:
    """Return what a reader sees, without the drivers' first lines."""
    events = Ledger.open(path, writer=False).events
    return [event["event"] for event in events if event["event"] != "driver"]


def test_events_come_back_as_they_were(tmp_path):
    path = tmp_path / "study" / "ledger.jsonl"
    before = time.time()
    write(path)
    driver, *events = Ledger.open(path, writer=False).events
    for event in (driver, *events):
        assert before - 1 < event.pop("time") < time.time() + 1
        assert (event.pop("v"), event.pop("fence")) == (1, 1) and event.pop("after_s") >= 0
    about = {"event": "driver", "host": os.uname()[1], "pid": os.getpid(), "by": user_name()}
    assert driver == about
    assert events == EVENTS


def test_each_writer_has_the_next_fence(tmp_path):
    path = tmp_path / "ledger.jsonl"
    for _ in range(3):
        write(path, EVENTS[:1])
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / path.name
    copy.write_bytes(path.read_bytes())  # without the lease
    write(copy, EVENTS[:1])
    fences = [event["fence"] for event in Ledger.open(copy, writer=False).events]
    assert fences == [1, 1, 2, 2, 3, 3, 4, 4]


def test_append_returns_what_a_reader_reads(tmp_path):
    with Ledger.open(tmp_path / "ledger.jsonl", writer=True) as ledger:
        seen = ledger.append({"event": "x", "tuple": (1, 2), "value": math.inf}, {"event": "y"})
        assert ledger.events == Ledger.open(ledger.path, writer=False).events
        assert seen == ledger.events[1:]
        assert seen[0]["tuple"] == [1, 2]


def test_not_finite_values_are_strict_json_and_come_back(tmp_path):
    path = tmp_path / "ledger.jsonl"
    metrics = {"a": math.nan, "b": [math.inf, -math.inf], "c": 1.0}
    write(path, [{"event": "reported", "value": math.nan, "metrics": metrics}])

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    _, event = Ledger.open(path, writer=False).events
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
            assert len(ledger.events) == complete + 1
            ledger.append({"event": "after"})
        assert ("torn append" in caplog.text) == torn
        left = [event["event"] for event in EVENTS[: max(0, complete - 1)]]
        assert kinds(path) == [*left, "after"]


def test_an_append_is_there_whole_or_not_at_all(tmp_path):
    """Wherever a crash cuts an append of several lines, also between them."""
    with Ledger.open(tmp_path / "whole.jsonl", writer=True) as ledger:
        ledger.append(EVENTS[0])
        size = ledger.path.stat().st_size
        ledger.append(*EVENTS)
    content = ledger.path.read_bytes()
    path = tmp_path / "cut.jsonl"
    for cut in range(size, len(content), 3):
        path.write_bytes(content[:cut])
        assert kinds(path) == ["proposed"]
    for cut in range(size, len(content), 50):
        path.write_bytes(content[:cut])
        with Ledger.open(path, writer=True) as ledger:
            ledger.append({"event": "after"})
        assert kinds(path) == ["proposed", "after"]


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
    Ledger.open(path, writer=True).close()  # the refusal left no lease behind


@pytest.mark.parametrize(
    ("touch", "cause"),
    [
        (lambda c: c.replace(b"\n", b"\r\n"), "an editor left CRLF or blanks"),
        (lambda c: c + b"\n", "an editor left a blank line"),
        (lambda c: c.replace(b"\n", b"\n\n", 1) + b" \r\n", "an editor left a blank line"),
        (lambda c: b"\xef\xbb\xbf" + c.replace(b"\n", b" \r\n"), "a byte-order mark"),
        (lambda c: c.decode().encode("utf-16"), "saved as UTF-16"),
    ],
)
def test_what_an_editor_left_is_told_with_the_command_that_mends_it(tmp_path, touch, cause):
    path = tmp_path / "a study's" / "ledger.jsonl"
    content = write(path)
    path.write_bytes(touch(content))
    with pytest.raises(ValueError, match=cause) as refused:
        Ledger.open(path, writer=False)
    assert "\n" not in str(refused.value)
    command = re.search(r"(sed|iconv) .*", str(refused.value))
    subprocess.run(["sh", "-c", command[0]], check=True)
    assert path.read_bytes() == content


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_byte_is_found(tmp_path_factory, data):
    """In whichever line, and also where the byte ends it."""
    path = tmp_path_factory.getbasetemp() / "flipped" / "ledger.jsonl"
    content = path.read_bytes() if path.exists() else write(path)
    at = data.draw(st.integers(0, len(content) - 1) | st.just(len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = path.with_name("damaged.jsonl")
    damaged.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
    number = content[:at].count(b"\n") + 1
    with pytest.raises(ValueError, match=rf"damaged\.jsonl: line {number}: damaged"):
        Ledger.open(damaged, writer=False)


def test_a_line_of_a_newer_segtune_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    with Ledger.open(path, writer=True) as ledger:
        monkeypatch.setattr(module, "VERSION", 2)
        ledger.append({"event": "teleported"})
        monkeypatch.undo()
    for writer in (False, True):
        with pytest.raises(ValueError, match="line 2: has version 2: a newer segtune wrote it"):
            Ledger.open(path, writer=writer)


def test_a_ledger_from_before_the_versions_is_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event":"study","time":1.0}\n{"event":"proposed","trial":0}\n')
    with pytest.raises(ValueError, match="line 1: has no version: a pre-release segtune wrote it"):
        Ledger.open(path, writer=True)


def thought_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this is another machine, on which the living lease seems to have expired."""
    monkeypatch.setattr(lease, "machine", lambda: "another")
    monkeypatch.setattr(lease, "LEASE_S", 0.05)
    monkeypatch.setattr(lease, "BEAT_S", 100.0)


def test_a_driver_that_was_thought_dead_writes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setattr(lease, "BEAT_S", 100.0)
    first = Ledger.open(path, writer=True)
    first.append({"event": "before"})
    thought_dead(monkeypatch)
    with Ledger.open(path, writer=True) as second:
        content = path.read_bytes()
        with pytest.raises(
            lease.TakenOver, match=rf"another driver \(pid {os.getpid()} on .* over"
        ):
            first.append({"event": "zombie"})
        assert path.read_bytes() == content
        second.append({"event": "after"})
        first.close()  # releases nothing that it no longer has
        assert writer_of(path)
    assert writer_of(path) is None
    assert kinds(path) == ["before", "after"]
    with pytest.raises(AssertionError):
        first.append({"event": "closed"})


@pytest.mark.parametrize("how", ["removed", "replaced", "folder"])
def test_a_ledger_that_is_gone_takes_nothing_more(tmp_path, how):
    """What it had is saved beside it, where there is still a folder."""
    path = tmp_path / "study" / "ledger.jsonl"
    ledger = Ledger.open(path, writer=True)
    ledger.append({"event": "before"})
    content = path.read_bytes()
    if how == "folder":
        path.parent.rename(tmp_path / "away")
    else:
        path.rename(tmp_path / "gone")
    if how == "replaced":
        path.write_bytes(content)
    says = {"removed": "was removed", "replaced": "replaced by another", "folder": "or renamed"}
    for _ in range(2):
        with pytest.raises(lease.LostLedger, match=says[how]):
            ledger.append({"event": "lost"})
    ledger.close()
    if how == "folder":
        (tmp_path / "away").rename(path.parent)
        assert path.read_bytes() == content
        return
    [saved] = path.parent.glob("*.saved.jsonl")
    assert saved.read_bytes() == content
    assert path.exists() == (how == "replaced")
    saved.replace(path)
    assert kinds(path) == ["before"]


def test_what_it_writes_between_check_and_takeover_counts_for_nobody(tmp_path, monkeypatch, caplog):
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setattr(lease, "BEAT_S", 100.0)
    first = Ledger.open(path, writer=True)
    first.append({"event": "before"})
    thought_dead(monkeypatch)
    second = Ledger.open(path, writer=True)
    first._write(first._sealed([{"event": "zombie"}]))
    second.append({"event": "after"})
    first.close()
    second.close()
    assert kinds(path) == ["before", "after"]
    with caplog.at_level(logging.WARNING), Ledger.open(path, writer=True) as third:
        assert [event["event"] for event in third.events].count("zombie") == 0
    assert "left out 1 lines of a driver that another had replaced: 4" in caplog.text


@pytest.mark.parametrize("whole", [True, False])
def test_what_it_writes_just_before_the_takeover_counts_for_all(tmp_path, monkeypatch, whole):
    """What lands between the new driver's reading and its own first line is read if it is whole."""
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setattr(lease, "BEAT_S", 100.0)
    first = Ledger.open(path, writer=True)
    thought_dead(monkeypatch)
    real = Ledger._write

    def late(self, lines):
        more = first._sealed([{"event": "late"}, {"event": "later"}])
        real(first, more if whole else more[:1])
        monkeypatch.setattr(Ledger, "_write", real)
        real(self, lines)

    monkeypatch.setattr(Ledger, "_write", late)
    with Ledger.open(path, writer=True) as second:
        read = ["late", "later"] if whole else []
        assert [event["event"] for event in second.events] == ["driver", *read, "driver"]
        second.append({"event": "after"})
        assert second.events == Ledger.open(path, writer=False).events
    first.close()


def test_a_second_writer_is_told_who_writes(tmp_path):
    path = tmp_path / "ledger.jsonl"
    code = (
        "import sys; from search.ledger.journal import Ledger; "
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
        assert kinds(path) == ["x"]
        assert writer_of(path) == f"pid {other.pid} on {os.uname()[1]}"
        other.send_signal(signal.SIGKILL)
        other.wait()
        with Ledger.open(path, writer=True) as ledger:  # a dead holder holds nothing
            assert len(ledger.append({"event": "y"})) == 1
    finally:
        other.kill()
        other.communicate()


FULL_DISK = """
import json, resource, signal, sys
from search.ledger.journal import Ledger
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
    assert "No space left on device" in out[0]
    assert json.loads(out[1]) == ["driver", *kinds(path)]
    assert kinds(path) == ["first", "fourth"]


def test_a_failed_append_removes_its_own_bytes_only(tmp_path, monkeypatch):
    """Whatever another driver appended behind them stays."""
    path = tmp_path / "ledger.jsonl"
    with Ledger.open(path, writer=True) as ledger:
        size = path.stat().st_size

        def fail(file):
            raise OSError(28, "no space")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            ledger.append({"event": "lost"})
        assert path.stat().st_size == size

        def fail_late(file):
            with path.open("ab") as other:
                other.write(b"of another")
            raise OSError(28, "no space")

        monkeypatch.setattr(os, "fsync", fail_late)
        with pytest.raises(OSError, match="no space"):
            ledger.append({"event": "lost"})
        assert path.read_bytes().endswith(b"of another")
        monkeypatch.undo()


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
