"""Keeps a program while its pipe is open, and ends all of it when that closes: run as a script.

    python -I -S program_keeper.py TERM_S STATUS_FD LOCK FOLDER PROGRAM WORD…

Whoever starts it holds the other end of its stdin. However that one dies, the pipe closes: then the
program's whole process group gets SIGTERM, and after TERM_S seconds SIGKILL. It leaves its parent's
family at once, because Ray kills the children of a process that it ends, and would leave theirs.
Imports nothing but the standard library, and is up in 30 ms.
"""

import ctypes
import fcntl
import os
import select
import signal
import sys
import time
from contextlib import suppress

POLL_S = 0.05
PR_SET_CHILD_SUBREAPER = 36


def main(term_s: float, status_fd: int, lock: str, folder: str, words: list[str]) -> None:
    """Run the program to its end, or to that of the pipe on stdin; write how it ended.

    Args:
        term_s: Seconds between SIGTERM and SIGKILL.
        status_fd: Where the exit status is written, negative for a signal.
        lock: A file that is locked while the program lives: two never run in one folder.
        folder: Where it runs.
        words: The program and its words.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    held = _hold(lock)
    if _closed():
        return
    os.chdir(folder)
    pid = os.fork()
    if not pid:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # whoever ignores one hands that on
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.close(status_fd)
        os.close(held)
        try:
            os.execvp(words[0], words)
        except OSError as error:
            os.write(2, f"{words[0]}: {error.strerror}\n".encode())
            os._exit(127)
    status, asked_s = None, None
    while True:
        status = _reap(pid, status)
        if status is not None and asked_s is None:
            _tell(status_fd, status)
        if asked_s is None and (status is not None or _closed()):
            asked_s = time.monotonic()
            _kill(pid, signal.SIGTERM)
        if asked_s is not None:
            if status is not None and not _kill(pid, 0):
                break
            if time.monotonic() > asked_s + term_s:
                _kill(pid, signal.SIGKILL)
                status = _reap(pid, status, wait=True)
                break
            time.sleep(POLL_S)
    _tell(status_fd, status)


def _tell(status_fd: int, status: int | None) -> None:
    with suppress(BrokenPipeError):  # nobody is left to be told
        os.write(status_fd, f"{status}\n".encode())


def _hold(lock: str) -> int:
    """Lock a file, waiting for whoever holds it, unless its file system cannot."""
    held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _closed():
                return held
            continue
        except OSError:
            return held
        return held


def _closed() -> bool:
    """Return whether the pipe on stdin is closed, after POLL_S at most."""
    ready, _, _ = select.select([0], [], [], POLL_S)
    return bool(ready) and not os.read(0, 1)


def _reap(pid: int, status: int | None, *, wait: bool = False) -> int | None:
    """Take in children that ended, orphans among them; return the program's exit status."""
    while True:
        try:
            found, code = os.waitpid(-1, 0 if wait and status is None else os.WNOHANG)
        except ChildProcessError:
            return status
        if not found:
            return status
        if found == pid:
            status = os.waitstatus_to_exitcode(code)


def _kill(group: int, number: int) -> bool:
    """Signal a process group; return whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
