"""`tests.search.drive` by a clock that is ten minutes ahead of all others.

Only of Python's `time`: what dates files is the kernel's, as a file server's clock is its own.
"""

import sys
import time

AHEAD_S = 600.0


def put_ahead() -> None:
    """Let `time.time` and `time.time_ns` be ahead from now on."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + AHEAD_S
    time.time_ns = lambda: now_ns() + int(AHEAD_S * 1e9)


if __name__ == "__main__":
    put_ahead()
    from tests.search.drive import main

    sys.exit(main(*sys.argv[1:]))
