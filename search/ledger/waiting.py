"""Says for what something waits: one line, once that has taken some seconds."""

import sys
import time
from collections.abc import Callable

AFTER_S = 3.0
"""A shorter wait is none that anybody asks about."""


class Wait:
    """What waits, perhaps for one thing after the other.

    Args:
        say: Is told each of them, once; by default stderr, since stdout may be what was asked for.
        after_s: How long one has to last.
    """

    def __init__(
        self,
        say: Callable[[str], None] = lambda why: print(
            f"waits    {why}", file=sys.stderr, flush=True
        ),
        after_s: float = AFTER_S,
    ):
        self._say = say
        self._after_s = after_s
        self._since_s: float | None = None
        self.why = ""
        """For what it waits; empty while it does not."""

    def on(self, why: str) -> None:
        """Be told time and again for what this waits, and with an empty text that it is over."""
        now_s = time.monotonic()
        if why != self.why:
            self.why, self._since_s = why, now_s
        if why and self._since_s is not None and now_s - self._since_s >= self._after_s:
            self._since_s = None
            self._say(why)
