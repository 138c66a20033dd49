"""A signal in a launch's first seconds leaves a study that can be continued, and says so."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from search.workflows.conclusion import left_behind
from tests.search import offline
from tests.search.conftest import ROOT, write_study
from trainer.training.stop_signals import Ended, ending_signals

SEGTUNE = [sys.executable, str(ROOT / "segtune_start.py")]


def left_of(session: int) -> list[str]:
    """Return the processes of a session that are there."""
    words = ["ps", "-eo", "sid=,stat=,args="]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        line for line in lines if line.split()[0] == str(session) and "Z" not in line.split()[1]
    ]


@pytest.mark.slow  # 45 s
@pytest.mark.parametrize(
    ("name", "after_s"),
    [("SIGINT", 0.5), ("SIGTERM", 2.0), ("SIGINT", 4.0), ("SIGTERM", 5.0), ("SIGHUP", 6.0)],
)
def test_a_signal_in_the_first_seconds(
    store: Path, tmp_path: Path, name: str, after_s: float
) -> None:
    study, number = write_study(tmp_path, store, enqueue=[]), signal.Signals[name]
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONFAULTHANDLER": "1"}
    words = ["launch", str(study), "--runs", str(tmp_path)]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [*SEGTUNE, *words], stdout=said, stderr=said, env=env, start_new_session=True
        )
        time.sleep(after_s)
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(480)  # the thread that imports MLflow is waited for
        if process.poll() is None:
            process.send_signal(signal.SIGABRT)  # it says where its threads are
        status = process.wait(60)
    text = (tmp_path / "said").read_text()
    assert status in (0, 128 + number, -number), text  # 0: its trials had begun, and were stopped
    assert "Aborted" not in text and "Traceback" not in text
    end = time.monotonic() + 240  # an agent of Ray ends once its imports are done
    while left_of(process.pid) and time.monotonic() < end:
        time.sleep(0.2)
    assert left_of(process.pid) == []
    look = [*SEGTUNE, "status", "toy", "--runs", str(tmp_path)]
    seen = subprocess.run(look, env=env, capture_output=True, text=True)
    told = seen.stdout + seen.stderr
    assert "segtune launch" in told or "no such study" in told or "launch it" in told, told
    again = [*SEGTUNE, *words, "--dry-run"]
    assert subprocess.run(again, env=env, capture_output=True).returncode == 0


@pytest.mark.slow  # 8 s
def test_a_signal_while_ray_is_used_is_python_s() -> None:
    """As while `confirm` scores models; the core of Ray would abort the process."""
    code = (
        "import os, signal, time\n"
        "from search.execution.session import before_ray, ray_session\n"
        "from trainer.training.stop_signals import Ended, ending_signals\n"
        "before_ray('local')\n"
        "try:\n"
        "    with ending_signals(str), ray_session('local'):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "except Ended as ended:\n"
        "    print(ended.number.name, 'ended it')\n"
    )
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=480)
    assert (done.returncode, done.stdout) == (0, "SIGTERM ended it\n"), done.stderr


def test_after_a_signal_no_thread_is_waited_for_for_ever() -> None:
    code = (
        "import sys, threading, time, segtune_start as start, search.cli.main as commands\n"
        "def main():\n"
        "    threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "    sys.exit(143)\n"
        "commands.main, start.LEAVE_S = main, 0.5\n"
        "start.main()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=240).returncode == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_left_behind_is_said(store: Path, tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    folder = tmp_path / "toy"
    folder.mkdir()
    with offline.opened(offline.study(store), folder) as session:
        offline.propose(session)
        session.record({"event": "started", "trial": 1, "attempt": 1, "host": "h", "pid": 1})
        with pytest.raises(Ended) as ended, ending_signals(partial(left_behind, session)):
            os.kill(os.getpid(), number)
            time.sleep(5)
    assert str(ended.value) == (
        f"ended at once by {number.name}; 1 trial (toy:1) lost what came after the last "
        f"checkpoint; to continue: segtune launch {folder}/study.yaml --runs {tmp_path}"
    )
    assert ended.value.number == number and signal.getsignal(number) == before
