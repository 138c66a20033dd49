"""A program as a trainer whose worker is killed or elsewhere: it ends, and what it said is kept."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from search.execution import command_trainer
from search.execution.own_validations import Record, own_fit
from search.storage.run_folders import on_this_node, sent_validations
from search.storage.s3 import Remote
from tests.search.execution.own_program import told

__all__ = ["told"]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _until(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if true():
            return True
        time.sleep(0.02)
    return False


def test_what_a_killed_worker_had_read_and_not_recorded_is_not_lost(
    told: Callable[..., dict[str, Any]],
) -> None:
    spec = told("say(3, 0.3)")
    run_dir = Path(spec["run_dir"])
    run_dir.mkdir(parents=True)
    lines = [json.dumps({"epoch": epoch, "val/dice": epoch / 10}) for epoch in (1, 2)]
    (run_dir / ".program.read").write_text("\n".join(lines) + "\nhalf a l")
    assert [v.epoch for v in own_fit(spec)()] == [1, 2, 3]
    assert not (run_dir / ".program.read").exists()


def test_a_line_that_the_killed_worker_read_in_part_is_one_with_its_rest(
    told: Callable[..., dict[str, Any]],
) -> None:
    spec = told("say(3, 0.3)")
    run_dir = Path(spec["run_dir"])
    run_dir.mkdir(parents=True)
    line = json.dumps({"epoch": 2, "val/dice": 0.2})
    (run_dir / ".program.read").write_text(line[:9])
    (run_dir / ".program.unread").write_text(line[9:])
    assert [v.epoch for v in own_fit(spec)()] == [2, 3]


def test_what_is_read_is_kept_until_it_is_recorded(
    told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment when a validation is added, and of a line that has not ended for longer."""
    text = """
say(1, 0.1)
print('{"epoch": 2, ', end="", flush=True)
time.sleep(0.1)
print('"val/dice": 0.2}')
say(3, 0.3)
"""
    spec = told(text)
    read, found, add = Path(spec["run_dir"]) / ".program.read", [], Record.add

    def looked(self: Record, validation: Any) -> None:
        found.append(read.read_bytes())
        add(self, validation)

    monkeypatch.setattr(Record, "add", looked)
    validations = own_fit(spec)()
    assert [next(validations).epoch for _ in range(3)] == [1, 2, 3]
    assert [b'"epoch": %d' % epoch in found[epoch - 1] for epoch in (1, 2, 3)] == [True] * 3
    validations.close()


def test_a_line_that_is_refused_is_not_refused_again(told: Callable[..., dict[str, Any]]) -> None:
    """Nor is what a killed worker had read of it a hindrance for ever."""
    text = """
tried = Path(sys.argv[1], "tried")
first = not tried.exists()
tried.touch()
[say(epoch, 90 if first else 0.9) for epoch in (1, 2, 3)]
"""
    spec = told(text, "{run_dir}")
    read = Path(spec["run_dir"]) / ".program.read"
    with pytest.raises(ValueError, match="val/dice is 90"):
        list(own_fit(spec)())
    assert not read.exists()
    read.write_text('{"epoch": 1, "val/dice": 90}\n')
    with pytest.raises(ValueError, match="val/dice is 90"):
        list(own_fit(spec)())
    assert [v.epoch for v in own_fit(spec)()] == [1, 2, 3]


@pytest.mark.slow  # 1 s
def test_a_keeper_whose_worker_dies_while_much_is_said_again_lets_the_next_one_begin(
    told: Callable[..., dict[str, Any]],
) -> None:
    spec = told("say(3, 0.3)")
    run_dir = Path(spec["run_dir"])
    run_dir.mkdir(parents=True)
    lines = [json.dumps({"epoch": 1 + n // 2000, "val/dice": 0.1}) for n in range(4000)]
    (run_dir / ".program.unread").write_text("\n".join(lines))  # more than a pipe holds
    words = [sys.executable, "-c", "pass"]
    abandoned = command_trainer.Program(words, run_dir, run_dir)
    time.sleep(0.3)
    assert abandoned._keeper.stdin
    abandoned._keeper.stdin.close()  # without a word, and nobody reads
    assert [v.epoch for v in own_fit(spec)()] == [1, 2, 3]
    abandoned.end()


@pytest.mark.slow  # 1 s
def test_one_that_is_stopped_leaves_nothing_behind_even_if_it_ignores_sigterm(
    told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_trainer, "TERM_S", 0.5)
    text = """
child = os.fork()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path(sys.argv[1], str(os.getpid()) + ".pid").touch()
if child: say(1, 0.1)
time.sleep(60)
"""
    spec = told(text, "{run_dir}")
    validations = own_fit(spec)()
    next(validations)
    run_dir = Path(spec["run_dir"])
    assert _until(lambda: len([*run_dir.glob("*.pid")]) == 2)
    pids = [int(path.stem) for path in run_dir.glob("*.pid")]
    assert all(map(_alive, pids))
    validations.close()
    assert not any(map(_alive, pids))


def test_what_a_program_says_when_nobody_listens_is_there_for_the_next_attempt(
    told: Callable[..., dict[str, Any]],
) -> None:
    text = """
begun = Path(sys.argv[1], "begun")
if begun.exists(): sys.exit("not again")
begun.touch()
signal.signal(signal.SIGTERM, lambda *_: (say(3, 0.3), os._exit(0)))
say(1, 0.1)
say(2, 0.2)
time.sleep(60)
"""
    spec = told(text, "{run_dir}")
    validations = own_fit(spec)()
    assert next(validations).epoch == 1
    validations.close()
    assert [v.epoch for v in own_fit({**spec, "received": 1})()] == [2, 3]


def _worker(spec: dict[str, Any], folder: Path, steps: str) -> subprocess.Popen[bytes]:
    """Start a process that takes these steps with the validations `v` of an attempt."""
    (folder / "spec").write_text(json.dumps(spec))
    code = (
        "import json, time; from search.execution.own_validations import own_fit\n"
        f"v = own_fit(json.load(open({str(folder / 'spec')!r})))(); {steps}"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)


@pytest.mark.slow  # 3 s: another process imports this one's code
def test_a_killed_worker_leaves_no_program_and_loses_nothing_that_it_said(
    told: Callable[..., dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = """
pid = Path(sys.argv[1], "pid")
if pid.exists(): sys.exit("not again")
def end(*_):
    print("the checkpoint is written", file=sys.stderr, flush=True)
    say(2, 0.2)
    say(3, 0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pid.write_text(str(os.getpid()))
say(1, 0.1)
time.sleep(60)
"""
    spec = told(text, "{run_dir}")
    process = _worker(spec, tmp_path, "next(v); next(v)")
    pid_file = tmp_path / "study" / "trials" / "0004" / "pid"
    assert _until(lambda: pid_file.exists() and bool(pid_file.read_text()), 80)
    pid = int(pid_file.read_text())
    assert _alive(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _until(lambda: not _alive(pid))
    # What it said on its way out, to nobody, is not lost.
    assert [v.epoch for v in own_fit({**spec, "received": 1})()] == [2, 3]
    assert "the checkpoint is written\n" in capfd.readouterr().err


@pytest.mark.slow  # 3 s
def test_a_program_that_has_ended_is_heard_to_its_end_though_its_worker_is_killed(
    told: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    text = """
if Path(sys.argv[1], "ended").exists(): sys.exit("not again")
say(1, 0.1)
time.sleep(1)
say(2, 0.2)
say(3, 0.3)
Path(sys.argv[1], "ended").touch()
"""
    spec = told(text, "{run_dir}")
    process = _worker(spec, tmp_path, "next(v); time.sleep(60)")
    assert _until((Path(spec["run_dir"]) / "ended").exists, 80)
    time.sleep(0.5)  # its keeper has seen that
    process.kill()
    process.wait()
    assert [v.epoch for v in own_fit({**spec, "received": 1})()] == [2, 3]


ALONE = """
other = Path(sys.argv[1], "running")
clash = other.exists()
other.touch()
def end(*_):
    time.sleep({end_s})
    other.unlink()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
if not clash: time.sleep(0.2)
say(1, 0.0 if clash else 1.0)
time.sleep(60)
"""
"""A program that says 0 where another one runs in its folder, and takes a while to end."""


@pytest.mark.slow  # 2 s
def test_two_programs_never_run_in_one_folder(
    told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ALONE.format(end_s=0.5)
    first: Generator[Any, None, None] = own_fit(told(text, "{run_dir}"))()
    assert next(first).metrics["val/dice"] == 1
    spec = told(text, "{run_dir}")
    # Its worker is gone, and it needs half a second to end: as the keeper of a killed one.
    program = first.gi_frame.f_locals["reports"].gi_frame.f_locals["program"]
    program._keeper.stdin.close()  # without a word
    (Path(spec["run_dir"]) / "validations.jsonl").unlink()
    second = own_fit(spec)()
    assert next(second).metrics["val/dice"] == 1
    second.close()
    first.close()


@pytest.mark.slow  # 4 s: a local S3
def test_a_program_continues_on_another_node_from_s3(
    told: Callable[..., dict[str, Any]], s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
last = Path(sys.argv[1], "last")
begun = int(last.read_text()) if last.exists() else 0
for epoch in range(begun + 1, 4):
    last.write_text(str(epoch))
    Path(sys.argv[1], f"{epoch}.tmp").write_text("x")
    say(epoch, epoch / 10 + begun / 5, cases={"a": 0.5})
    Path(sys.argv[1], f"{epoch}.tmp").rename(Path(sys.argv[1], f"{epoch}.pt"))
    time.sleep(0.3)
"""
    spec = told(text, "{run_dir}", storage=(Remote.parse(s3) / "mine").uri, fence=1, attempt=1)

    def attempt(node: str, number: int, received: int) -> Generator[Any, None, None]:
        monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / node))
        here = on_this_node({**spec, "attempt": number, "received": received})
        return sent_validations(own_fit(here), here)

    first = attempt("one", 1, -1)
    assert [next(first).epoch, next(first).epoch] == [1, 2]
    first.close()
    # What the first said, and what it was still to do, is there for the second.
    [third] = attempt("two", 2, 2)
    assert third.epoch == 3
    assert third.metrics["val/dice"] in (pytest.approx(0.3), pytest.approx(0.7))


@pytest.mark.slow  # 4 s: a local S3
def test_with_s3_a_program_is_not_started_before_the_one_of_a_killed_worker_is_gone(
    told: Callable[..., dict[str, Any]], s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run folder is fetched anew, and its lock must not go with the files of the old one."""
    text = ALONE.format(end_s=1.5)
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "node"))
    storage = (Remote.parse(s3) / "mine").uri
    spec = told(text, str(tmp_path), storage=storage, fence=1, attempt=1)
    words = command_trainer.trial_words(command_trainer.OwnTrainer(**spec["trainer"]), spec)
    run_dir = Path(on_this_node(spec)["run_dir"])
    run_dir.mkdir(parents=True)
    abandoned = command_trainer.Program(words, tmp_path, run_dir)
    assert _until((tmp_path / "running").exists)
    assert abandoned._keeper.stdin
    abandoned._keeper.stdin.close()  # without a word, as of a worker that is killed
    here = on_this_node({**spec, "attempt": 2})
    second = sent_validations(own_fit(here), here)
    assert next(second).metrics["val/dice"] == 1
    second.close()
    abandoned.end()
