"""What a trial prints, in its log: this process's file descriptors 1 and 2, while it trains.

So what subprocesses, C libraries and a crash write is there as well. It is where Ray has it, too.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

PUMP = Path(__file__).with_name("log_pump.py")
PIPE_BYTES = 1 << 20
"""Which may be printed while the pump is not given a processor."""
WAIT_S = 5.0
"""For an answer of the pump."""


class TrialLog:
    """The logs of one process's trials, one after the other; a log that fails disturbs none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._write: int
        self._control: socket.socket
        self._pump: subprocess.Popen[bytes] | None = None
        self._before: tuple[int, int] | None = None
        """What fd 1 and 2 were, while they are the pump's."""

    @contextmanager
    def kept(self, path: Path, header: str = "", prefix: str = "") -> Iterator[None]:
        """Keep what is printed in a log for as long as it takes, the traceback of an error too."""
        self.begin(path, header, prefix)
        try:
            yield
        except (Exception, KeyboardInterrupt, SystemExit):
            print_traceback()
            raise
        finally:
            self.end()

    def begin(self, path: Path, header: str = "", prefix: str = "") -> None:
        """Keep what is printed from now on.

        Args:
            path: The log, which is appended to.
            header: The line that it begins with.
            prefix: Of each line.
        """
        try:
            self._start()
            self._tell({"path": str(path), "header": header, "prefix": prefix})
            with self._lock:
                _flush()
                if self._before is None:
                    self._before = os.dup(1), os.dup(2)
                os.dup2(self._write, 1)
                os.dup2(self._write, 2)
        except OSError as error:
            logger.warning("%s: is not kept: %s", path, error.strerror or error)
            self._let_go()

    def end(self) -> None:
        """Keep no more; what was printed is in the log when this returns."""
        self._restore()
        if self._pump:
            try:
                self._tell(None)
            except OSError:  # a later answer would be taken for another one
                self._let_go()

    def close(self) -> None:
        """Let the pump end, as soon as nothing is left that prints."""
        self.end()
        self._let_go()

    def _let_go(self) -> None:
        if self._pump:
            self._control.close()
            os.close(self._write)
        self._pump = None

    def _start(self) -> None:
        """Start the pump, unless there is one."""
        if self._pump and self._pump.poll() is None:
            return
        self._let_go()
        read, self._write = os.pipe()
        self._control, theirs = socket.socketpair()
        self._control.settimeout(WAIT_S)
        with suppress(OSError, AttributeError):  # Linux alone has it
            import fcntl

            fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with theirs:
            self._pump = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PUMP), str(theirs.fileno())],
                stdin=read,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        # While somebody could read, nobody who prints gets SIGPIPE: not if the pump is killed.
        threading.Thread(target=self._outlive, args=(self._pump, read), daemon=True).start()

    def _outlive(self, pump: "subprocess.Popen[bytes]", read: int) -> None:
        pump.wait()
        if pump is self._pump:
            self._restore()
        os.close(read)

    def _tell(self, log: dict[str, str] | None) -> None:
        self._control.sendall(json.dumps(log).encode() + b"\n")
        if not self._control.recv(1):
            raise OSError("the process that writes it has ended")

    def _restore(self) -> None:
        with self._lock:
            if self._before is None:
                return
            _flush()
            for number, before in enumerate(self._before, start=1):
                os.dup2(before, number)
                os.close(before)
            self._before = None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def print_traceback() -> None:
    """Print the traceback of the exception that is being handled; never in colours."""
    print(traceback.format_exc(), end="", file=sys.stderr, flush=True)


def begun(attempt: int, received: int) -> str:
    """Return the line that an attempt begins with.

    Args:
        attempt: Its number.
        received: The last epoch reported before it, -1 for none.
    """
    when = time.strftime("%Y-%m-%d %H:%M:%S %z")
    after = f", after epoch {received}" if received >= 0 else ""
    return f"--- {when}  attempt {attempt} on {socket.gethostname()}, pid {os.getpid()}{after}"
