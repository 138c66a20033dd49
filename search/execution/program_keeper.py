"""Keeps a program while its pipe is open, and ends all of it when that closes: run as a script.

    python -I -S program_keeper.py TERM_S STATUS_FD OUTPUT_FD ERRORS_FD LOCK FOLDER PROGRAM WORD…

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
    term_s: float,
    status_fd: int,
    output_fd: int,
    errors_fd: int,
    lock: str,
    folder: str,
    words: list[str],
) -> None:
    """Run the program to its end, or to that of the pipe on stdin; write how it ended.

    Args:
        term_s: Seconds between SIGTERM and SIGKILL.
        status_fd: Where the exit status is written, negative for a signal.
        output_fd: The other end of stdout, from which nobody reads when the parent has died. It is
            kept open, because the program would end there and then if it printed.
        errors_fd: That of stderr.
        lock: A file that is locked while the program lives: two never run in one folder.
        folder: Where it runs.
        words: The program and its words.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    held = _hold(lock)
    if _asked() is not None:
        return
    unread = [(output_fd, f"{lock}.unread"), (errors_fd, f"{lock}.unread_errors")]
    if not all(_say_again(fd, path) for fd, (_, path) in enumerate(unread, 1)):
        return
    with suppress(FileNotFoundError):
        if os.path.getsize(f"{lock}.read"):  # perhaps its last line was never ended
            _say(1, b"\n")
    os.chdir(folder)
    pid = os.fork()
    if not pid:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # whoever ignores one hands that on
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for fd in (status_fd, output_fd, errors_fd, held):
            os.close(fd)
        try:
            os.execvp(words[0], words)
        except OSError as error:
            os.write(2, f"{words[0]}: {error.strerror}\n".encode())
            os._exit(127)
    for fd, _ in unread:
        os.set_blocking(fd, False)
    status, is_told, said, ends_s, is_gone = None, False, None, None, False
    # A program that has ended may have said what is yet to be read, by a worker that may yet die.
    while not is_gone or said is None:
        status = _reap(pid, status)
        if status is not None and not is_told:
            _tell(status_fd, status)
            is_told = True
        if said is None:
            said = _asked()
        else:
            time.sleep(POLL_S)
        if said == b"":
            _keep(unread)
        if is_gone:
            continue
        if ends_s is None and (status is not None or said is not None):
            ends_s = time.monotonic() + term_s
            _kill(pid, signal.SIGTERM)
        if ends_s is not None and time.monotonic() > ends_s:
            _kill(pid, signal.SIGKILL)
            status, is_gone = _reap(pid, status, wait=True), True
        elif ends_s is not None:
            is_gone = status is not None and not _kill(pid, 0)
    if said == b"":
        _keep(unread)
    _tell(status_fd, status)


def _tell(status_fd: int, status: int | None) -> None:
    with suppress(BrokenPipeError):  # nobody is left to be told
        os.write(status_fd, f"{status}\n".encode())


def _hold(lock: str) -> int:
    """Lock a file, waiting for whoever holds it, unless its file system cannot."""
    held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o660)
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


def _keep(unread: list[tuple[int, str]]) -> None:
    """Write what the program has said, and nobody read, into a file for each stream."""
    for fd, path in unread:
        with open(path, "ab") as file, suppress(BlockingIOError):
            while chunk := os.read(fd, 1 << 16):
                file.write(chunk)


def _say_again(fd: int, path: str) -> bool:
    """Say what is in a file, and delete it; return whether somebody is there to hear it."""
    try:
        with open(path, "rb") as file:
            said = file.read()
    except FileNotFoundError:
        return True
    if heard := _say(fd, said + b"\n"):  # perhaps it was killed within a line
        os.unlink(path)
    return heard


def _say(fd: int, said: bytes) -> bool:
    """Write into a pipe while the parent lives; return whether it did to the end."""
    while said:
        if 0 in select.select([0], [fd], [])[0]:
            return False
        said = said[os.write(fd, said[: select.PIPE_BUF]) :]
    return True


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
    term_s, status_fd, output_fd, errors_fd, lock, folder, *words = sys.argv[1:]
    main(float(term_s), int(status_fd), int(output_fd), int(errors_fd), lock, folder, words)
