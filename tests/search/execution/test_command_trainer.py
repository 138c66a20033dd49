"""A program as a trainer, without Ray: what it is told, what it says, and how it ends."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from search.execution import command_trainer
from search.execution.own_validations import Record, as_validation, own_fit
from search.storage.run_folders import on_this_node, sent_validations
from search.storage.s3 import Remote
from search.study.own_trainer import override_words

HEAD = """
import json, os, signal, sys, time
from pathlib import Path
def say(epoch, value, **more): print(json.dumps({"epoch": epoch, "val/dice": value, **more}))
"""


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What an attempt is told whose program is this Python text."""

    def spec(text: str, *words: str, **more: Any) -> dict[str, Any]:
        (tmp_path / "train.py").write_text(HEAD + text)
        command = f"{{python}} train.py {' '.join(words)}"
        return {
            "trainer": {"command": command, "folder": str(tmp_path)},
            "train": {"epochs": 3, "seed": 7, "optimizer": {"lr": 1e-3, "name": "adam w"}},
            "run_dir": str(tmp_path / "study" / "trials" / "0004"),
            "received": -1,
            "objective": "val/dice",
            "trial": 4,
            "cpus": 2,
            "gpus": 0.0,
            "has_data": False,
            **more,
        }

    return spec


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


def test_what_a_program_is_told_and_says(
    told: Callable[..., dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["{config}", "{epochs}", "{seed}", "{trial}", "{cpus}", "{overrides}"]
    spec = told(
        """
config = Path(sys.argv[1]).read_text()
Path(sys.argv[1]).with_name("argv").write_text(json.dumps(sys.argv[2:]))
print("loss 0.3")
for part in (b"\\xc3", b"\\xa9t\\xc3\\xa9\\n"):
    sys.stdout.buffer.write(part)
    sys.stdout.flush()
    time.sleep(0.3)
print("epoch 1", file=sys.stderr)
for epoch in (1, 2, 2, 3):
    print(f"{epoch} of 3\\r", end="")  # a progress bar
    say(epoch, epoch / 10, cases={"b": 0.1 * epoch, "a": 0.5}, **{"train/loss": 1, "note": "x"})
""",
        *words,
    )
    found = list(own_fit(spec)())
    run_dir = Path(spec["run_dir"])
    assert [(v.epoch, v.metrics["val/dice"]) for v in found] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert found[0].metrics == {"val/dice": 0.1, "train/loss": 1.0}
    assert yaml.safe_load((run_dir / "config.yaml").read_text()) == spec["train"]
    said = json.loads((run_dir / "argv").read_text())
    assert said == ["3", "7", "4", "2", "optimizer.lr=0.001", "optimizer.name='adam w'"]
    cases = pq.read_table(run_dir / "cases.parquet").to_pylist()
    assert [(row["epoch"], row["case_id"], row["dice"]) for row in cases][2:4] == [
        (2, "b", 0.2),
        (2, "a", 0.5),
    ]
    out, err = capfd.readouterr()
    assert "loss 0.3\nété\n" in out and '"epoch": 3' in out and "epoch 1\n" in err
    assert (run_dir / "alive").exists()


def test_the_words_of_hydra_keep_each_value_s_type() -> None:
    settings = {
        "a": {"b": 1e-5, "on": True, "none": None, "list": [1, "x"]},
        "text": "1e3",
        "quote": "it's \\",
        "path": "/data/x.nii",
        "empty": "",
    }
    assert override_words(settings) == [
        "a.b=1e-05",
        "a.on=true",
        "a.none=null",
        "a.list=[1,x]",
        "text='1e3'",
        "quote='it\\'s \\\\'",
        "path=/data/x.nii",
        "empty=''",
    ]


def test_a_program_continues_and_epochs_that_are_known_are_passed_over(
    told: Callable[..., dict[str, Any]],
) -> None:
    text = """
for epoch in range(1, 4):
    say(epoch, epoch / 10)
    Path(sys.argv[1], "begun").open("a").write(f"{epoch} ")
    if epoch == 2 and not Path(sys.argv[1], "again").exists():
        Path(sys.argv[1], "again").touch()
        sys.exit("no such luck")
"""
    spec = told(text, "{run_dir}")
    first = own_fit(spec)()
    assert [next(first).epoch, next(first).epoch] == [1, 2]
    with pytest.raises(RuntimeError, match=r"^python train.py ended with status 1: no such luck$"):
        next(first)
    # Epoch 2 was not heard of: it comes from the run folder, and not again from the program.
    assert [v.epoch for v in own_fit({**spec, "received": 1})()] == [2, 3]
    run_dir = Path(spec["run_dir"])
    before = (run_dir / "begun").read_text()
    assert [v.epoch for v in own_fit({**spec, "received": 2})()] == [3]
    assert (run_dir / "begun").read_text() == before  # all was there: nothing is run
    assert Record(run_dir, "val/dice").last == 3


@pytest.mark.slow  # 3 s: seven programs
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print('hello')", r'without a validation: a validation is \{"epoch": 1, "val/dice": …\}'),
        ('print(json.dumps({"epoch": 1, "val/dcie": 1}))', "no val/dice; did you mean val/dcie"),
        ('say("one", 0.1)', "epoch is 'one', but must be a whole number"),
        ("say(1, 0.1)", "ended at epoch 1 of 3"),
        ("[say(e, 0.1) for e in range(3)]", "at epoch 2 of 3: its first was epoch 0, but epochs"),
        ("say(1, 0.1); os.kill(os.getpid(), 9)", "train.py was ended by SIGKILL$"),
        ("say(1, 0.1); say(1, 0.1)", "ended at epoch 1 of 3$"),
        ('print(json.dumps({"epoch": 1, "val/dice": True}))', "val/dice: True: must be a number"),
        ("print('\\x1b[31mbad\\x1b[0m', file=sys.stderr); sys.exit(3)", "status 3: bad$"),
    ],
)
def test_a_program_that_ends_too_early_says_why(
    told: Callable[..., dict[str, Any]], text: str, reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason):
        list(own_fit(told(text))())


def test_a_program_that_fails_says_why(told: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(RuntimeError, match=r"^python train.py ended with status 1: KeyError: 'x'$"):
        list(own_fit(told("raise KeyError('x')"))())


def test_what_is_not_finite_is_a_validation_that_diverged(
    told: Callable[..., dict[str, Any]],
) -> None:
    validations = own_fit(told("say(1, float('nan')); time.sleep(60)"))()
    assert math.isnan(next(validations).metrics["val/dice"])
    validations.close()
    null, _ = as_validation({"epoch": 2.0, "val/dice": None}, "val/dice")
    assert null and null.epoch == 2 and math.isnan(null.metrics["val/dice"])


def test_numbers_of_numpy_and_torch_are_numbers_and_cases_without_one_are_left_out() -> None:
    cases = {"a": np.float32(0.5), "b": torch.tensor(0.25), "c": None, "d": math.nan, "e": "0.1"}
    told = {"epoch": np.int64(3), "val/dice": torch.tensor(0.5), "n": np.float16(2), "cases": cases}
    found, why = as_validation(told, "val/dice")
    assert why == "epoch 3: cases: e: '0.1': left out: must be a number, or null for none"
    assert found and (found.epoch, found.metrics) == (3, {"val/dice": 0.5, "n": 2.0})
    assert found.cases == {"a": 0.5, "b": 0.25}
    assert "must be a number" in as_validation({"epoch": 1, "val/dice": [0.5]}, "val/dice")[1]
    found, _ = as_validation({"epoch": 1, "val/dice": 0.5, "n": 10**400}, "val/dice")
    assert found and found.metrics == {"val/dice": 0.5}


@pytest.mark.parametrize(("value", "case"), [(90, 0.9), (0.9, 90), (-0.1, 0.1)])
def test_a_metric_out_of_its_range_is_refused(value: float, case: float) -> None:
    with pytest.raises(ValueError, match=r"but val/dice lies in \[0, 1\]: give what has another"):
        as_validation({"epoch": 1, "val/dice": value, "cases": {"a": case}}, "val/dice")
    found, _ = as_validation({"epoch": 1, "score": value, "cases": {"a": case}}, "score")
    assert found and found.cases == {"a": case}


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


def test_a_progress_bar_does_not_fill_the_disk(
    told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_trainer, "LINE_BYTES", 1000)
    text = """
for step in range(40):
    print(f"\\r{step} of 40" + " " * 90, end="", flush=True)
    time.sleep(0.01)
size = os.path.getsize(sys.argv[1] + "/.program.read")
print()
[say(epoch, epoch / 10, size=size) for epoch in (1, 2, 3)]
"""
    found = [*own_fit(told(text, "{run_dir}"))()]
    assert [v.epoch for v in found] == [1, 2, 3]
    assert 0 < found[0].metrics["size"] < 2000


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


def test_a_line_that_is_said_before_the_newline_of_another_is_not_lost(
    told: Callable[..., dict[str, Any]],
) -> None:
    text = """
begun = '{"epoch": 1, "val/dice": 0.1}'
sys.stdout.write(begun)  # as unbuffered Python writes a line: its newline comes after
time.sleep(0.2)
say(2, 0.2)
print()
print(begun.replace("1", "3") + "and more")
print('{"epoch": 2, "val/dice": 0.2} {"epoch": 3, "val/dice": 0.3}')
"""
    assert [v.epoch for v in own_fit(told(text))()] == [1, 2, 3]


def test_an_epoch_beyond_the_last_is_none(told: Callable[..., dict[str, Any]]) -> None:
    validations = own_fit(told("for epoch in (1, 2, 7): say(epoch, 0.1)"))()
    assert [next(validations).epoch, next(validations).epoch] == [1, 2]
    with pytest.raises(RuntimeError, match=r"at epoch 2 of 3: epoch 7 is beyond the last, 3$"):
        next(validations)


def test_the_stop_file_ends_a_program_with_sigterm(told: Callable[..., dict[str, Any]]) -> None:
    text = """
def end(*_):
    say(2, 0.2)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
say(1, 0.1)
time.sleep(60)
"""
    spec = told(text)
    validations = own_fit(spec)()
    assert next(validations).epoch == 1
    (Path(spec["run_dir"]) / "stop").touch()
    begun_s = time.monotonic()
    assert [v.epoch for v in validations] == [2]  # what it says on its way out counts
    assert time.monotonic() - begun_s < 10


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


def test_a_program_may_finish_after_its_last_epoch(told: Callable[..., dict[str, Any]]) -> None:
    text = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
[say(epoch, 0.1) for epoch in (1, 2, 3)]
time.sleep(0.3)
Path(sys.argv[1], "model").touch()
"""
    spec = told(text, "{run_dir}")
    validations = own_fit(spec)()
    assert [next(validations).epoch for _ in range(3)] == [1, 2, 3]
    validations.close()
    assert (Path(spec["run_dir"]) / "model").exists()


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


def test_a_process_without_gpus_shows_its_program_none(
    told: Callable[..., dict[str, Any]],
) -> None:
    from search.execution.worker import load

    text = 'say(3, float(os.environ["CUDA_VISIBLE_DEVICES"] == ""))'
    [validation] = load(told(text))()
    assert validation.metrics["val/dice"] == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


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
