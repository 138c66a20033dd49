"""Text that others wrote, as people may get it: the one place where it is escaped.

Names, notes, reasons and file contents may come from anybody. They are kept as they are, and
escaped where they leave: whatever a command prints passes `guarded_streams`. What draws on the
terminal itself (rich's bars and screens) gets it from `unguarded`, and gives it no foreign text but
through `printable`. That drops what cannot be seen; where a name is what a line is about, `shown`
quotes it instead.
"""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

MAX_LINE = 500
"""Characters of a line of somebody's."""
_COLOUR = r"\x1b\[(?:[0-3]|3[1-6])?(?:;(?:[0-3]|3[1-6]))*m"
"""Bold, dim, italic and six colours, which neither hide nor move anything."""
_SEQUENCES = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, and what moves the cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
_BREAKS_LINES = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE = re.compile(f"{_SEQUENCES}|{_CONTROLS}")
_UNSAFE_BUT_COLOURS = re.compile(f"(?P<colour>{_COLOUR})|{_SEQUENCES}|{_CONTROLS}")


def printable(text: str) -> str:
    """Return text without what does more than print; line ends and tabs stay.

    Escape sequences go as a whole, and so do control characters and those that turn the direction
    of writing.
    """
    return _UNSAFE.sub("", text)


def one_line(value: object) -> str:
    """Return a value as printable text in one line, cut to MAX_LINE characters."""
    line = " ".join(printable(re.sub(r"\s", " ", str(value))).split())
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


def shown(name: object) -> str:
    """Return a name as it is, or quoted where its ends or a sign in it could not be seen.

    Bytes that are no UTF-8 are shown as such: `'caf\\xe9.png'`.
    """
    text = str(name)
    if text.isprintable() and text == text.strip():
        return text
    is_utf8 = not any("\udc80" <= sign <= "\udcff" for sign in text)
    return repr(text) if is_utf8 else repr(text.encode("utf-8", "surrogateescape"))[1:]


def in_one_line(text: str) -> str:
    """Return a message with what breaks its line, or the terminal's, as escapes."""
    return _BREAKS_LINES.sub(lambda found: repr(found.group())[1:-1], text)


class GuardedStream(io.TextIOBase):
    """A text stream to which only printable text gets; on a terminal, with a few colours.

    It has no `buffer`, which would be a way around it.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self._colours = stream.isatty()

    def write(self, text: str, /) -> int:
        """Write what of a text is printable.

        Raises:
            OSError: With the stream's name, as of any file: a full disk behind `> file`, a pipe
                that nobody reads.
        """
        with self._named():
            if self._colours:
                self.stream.write(_UNSAFE_BUT_COLOURS.sub(lambda m: m["colour"] or "", text))
            else:
                self.stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream; its errors are those of `write`."""
        with self._named():
            self.stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # of its errno's own class again, such as BrokenPipeError
            raise OSError(error.errno, error.strerror, self.stream.name) from None

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self.stream.fileno()

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The stream's."""
        return self.stream.errors


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Let only printable text to stdout and stderr, also where something else took them over."""
    before = sys.stdout, sys.stderr
    mine = GuardedStream(sys.stdout), GuardedStream(sys.stderr)
    sys.stdout, sys.stderr = mine
    try:
        yield
    finally:
        for name, old, new in zip(("stdout", "stderr"), before, mine, strict=True):
            if getattr(sys, name) is new:
                setattr(sys, name, old)


def open_closed_streams() -> None:
    """Open the null device for standard streams that whoever called has closed, as `>&-` does.

    The next file would get the descriptor else, and then what Ray or a library prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor == number:
                os.set_inheritable(descriptor, True)  # as standard streams are
            mode = "w" if number else "r"
            stream = open(  # noqa: SIM115
                descriptor, mode, encoding="utf-8", errors="backslashreplace"
            )
            setattr(sys, name, stream)


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream behind a guarded one, for what draws on the terminal itself."""
    while True:
        if isinstance(stream, GuardedStream):
            stream = stream.stream
        elif behind := getattr(stream, "rich_proxied_file", None):
            stream = behind
        else:
            return stream
