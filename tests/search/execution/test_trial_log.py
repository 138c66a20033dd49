"""What a trial prints is in its log, however it is printed and however its process ends."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.execution.logs.log_pump import HEAD, LIMIT, LogFile
from search.monitor.logs import new_in, show_study, show_trial
from search.monitor.status import status
from search.report.leaderboard import leaderboard
from tests.search.conftest import ROOT, Driver, write_study

PRINTS = """
import os, signal, subprocess, sys
from pathlib import Path
from search.execution.logs.trial_log import TrialLog
log = TrialLog()
"""


def run(code: str, *words: Path, status: int = 0) -> str:
    """Run Python that keeps logs; return what went to its own stdout."""
    done = subprocess.run(
        [sys.executable, "-c", PRINTS + code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        timeout=240,
    )
    assert done.returncode == status, done.stdout.decode()
    return done.stdout.decode()


def test_a_log_has_what_every_process_printed_while_its_trial_had_this_one(tmp_path: Path) -> None:
    out = run(
        """
first, second = map(Path, sys.argv[1:])
print("before")
log.begin(first, "--- attempt 1")
print("from python")
subprocess.run(["sh", "-c", "echo from a program; echo and its stderr >&2"])
os.write(2, b"from below\\n")
log.end()
print("between")
log.begin(second, prefix="[rank 1] ")
print("one\\ntwo")
log.end()
print("after")
log.close()
""",
        first := tmp_path / "0000" / "log.txt",
        second := tmp_path / "0001" / "log.txt",
    )
    printed = "from python\nfrom a program\nand its stderr\nfrom below\n"
    assert first.read_text() == f"--- attempt 1\n{printed}"
    assert second.read_text() == "[rank 1] one\n[rank 1] two\n"
    lines = out.splitlines()  # it is where it was before as well
    assert {"before", "between", "after", "one", *printed.splitlines()} <= {*lines}


def test_the_traceback_of_an_error_is_in_the_log_and_the_error_goes_on(tmp_path: Path) -> None:
    run(
        """
try:
    with log.kept(Path(sys.argv[1])):
        import no_such_package
except ImportError:
    print("seen")
log.close()
""",
        path := tmp_path / "log.txt",
    )
    text = path.read_text()
    assert text.startswith("Traceback") and "seen" not in text
    assert text.endswith("ModuleNotFoundError: No module named 'no_such_package'\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_last_words_of_a_process_that_is_killed_are_in_its_log(
    tmp_path: Path, number: signal.Signals
) -> None:
    run(
        f"""
log.begin(Path(sys.argv[1]))
import faulthandler
faulthandler.enable()
os.write(1, b"last words")
os.kill(os.getpid(), {int(number)})
""",
        path := tmp_path / "log.txt",
        status=-number,
    )
    end = time.monotonic() + 60
    while "last words" not in path.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    if number == signal.SIGSEGV:
        assert "Segmentation fault" in path.read_text()


def test_a_log_that_cannot_be_written_or_whose_writer_is_killed_disturbs_nobody(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    out = run(
        """
log.begin(Path(sys.argv[1]) / "log.txt")
print("goes on")
log.end()
log.begin(Path(sys.argv[2]))
log._pump.kill()
log._pump.wait()
for _ in range(100_000):
    print("so does this")
log.end()
log.begin(Path(sys.argv[2]))
print("and this is kept")
log.end()
log.close()
print("the end")
""",
        tmp_path / "file",
        path := tmp_path / "log.txt",
    )
    assert "goes on" in out and out.endswith("the end\n")
    assert "and this is kept" in path.read_text()


def test_gigabytes_neither_fill_the_disk_nor_hold_up_whoever_prints(tmp_path: Path) -> None:
    out = run(
        """
import time
log.begin(Path(sys.argv[1]))
print("the beginning", flush=True)
begun = time.monotonic()
block = b"x" * 99_999 + b"\\n"
for _ in range(2_000):
    os.write(1, block)
os.write(1, b"the end\\n")
took = time.monotonic() - begun
log.end()
log.close()
print(took)
""",
        path := tmp_path / "log.txt",
    )
    text = path.read_text()
    assert len(text) <= LIMIT and len(out) <= 2 * LIMIT + 1000
    assert text.startswith("the beginning\n") and text.endswith("the end\n")
    left_out = sum(
        map(int, re.findall(r"^\[segtune: (\d+) bytes are left out here\]$", text, re.M))
    )
    assert left_out + len(text) == pytest.approx(200_000_022, abs=300_000)
    assert float(out.splitlines()[-1]) < 30  # at RATE it would be 95 s


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = LogFile(path, "--- attempt 1")
    written = [f"line {number}: {'x' * 1000}\n" for number in range(3 * LIMIT // 1000)]
    for line in written:
        log.write(line.encode())
    log.close()
    text = path.read_text()
    assert len(text) <= LIMIT and "".join(written).startswith(text[14 : HEAD - 2000])
    assert text.endswith("".join(written[-1000:]))
    [left_out] = re.findall(r"^\[segtune: (\d+) bytes are left out here\]\n", text, re.M)
    marker = f"[segtune: {left_out} bytes are left out here]\n"
    assert int(left_out) + len(text) - len(marker) == sum(map(len, written)) + 14


def test_whoever_follows_a_log_sees_each_line_once_though_it_is_cut(tmp_path: Path) -> None:
    path, shown, seen = tmp_path / "log.txt", b"", b""
    log = LogFile(path)
    written = [f"{number} {'x' * 2000}\n".encode() for number in range(2 * LIMIT // 1000)]
    for number, line in enumerate(written):
        log.write(line)
        if number % 500 == 0:
            seen += new_in(shown, content := path.read_bytes())
            shown = content
    seen += new_in(shown, path.read_bytes())
    assert seen == b"".join(written)
    assert new_in(b"of another attempt\n", b"new\n") == b"new\n"


@pytest.mark.slow  # 25 s
def test_a_trials_log_has_its_attempts_and_no_other_trials_and_a_failed_one_its_error(
    tmp_path: Path, store: Path, drive: Callable[..., Driver], capsys: pytest.CaptureFixture[str]
) -> None:
    """One worker process trains several trials; one is killed, and goes on in another."""
    scheduler = {"type": "none", "max_t": 3}
    trials = {"num_trials": 2}
    orders = {"dies": "0", "raise": "1"}
    study = write_study(tmp_path, store, orders, trials=trials, scheduler=scheduler)
    driver = drive(study, "tests.search.talkative:fit")
    driver.wait()
    logs = {
        number: (driver.folder / "trials" / f"{number:04d}" / "log.txt").read_text()
        for number in range(4)
    }
    for number, text in logs.items():
        for who in ("python", "a program", "a library"):
            assert f"{who} says {number}\n" in text
        assert f"a warning about {number}" in text
        assert not any(f"says {other}\n" in text for other in logs if other != number)
    assert logs[0].count("--- ") == 2 and "last words\n--- " in logs[0]
    assert "after epoch 1" in logs[0] and "epoch    3/3  dice" in logs[0]
    pids = [re.findall(r"pid (\d+)", text)[-1] for text in logs.values()]
    assert len(set(pids)) < len(pids)
    assert logs[1].count("RuntimeError: trial 1 is broken\n") == 3  # of each attempt
    [ended] = [e for e in driver.events("ended") if e["ending"] == "failed"]
    assert ended["reason"] == "RuntimeError: trial 1 is broken"
    log = f"{driver.folder}/trials/0001/log.txt"
    assert f"Log      {log}" in driver.log.read_text()
    [failed] = status(driver.folder)["failed"]
    assert failed == {"trial": 1, "reason": ended["reason"], "log": log}
    assert f"toy:1 failed: {ended['reason']}; log: {log}" in leaderboard(driver.folder)
    capsys.readouterr()
    show_trial(driver.folder, 2, follow=False)
    assert capsys.readouterr().out == logs[2].replace("\x1b[31m", "").replace("\x1b[0m", "")
    show_trial(driver.folder, 1, follow=True)  # which ends with the trial
    assert capsys.readouterr().out == logs[1]
    show_study(driver.folder, follow=True)
    said = capsys.readouterr().out
    told = re.findall(r"^\d\d:\d\d:\d\d  trial .*", driver.log.read_text(), re.M)
    assert len(told) > 10 and {*told} <= {*said.splitlines()} and "  driver pid " in said
