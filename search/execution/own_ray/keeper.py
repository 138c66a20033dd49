"""Holds the lock on a Ray's folder for as long as that Ray lives, and clears the folder then.

`ray start` ends long before its Ray, a killed driver a little before; and whoever shares the
folder's disk from another container sees the lock, and none of the processes. So beside each Ray
of ours runs this, which has the lock's open file from who started that Ray, and the folder's name
in RAY_TMPDIR. Its input ends with who started it. It needs nothing but Python's own library.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SIGN = "segtune"
"""The file in a folder that says whose it is."""
LOOK_S = 1.0


def living_in(folder: Path, among: Iterable[int] | None = None) -> list[int]:
    """Return the others that have the folder's name among their words, as Ray's daemons have."""
    if among is None:
        among = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    found = []
    for process in among:
        with suppress(OSError):
            if os.fsencode(folder) in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return [process for process in found if process != os.getpid()]


def _renamed_in(folder: Path) -> list[int]:
    """Return Ray's agents and workers, whose words are now `ray::...`, by a log that each has."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(b"ray::"):
                logs = [os.readlink(file) for file in (process / "fd").iterdir()]
                if any(log.startswith(f"{folder}/") for log in logs):
                    found.append(int(process.name))
    return found


def clear(folder: Path) -> None:
    """Remove a folder whose lock is held; what cannot go, or is not Ray's, keeps its sign."""
    shutil.rmtree(folder / "ray", ignore_errors=True)
    with suppress(OSError):
        if os.listdir(folder) == [SIGN]:
            shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path) -> None:
    """Wait for the end of who started this, and of all that lives in the folder; then clear it."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # as for all of a job, whose Ray ends later
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    while living := living_in(folder):
        while living := living_in(folder, living):  # the whole list of processes is long
            time.sleep(LOOK_S)
    for process in _renamed_in(folder):  # one that begins would make the folder anew
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)
    clear(folder)


if __name__ == "__main__":
    keep(Path(os.environ["RAY_TMPDIR"]))
