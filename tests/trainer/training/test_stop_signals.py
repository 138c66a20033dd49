"""A terminal that goes away is a stop, as SIGTERM is, and a run writes a checkpoint first."""

import logging
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

import pytest

from trainer.training.stop_signals import (
    REMINDER,
    STOPS,
    Ended,
    ending_signals,
    stop_file,
    stop_signals,
)


@pytest.mark.parametrize("number", STOPS)
def test_the_first_signal_is_a_request(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    with stop_file(tmp_path) as came:
        assert not (tmp_path / "stop").exists()
        signal.raise_signal(number)
        assert came == [number] and (tmp_path / "stop").exists()
        assert signal.getsignal(number) is (
            signal.SIG_IGN if number == signal.SIGHUP else before  # a shell sends that twice
        )
    assert signal.getsignal(number) is before and not (tmp_path / "stop").exists()


def test_nohup_stays_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals(pytest.fail):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_said_after_a_terminal_is_gone_harms_nobody(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from trainer.training.stop_signals import stop_file\n"
        "out = Path(sys.argv[1])\n"
        "with stop_file(out) as came:\n"
        "    print('ready', flush=True)\n"
        "    while not came: time.sleep(0.01)\n"
        "    print('stopped', flush=True); print('stopped', file=sys.stderr, flush=True)\n"
        "    (out / 'done').write_text(came[0].name)\n"
    )
    here, there = pty.openpty()
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=there, stderr=there, start_new_session=True, cwd=Path.cwd()
    )
    os.close(there)
    assert b"ready" in os.read(here, 100)
    os.close(here)  # from here on, what is written there is an error
    process.send_signal(signal.SIGHUP)
    assert process.wait(80) == 0 and (tmp_path / "done").read_text() == "SIGHUP"


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_in_a_callback_is_not_lost(number: signal.Signals) -> None:
    class Thing:
        pass

    thing, before = Thing(), sys.unraisablehook
    reference = weakref.ref(thing, lambda dead: signal.raise_signal(number))
    with pytest.raises(Ended) as ended, ending_signals(str):
        del thing  # Python swallows what its callback raises
        assert reference() is None
        time.sleep(5)
        pytest.fail("the signal is lost")
    assert ended.value.number == number and sys.unraisablehook is before


@pytest.mark.parametrize("file", ["<frozen importlib._bootstrap>", logging.__file__])
def test_a_signal_waits_for_who_may_hold_a_lock(file: str) -> None:
    came: dict[str, bool] = {}
    code = compile("raise_signal(15); done = True", file, "exec")
    with pytest.raises(Ended), ending_signals(str):
        exec(code, {"raise_signal": signal.raise_signal}, came)
        time.sleep(5)
        pytest.fail("the signal is lost")
    assert came == {"done": True}


def test_a_signal_before_the_first_line_of_a_with_leaves_no_lock_behind() -> None:
    class Signalling:
        """A lock, and a signal as soon as it is taken."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __enter__(self) -> None:
            self.lock.__enter__()
            signal.raise_signal(signal.SIGTERM)

        def __exit__(self, *error: object) -> None:
            self.lock.__exit__(None, None, None)

    lock = Signalling()
    with pytest.raises(Ended), ending_signals(str), lock:
        time.sleep(5)
        pytest.fail("the signal is lost")
    assert not lock.lock.locked()


@pytest.mark.parametrize("number", STOPS)
def test_whoever_swallows_a_signal_is_interrupted_again(number: signal.Signals) -> None:
    before = signal.getsignal(REMINDER)
    with pytest.raises(Ended) as ended, ending_signals(str):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        time.sleep(5)
        pytest.fail("the signal is lost")
    assert ended.value.number == number and signal.getsignal(REMINDER) is before


def test_what_tidies_up_after_a_signal_is_not_interrupted() -> None:
    tidied = []
    with pytest.raises(Ended), ending_signals(str):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            with suppress(OSError):
                time.sleep(0.3)  # three times as long as until the next reminder
                raise OSError
            tidied.append(True)
    assert tidied == [True]


def test_an_interruption_in_other_words_is_one() -> None:
    with pytest.raises(Ended), ending_signals(str):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError("the other process is gone") from error
    with pytest.raises(RuntimeError), ending_signals(str):
        raise RuntimeError


def test_waiting_that_a_signal_ends_does_not_end_what_is_around_it() -> None:
    went_on = []
    with ending_signals(str):
        with suppress(Ended), ending_signals(str):
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.3)
        went_on.append(True)
    assert went_on == [True]


def test_a_second_signal_ends_a_wait_while_tidying_up() -> None:
    tidied = []
    with pytest.raises(Ended) as ended, ending_signals(str):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            with suppress(Ended), ending_signals(str):
                signal.raise_signal(signal.SIGINT)
                pytest.fail("the signal is lost")
            tidied.append(True)
    assert tidied == [True] and ended.value.number == signal.SIGTERM
