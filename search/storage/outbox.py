"""A thread that hands on what a study writes, to a place that may not answer."""

import math
import threading
import time
from collections.abc import Callable, Iterator

from trainer.training.stop_signals import Ended, ending_signals


def pauses(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield the pauses between attempts: each twice the one before, up to the longest."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, longest_s)


class Outbox:
    """Calls `deliver` now and then from a thread, and patiently where it fails.

    Args:
        deliver: Hands on all that there is; an exception means that the other side does not answer.
        is_behind: Says whether there is anything that was not handed on.
        name: The thread's.
        period_s: Between two calls.
        retry_s: First and longest pause after a failure.
        on_outage: Is called once with the error when the other side stops answering, and once with
            None when it answers again.
        meanwhile: Is called after each failure.
        daemon: Whether the process may end in the middle of `deliver`. Not if that draws, say: a
            library in C++ that wants the interpreter back while that ends aborts the process.
    """

    def __init__(
        self,
        deliver: Callable[[], None],
        is_behind: Callable[[], bool],
        *,
        name: str,
        period_s: float,
        retry_s: tuple[float, float],
        on_outage: Callable[[Exception | None], None],
        meanwhile: Callable[[], None] = lambda: None,
        daemon: bool = True,
    ):
        self.failing = False
        self._deliver = deliver
        self._is_behind = is_behind
        self._period_s = period_s
        self._retry_s = retry_s
        self._on_outage = on_outage
        self._meanwhile = meanwhile
        self._closing = threading.Event()
        self._ended = False
        self._end_s = math.inf
        self._thread = threading.Thread(target=self._run, name=name, daemon=daemon)

    @property
    def closing(self) -> bool:
        """Whether what there is now is the last."""
        return self._closing.is_set()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Deliver nothing more; to be called by `deliver`."""
        self._ended = True

    def check_time(self) -> None:
        """Check that whoever closes this still waits; to be called by `deliver` now and then.

        Raises:
            TimeoutError: No longer.
        """
        if time.monotonic() > self._end_s:
            raise TimeoutError("the process ends")

    def close(
        self, limit_s: float, quiet_s: float = 0.0, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        """Deliver the rest, for at most so long; what fails now is tried once more.

        Args:
            limit_s: Seconds that it may take.
            quiet_s: After so many of them, `on_wait` is called.
            on_wait: Tells a person what is waited for; Ctrl-C ends the waiting, and no more.
        """
        self._end_s = time.monotonic() + limit_s
        self._closing.set()
        try:
            with ending_signals(str):
                self._thread.join(min(quiet_s, limit_s))
                if self._thread.is_alive():
                    on_wait()
                    self._thread.join(max(0.0, self._end_s - time.monotonic()))
        except Ended:
            self._end_s = -math.inf

    def _run(self) -> None:
        waits = pauses(*self._retry_s)
        while True:
            closing = self._closing.is_set()
            try:
                self._deliver()
            except Exception as error:  # whatever the other side raises: the study must not notice
                if time.monotonic() > self._end_s:
                    return
                if not self.failing:
                    self._on_outage(error)
                self.failing = True
                self._meanwhile()
                if closing or (self._closing.wait(next(waits)) and not self._is_behind()):
                    return
                continue
            if self._ended:
                return
            if self.failing:
                self._on_outage(None)
                self.failing, waits = False, pauses(*self._retry_s)
            if closing:
                return
            self._closing.wait(self._period_s)


def reason(error: Exception, length: int) -> str:
    """Return an error in one line of at most so many characters."""
    lines = f"{type(error).__name__}: {error}".splitlines()
    return lines[0][:length]
