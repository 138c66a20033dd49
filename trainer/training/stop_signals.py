"""Signals that ask a training, or a search, to stop: Ctrl-C, SIGTERM, and a terminal that goes."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
        (run_dir / "stop").unlink()
    with stop_signals(ask):
        yield came
    (run_dir / "stop").unlink(missing_ok=True)


def _silence(descriptors: list[int]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
