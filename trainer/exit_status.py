"""Exit statuses: what the end of a command says to those who called it.

`segtune --help` and docs/faults.md list them, and what calls a command again (cluster/relaunch.sh,
cluster/slurm.sh) goes by them.
"""

import signal
from enum import IntEnum

from trainer.files.passing_faults import is_passing


class Exit(IntEnum):
    """How a command ended; 128 and a signal's number where one ended it."""

    DONE = 0
    WRONG = 1
    REFUSED = 2
    BROKEN = 3
    AWAY = 75  # EX_TEMPFAIL of sysexits.h


MEANINGS = {
    Exit.DONE: "done, or told to stop: the same command continues a study",
    Exit.WRONG: "a crash; or what was looked for is there (check, replay, overfit), or a training "
    "diverged",
    Exit.REFUSED: "bad input, or something in the way; the line says what to change",
    Exit.BROKEN: "nothing but failures came out of a study: mend, then segtune retry",
    Exit.AWAY: "a storage that was waited for in vain, full or away, or a Ray that did not start; "
    "or a job that had to leave a study (work): the same command goes on",
}
BY_SIGNAL = "a signal of that number ended it at once: 130 SIGINT, 143 SIGTERM, 129 SIGHUP"
"""128 and above."""


def status_of_error(error: Exception) -> Exit:
    """Return the status of a command that an error ended, of which a line says all."""
    if is_passing(error):
        return Exit.AWAY
    return Exit.REFUSED if isinstance(error, ValueError | OSError) else Exit.WRONG


def status_of_signal(number: int) -> int:
    """Return the status of a command that a signal ended, as shells have it."""
    return 128 + signal.Signals(number)
