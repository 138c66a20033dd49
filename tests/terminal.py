"""A terminal for tests: a program runs on a real pseudo-terminal, and what it draws is seen."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

CONTROL = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


class Grid:
    """The characters that a terminal shows, and those that have scrolled out above.

    It knows what rich's live displays use: carriage return, line feed, cursor up and down, erasing
    a line or to its end, and wrapping; colours are skipped. Any other control is a failure.
    """

    def __init__(self, columns: int, rows: int):
        self.columns = columns
        self.rows = rows
        self.lines = [""]
        """All lines from the first on; the screen is the last `rows`."""
        self.row = self.column = 0
        self.cursor_shown = True

    def feed(self, text: str) -> None:
        """Draw some output."""
        while text:
            if match := CONTROL.match(text):
                self._control(*match.groups())
                text = text[match.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _control(self, argument: str, command: str) -> None:
        times = int(argument or 1) if argument.isdigit() or not argument else 0
        match command:
            case "A":
                self.row = max(self.row - times, len(self.lines) - self.rows, 0)
            case "B":
                self.row = min(self.row + times, len(self.lines) - 1)
            case "K":
                self.lines[self.row] = "" if argument == "2" else self._before()
            case "l" | "h":
                assert argument == "?25", argument
                self.cursor_shown = command == "h"
            case _:
                assert command == "m", (argument, command)

    def _before(self) -> str:
        return self.lines[self.row][: self.column]

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._next_line()
        elif character == "\x07":
            pass
        else:
            assert character.isprintable(), repr(character)
            if self.column == self.columns:
                self.column = 0
                self._next_line()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    def _next_line(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    @property
    def text(self) -> str:
        """All lines, scrolled out or not."""
        return "\n".join(line.rstrip() for line in self.lines)

    @property
    def screen(self) -> list[str]:
        """The lines in view."""
        return [line.rstrip() for line in self.lines[-self.rows :]]


class Terminal:
    """A program on a terminal of its own.

    Attributes:
        grid: What the terminal shows.
        process: The program's.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ):
        self.grid = Grid(columns, rows)
        # Our own hold on the program's side keeps what it wrote last from being lost at its end.
        self._file, self._held = pty.openpty()
        fcntl.ioctl(self._held, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        sizes = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
        inherited = {name: value for name, value in os.environ.items() if name not in sizes}
        self.process = subprocess.Popen(
            command,
            stdin=self._held,
            stdout=self._held,
            stderr=self._held,
            env={**inherited, "TERM": "xterm-256color", **(env or {})},
            cwd=cwd,
            preexec_fn=_own_session,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Draw what the program writes; a terminal that does not would soon stop the program."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        pending, ended = "", False
        while not ended:
            ended = self.process.poll() is not None
            while select.select([self._file], [], [], 0.05)[0]:
                pending += decoder.decode(os.read(self._file, 1 << 16))
                cut = re.search(r"\x1b[^A-Za-z]*$", pending)
                end = cut.start() if cut else len(pending)
                self.grid.feed(pending[:end])
                pending = pending[end:]

    def wait_for(self, seen: Callable[[str], object], timeout_s: float = 240) -> None:
        """Wait until something is true of the lines in view."""
        end = time.monotonic() + timeout_s
        while not seen("\n".join(self.grid.screen)):
            assert self._reader.is_alive() and time.monotonic() < end, self.grid.text
            time.sleep(0.02)

    def type(self, text: str) -> None:
        """Press keys; "\\x03" is Ctrl-C."""
        os.write(self._file, text.encode())

    def finish(self, timeout_s: float = 480) -> int:
        """Wait for the program's end, and return its exit status."""
        self._reader.join(timeout_s)
        assert not self._reader.is_alive(), self.grid.text
        return self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join()
        os.close(self._file)
        os.close(self._held)


def _own_session() -> None:
    """Make the terminal the one whose Ctrl-C the program gets."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
