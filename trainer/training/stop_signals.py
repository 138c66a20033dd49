"""Signals that ask a training, or a search, to stop: Ctrl-C, SIGTERM, and a terminal that goes."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread, current_thread, get_ident, main_thread
from types import FrameType
from typing import Any

from trainer.files.damaged import clear

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REMINDER = signal.SIGURG
"""Of an earlier signal; it does nothing where nobody handles it."""


@contextmanager
def stop_signals(ask: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Turn the first of STOPS into a request; a second acts as before, but for SIGHUP.

    A SIGHUP that is ignored, as after `nohup`, stays so. After one, nothing more is written to the
    terminal, which is not there.

    Args:
        ask: Called with the signal, in the main thread.
    """
    before = {number: signal.getsignal(number) for number in STOPS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def handle(number: int, frame: Any) -> None:
        if number == signal.SIGHUP:  # which a shell that ends sends again
            _silence(terminals)
            signal.signal(number, signal.SIG_IGN)
        else:
            signal.signal(number, before[signal.Signals(number)])
        ask(signal.Signals(number))

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ended(KeyboardInterrupt):
    """A signal ended a command at once, but for what tidies up.

    Args:
        number: The signal.
        said: What is left behind, and how to go on.
    """

    def __init__(self, number: signal.Signals, said: str):
        super().__init__(said)
        self.number = number


@contextmanager
def ending_signals(said: Callable[[str], str]) -> Iterator[None]:
    """Let the first of STOPS end what runs inside, also where by default nothing would tidy up.

    Whoever swallows it is interrupted again: Python does in a callback or a destructor, and Ray
    where it does not look at what its waiting came to. Only the main thread gets signals; in
    another one this does nothing.

    Args:
        said: Returns what is left behind, and how to go on; called with the signal's name.

    Raises:
        Ended: A signal came.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    before[REMINDER] = signal.getsignal(REMINDER)
    terminals = [number for number in (1, 2) if os.isatty(number)]
    came: signal.Signals | None = None
    earlier, over = sys.exception(), Event()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = signal.Signals(number)
        for each in before:  # the next one ends what tidies up as well
            signal.signal(each, signal.SIG_DFL)
        if number == signal.SIGHUP:
            _silence(terminals)
        signal.signal(REMINDER, insist)
        Thread(target=_remind, args=(get_ident(), over), daemon=True).start()
        insist(number, frame)

    def insist(number: int, frame: FrameType | None) -> None:
        ends = over.is_set() or _interrupted(sys.exception(), earlier)
        if not (ends or _may_keep_a_lock(frame)):
            raise KeyboardInterrupt  # Ray, where it waits, raises one of its own instead

    def notice(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, notice
    for number in before:
        if number in STOPS:
            signal.signal(number, handle)
    try:
        yield
    except Ended:
        raise
    except BaseException as error:
        if came is None or not _interrupted(error, earlier):
            raise
        raise Ended(came, said(came.name)) from None
    finally:
        over.set()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _may_keep_a_lock(frame: FrameType | None) -> bool:
    """Return whether a signal came where an exception could keep a lock for ever.

    It could between a lock's `acquire` and the `try` that lets it go, as Python has it where it
    imports and logs, and between an `__enter__` and its `with`. Other threads would wait for it,
    and so would the end of the process for them.
    """
    if frame is None:
        return False
    code = frame.f_code
    locks = code.co_filename.startswith(("<frozen importlib.", logging.__file__))
    return locks or code.co_name in ("__enter__", "__exit__")


def _interrupted(error: BaseException | None, earlier: BaseException | None) -> bool:
    """Return whether an exception is an interruption, or hides one, that came after an earlier."""
    while error is not earlier and error and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None and error is not earlier


def _remind(thread: int, over: Event, every_s: float = 0.1) -> None:
    """Send a thread REMINDER until an interruption has ended what it was for."""
    while not over.wait(every_s):
        signal.pthread_kill(thread, REMINDER)


@contextmanager
def stop_file(run_dir: Path) -> Iterator[list[signal.Signals]]:
    """Let the first of STOPS make a run write a checkpoint and end: by the `stop` in its folder.

    Yields:
        What came; empty while nothing did.
    """
    came: list[signal.Signals] = []

    def ask(number: signal.Signals) -> None:
        if not run_dir.is_dir():  # nothing was begun
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)
        (run_dir / "stop").touch()

    with suppress(FileNotFoundError, NotADirectoryError):
        clear(run_dir / "stop")
    with stop_signals(ask):
        yield came
    (run_dir / "stop").unlink(missing_ok=True)


def _silence(descriptors: list[int]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
