"""Writes what a trial's processes print into its log: a process of its own, beside a worker.

    python -I -S log_pump.py CONTROL      what is printed comes on stdin, and goes on to stdout

It outlives the worker, so that the last words of one that is killed are in the log, and it never
lets whoever prints wait: what comes faster than RATE, or while the disk does not answer, is kept in
memory, the newest of it. CONTROL is a socket on which the worker says which log is meant from now
on. It imports nothing of this project, and so starts at once.
"""

import json
import os
import re
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LIMIT = 4 << 20
"""Bytes of a log; a longer one is cut: its first HEAD bytes stay, and its newest NEWEST."""
HEAD = 256 << 10
NEWEST = LIMIT // 2
RATE = 2 << 20
"""Bytes a second that are written."""
CHUNK = 1 << 20
"""Bytes that are read at once: all that the pipe holds."""
LEFT_OUT = b"[segtune: %d bytes are left out here]\n"
_LEFT_OUT = re.compile(rb"^\[segtune: (\d+) bytes are left out here\]\n", re.M)


class LogFile:
    """A trial's log, which is appended to.

    Args:
        path: The file; its folder and the one above are made.
        header: The line that an attempt begins with, empty for none.
        prefix: Of each line; whoever has one leaves the cutting to another process.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, header: str = "", prefix: str = ""):
        for folder in (path.parents[1], path.parent):  # not the study's: it may be out of reach
            folder.mkdir(exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o664)
        self._prefix = prefix.encode()
        size = os.fstat(self._file).st_size
        self._line_begins = not size or os.pread(self._file, 1, size - 1) == b"\n"
        if header:
            self._append(b"\n" * (not self._line_begins) + header.encode() + b"\n")
            self._line_begins = True

    def write(self, data: bytes) -> None:
        """Append, and cut what is too long.

        Raises:
            OSError: The disk is full or fails.
        """
        if self._prefix and data:
            begins, self._line_begins = self._line_begins, data.endswith(b"\n")
            lines = data[: -1 if self._line_begins else None].replace(b"\n", b"\n" + self._prefix)
            data = self._prefix * begins + lines + b"\n" * self._line_begins
        self._append(data)
        if not self._prefix and os.fstat(self._file).st_size > LIMIT:
            self._cut()

    def close(self) -> None:
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _cut(self) -> None:
        whole = os.pread(self._file, os.fstat(self._file).st_size, 0)
        head = whole[: whole.rfind(b"\n", 0, HEAD) + 1] or whole[:HEAD]
        if found := _LEFT_OUT.search(head):  # where it was cut before
            head = head[: found.start()]
        begin = whole.find(b"\n", len(whole) - NEWEST) + 1 or len(whole) - NEWEST
        between, newest = whole[len(head) : begin], whole[begin:]
        earlier = [found[0] for found in _LEFT_OUT.finditer(between)]
        left_out = len(between) + sum(int(line.split()[1]) - len(line) for line in earlier)
        line = b"" if head.endswith(b"\n") else b"\n"
        os.ftruncate(self._file, len(head))
        self._append(line + LEFT_OUT % left_out + newest)


class Writer(threading.Thread):
    """Writes to a log, and what it is given also to the stdout that there was before.

    Whoever gives it something never waits: of what is not yet written, the newest is kept.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._waiting = deque[bytes | Callable[[], None]]()
        self._bytes = 0
        self._left_out = 0
        self._changed = threading.Condition()
        self._log: LogFile | None = None
        self._passed_on = 0

    def give(self, data: bytes) -> None:
        """Write data."""
        with self._changed:
            self._waiting.append(data)
            self._bytes += len(data)
            while self._bytes > NEWEST:
                place = next(i for i, each in enumerate(self._waiting) if isinstance(each, bytes))
                oldest = self._waiting[place]
                assert isinstance(oldest, bytes)
                del self._waiting[place]
                self._bytes -= len(oldest)
                self._left_out += len(oldest)
            self._changed.notify()

    def then(self, action: Callable[[], None]) -> None:
        """Do something when all before it is written."""
        with self._changed:
            self._waiting.append(action)
            self._changed.notify()

    def open(self, path: str, header: str, prefix: str) -> None:
        """Write to another log from now on; an action for `then`."""
        self.close()
        with suppress(OSError):
            self._log = LogFile(Path(path), header, prefix)
        self._passed_on = 0

    def close(self) -> None:
        """Write to no log from now on; an action for `then`."""
        if self._log:
            self._log.close()
        self._log = None

    def run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                first = self._waiting.popleft()
                data, left_out = b"", 0
                if isinstance(first, bytes):
                    parts = [first]
                    while self._waiting and isinstance(self._waiting[0], bytes):
                        parts.append(self._waiting.popleft())  # type: ignore[arg-type]
                    data, left_out, self._left_out = b"".join(parts), self._left_out, 0
                    self._bytes -= len(data)
            if not isinstance(first, bytes):
                first()
                continue
            if left_out:
                data = b"\n" + LEFT_OUT % left_out + data[data.find(b"\n") + 1 :]
            self._write(data)
            time.sleep(len(data) / RATE)

    def _write(self, data: bytes) -> None:
        if self._log:  # a log that cannot be written is no reason to disturb a training
            with suppress(OSError):
                self._log.write(data)
        room = LIMIT - self._passed_on
        if room > 0 or not self._log:
            self._passed_on += len(data)
            with suppress(OSError):
                os.write(1, data if room >= len(data) else data[:room] + b"\n[segtune: cut here]\n")


def main() -> None:
    """Write what comes, until nobody is there to print."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    words = control.makefile("rb")
    os.set_blocking(0, False)
    writer = Writer()
    writer.start()

    def drain() -> bool:
        """Take what a pipe can hold, if there is so much; return False at the end of everything."""
        for _ in range(2):
            try:
                data = os.read(0, CHUNK)
            except BlockingIOError:
                break
            if not data:
                return False
            writer.give(data)
        return True

    def answer() -> None:
        with suppress(OSError):
            control.send(b".")

    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(control, selectors.EVENT_READ)
        printing = True
        while printing:
            ready = {key.fd for key, _ in selector.select()}
            if control.fileno() in ready:
                if not (line := words.readline()):
                    selector.unregister(control)  # the worker is gone; what it began may print on
                elif log := json.loads(line):
                    drain()
                    writer.then(lambda log=log: writer.open(**log))  # type: ignore[misc]
                    answer()
                else:
                    drain()
                    writer.then(writer.close)
                    writer.then(answer)
            if 0 in ready:
                printing = drain()
    written = threading.Event()
    writer.then(written.set)
    written.wait()


if __name__ == "__main__":
    main()
