"""Keeps a program while its pipe is open, and ends all of it when that closes: run as a script.

    python -I -S program_keeper.py TERM_S STATUS_FD OUTPUT_FD LOCK FOLDER PROGRAM WORD…

Whoever starts it holds the other end of its stdin. However that one dies, the pipe closes: then the
program's whole process group gets SIGTERM, and after TERM_S seconds SIGKILL. It leaves its parent's
family at once, because Ray kills the children of a process that it ends, and would leave theirs.
What the program had said and nobody had read is said again before the next one in its folder.
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


def main(
    term_s: float, status_fd: int, output_fd: int, lock: str, folder: str, words: list[str]
) -> None:
    """Run the program to its end, or to that of the pipe on stdin; write how it ended.

    Args:
        term_s: Seconds between SIGTERM and SIGKILL.
        status_fd: Where the exit status is written, negative for a signal.
        output_fd: The other end of stdout, from which nobody reads when the parent has died.
        lock: A file that is locked while the program lives: two never run in one folder.
        folder: Where it runs.
        words: The program and its words.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    held, unread = _hold(lock), f"{lock}.unread"
    if _asked() is not None:
        return
    _say_again(unread)
    os.chdir(folder)
    pid = os.fork()
    if not pid:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # whoever ignores one hands that on
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for fd in (status_fd, output_fd, held):
            os.close(fd)
        try:
            os.execvp(words[0], words)
        except OSError as error:
            os.write(2, f"{words[0]}: {error.strerror}\n".encode())
            os._exit(127)
    os.set_blocking(output_fd, False)
    status, asked_s, orphaned = None, None, False
    while True:
        status = _reap(pid, status)
        if status is not None and asked_s is None:
            _tell(status_fd, status)
        asked = _asked() if asked_s is None else None
        if asked_s is None and (status is not None or asked is not None):
            asked_s, orphaned = time.monotonic(), asked == b""
            _kill(pid, signal.SIGTERM)
        if asked_s is not None:
            if orphaned:
                _keep(output_fd, unread)
            if status is not None and not _kill(pid, 0):
                break
            if time.monotonic() > asked_s + term_s:
                _kill(pid, signal.SIGKILL)
                status = _reap(pid, status, wait=True)
                break
            time.sleep(POLL_S)
    if orphaned:
        _keep(output_fd, unread)
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
            if _gone():
                return held
            time.sleep(POLL_S)
            continue
        except OSError:
            return held
        return held


def _gone() -> bool:
    """Return whether something was said on stdin, or it was closed, without taking that."""
    return bool(select.select([0], [], [], 0)[0])


def _asked() -> bytes | None:
    """Return what was said on stdin within POLL_S, nothing if its other end has died."""
    ready, _, _ = select.select([0], [], [], POLL_S)
    return os.read(0, 1) if ready else None


def _keep(output_fd: int, path: str) -> None:
    """Write what the program has said, and nobody read, into a file."""
    with open(path, "ab") as file:
        while True:
            try:
                chunk = os.read(output_fd, 1 << 16)
            except BlockingIOError:
                return
            if not chunk:
                return
            file.write(chunk)


def _say_again(path: str) -> None:
    try:
        with open(path, "rb") as file:
            said = file.read()
    except FileNotFoundError:
        return
    while said:
        said = said[os.write(1, said) :]
    os.write(1, b"\n")  # perhaps it was killed within a line
    os.unlink(path)


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
    term_s, status_fd, output_fd, lock, folder, *words = sys.argv[1:]
    main(float(term_s), int(status_fd), int(output_fd), lock, folder, words)
