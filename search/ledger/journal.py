"""The append-only record of a study: one JSON object a line, written by the driver alone.

Everything else about a study can be rebuilt from it.

Each line has, after what it says, `time`, in unix seconds; `after_s`, the seconds since its
driver's line before by a clock that nobody sets, which is what is charged; `v`, the version of this
format; `fence`, the number of its driver's lease; `more`, how many lines of the same append follow,
unless none does; and last `crc`, the CRC-32 of all bytes before `,"crc"`. That last key stays as it
is in every version, so that damage is never taken for another version.
"""

import codecs
import errno
import json
import logging
import os
import shlex
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from search.ledger.lease import Lease, LostLedger, TakenOver
from search.ledger.line import Event, decode, encode, seal, sound
from search.ledger.users import user_name
from trainer.files.passing_faults import naming

__all__ = ["VERSION", "Event", "Ledger", "steady_s"]

logger = logging.getLogger(__name__)

VERSION = 1
"""Of the format of a line."""

MAX_LINE_BYTES = 64 << 20
"""Of a line; the longest that a driver writes has the scores of all cases."""


class Ledger:
    """An open ledger; make one with `open`.

    Attributes:
        path: The file.
        events: Every event so far, in order.
        fence: The number of this driver's lease; a reader's is the highest in the file.
        size: Bytes of all complete appends.
    """

    def __init__(self, path: Path, lines: "_Lines", held: Lease | None):
        self.path = path
        self.events = lines.events
        self.fence = held.fence if held else lines.fence
        self.size = lines.size
        self._file: int | None = None
        self._lease = held
        self._lost = ""
        self._left = b""
        self._appended_s = steady_s()
        self._lines = lines

    @classmethod
    def open(cls, path: str | Path, *, writer: bool, above: int = 0) -> Self:
        """Read a ledger, and as the writer hold it alone until `close` or the process ends.

        An append is in it whole or not at all: one at its end that a crash cut short was never
        acted on and is left out, and the writer removes it. A damaged line is refused. Lines that
        a driver wrote after another had taken over are left out.

        The writer's first line is a `driver` event. It is written before the file is read, so
        that whatever a driver thought dead still appends is either read now or left out for ever.

        Args:
            path: The file; the writer creates it and its folder where they are missing.
            writer: Whether to append. Readers need no lease and may read beside the writer.
            above: The number of the writer's lease must be greater.

        Raises:
            ValueError: Another driver writes, a line is damaged, or another segtune wrote it.
            OSError: The file cannot be read or created, or the lease not be taken.
        """
        path = Path(path)
        if not writer:
            lines = _Lines(path)
            lines.read(path.read_bytes())
            return cls(path, lines, held=None)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _Lines(path)
        created = not path.exists()
        if not created:
            lines.read(path.read_bytes())
        held = Lease.take(path.parent, above=max(above, lines.fence))
        ledger = cls(path, lines, held=held)
        try:
            ledger._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o664)
            if created:
                _sync_folder(path.parent)
            ledger._begin(lines)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def read_on(self) -> list[Event] | None:
        """Return what a reader's ledger has grown by since it was last read.

        Returns:
            The new events; None if the file is not the one that was read, and must be opened anew:
            a mirror was replaced, or an append removed that its driver could not finish.

        Raises:
            ValueError: As `open`.
            OSError: The file cannot be read.
        """
        assert self._lease is None, "the writer knows what it appends"
        start = max(0, self.size - len(self._lines.last))
        with open(self.path, "rb") as file:
            file.seek(start)
            content = file.read()
        known = self.size - start
        if content[:known] != self._lines.last:
            return None
        before = len(self.events)
        self._lines.read(content[known:])
        self.size, self.fence = self._lines.size, self._lines.fence
        return self.events[before:]

    def _begin(self, lines: "_Lines") -> None:
        """Remove a torn append, say who writes from here on, and read what is new."""
        assert self._file is not None
        torn = lines.read(_read_from(self._file, lines.size))
        if torn:
            logger.warning("%s: dropped a torn append of %d bytes", self.path, torn)
            os.ftruncate(self._file, lines.size)
        self.size = lines.size
        driver: Event = {"event": "driver", "host": socket.gethostname(), "pid": os.getpid()}
        driver["by"] = user_name()
        self._write(self._sealed([driver]))
        lines.read(_read_from(self._file, lines.size))
        self.size = lines.size
        if lines.outdated:
            logger.warning(
                "%s: left out %d lines of a driver that another had replaced: %s",
                self.path,
                len(lines.outdated),
                ", ".join(map(str, lines.outdated[:5])) + (", …" if lines.outdated[5:] else ""),
            )

    def append(self, *events: Event) -> list[Event]:
        """Write events, one write and one fsync for all, and return them as a reader sees them.

        When this returns they are on disk. When it raises none of them is in the file, as far as
        the file system lets that be arranged, and `events` does not have them.

        Args:
            *events: Each with `event`, its kind; `time` (unix seconds) and `fence` are added.

        Raises:
            TakenOver: Another driver has the study now.
            LostLedger: The file is no longer there, or another is in its place.
            OSError: The disk is full or fails.
        """
        assert self._lease is not None, "only the writer appends"
        assert all(isinstance(event.get("event"), str) for event in events)
        if self._lost:
            raise TakenOver(self._lost)
        self._lease.check()
        self._check_place()
        lines = self._sealed(events)
        self._write(lines)
        seen = [decode(line[:-1]) for line in lines]
        self.events.extend(seen)
        return seen

    def _sealed(self, events: Sequence[Event]) -> list[bytes]:
        assert self._lease is not None
        now = {"time": round(time.time(), 3), "after_s": round(self.idle_s, 3)}
        fence = {"v": VERSION, "fence": self._lease.fence}
        lines = []
        for number, event in enumerate(events):
            rest = len(events) - 1 - number
            more = {"more": rest} if rest else {}
            lines.append(seal(encode({**event, **now, **fence, **more})))
            now["after_s"] = 0.0
        return lines

    def _write(self, lines: list[bytes]) -> None:
        assert self._file is not None
        data, written = b"".join(lines), 0
        try:
            self._clear()
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(self._file)
        except OSError as error:
            self._left = data[:written]
            with suppress(OSError):  # else before the next append
                self._clear()
            raise naming(error, self.path) from None
        self.size = os.fstat(self._file).st_size
        self._appended_s = steady_s()

    @property
    def idle_s(self) -> float:
        """Seconds since the last append, or the opening, by a clock that nobody sets."""
        return steady_s() - self._appended_s

    def _clear(self) -> None:
        """Remove what an append that failed has left at the end, and nothing that others wrote."""
        assert self._file is not None
        if self._left and _read_from(self._file, self.size) == self._left:
            os.ftruncate(self._file, self.size)
        self._left = b""

    def _check_place(self) -> None:
        """Make sure that readers find what is appended.

        Raises:
            LostLedger: They do not. What was written so far is saved beside it.
            OSError: The folder cannot be read.
        """
        assert self._file is not None
        try:
            # Opened, because NFS answers a stat from its cache but asks the server for this.
            found = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            what = "was removed"
        else:
            mine, its = os.fstat(self._file), os.fstat(found)
            os.close(found)
            if (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino):
                return
            what = "was replaced by another file"
        saved = self.path.with_name(f"ledger.{self.fence:06d}.saved.jsonl")
        saved.write_bytes(_read_from(self._file, 0)[: self.size])
        raise LostLedger(
            f"{self.path}: {what} while this driver wrote it; this one writes nothing more. All "
            f"that it had is in {saved.name} there: move that back, then launch again"
        )

    def lose(self, reason: str) -> None:
        """Refuse appends from here on: another driver has the study."""
        self._lost = reason

    def close(self) -> None:
        """Release the ledger; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
        if self._lease is not None:
            self._lease.release()
        self._file = self._lease = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Lines:
    """A ledger's lines as they are read, piece by piece.

    Attributes:
        events: Those of all lines that count.
        size: Bytes of all complete appends.
        fence: The highest so far.
        outdated: Numbers of the lines that do not count.
        last: The line before `size`, with its end.
    """

    def __init__(self, path: Path):
        self.events: list[Event] = []
        self.size = 0
        self.fence = 0
        self.outdated: list[int] = []
        self.last = b""
        self._path = path
        self._number = 0

    def read(self, content: bytes) -> int:
        """Take in what follows `size`; return the bytes of a torn last append.

        Raises:
            ValueError: A line is damaged, or another version of segtune wrote it.
        """
        *lines, rest = content.split(b"\n")
        appended: list[Event] = []
        size, first = 0, self._number + 1
        for number, line in enumerate(lines, start=first):
            event = self._event(number, line)
            size += len(line) + 1
            if event["fence"] < self.fence:
                self.outdated.append(number)
            else:
                if event["fence"] > self.fence:  # what is open was never finished
                    self.outdated += range(number - len(appended), number)
                    appended.clear()
                self.fence = event["fence"]
                appended.append(event)
            if not appended or "more" not in appended[-1]:
                self.events += appended
                appended.clear()
                self._number, self.size, size = number, self.size + size, 0
                self.last = line + b"\n"
        if rest and sound(rest[:-1]):  # its line end became something else: it was acted on
            number = first + len(lines)
            raise self._refusal(number, f"damaged: its end is {rest[-1:]!r}")
        return size + len(rest)

    def _event(self, number: int, line: bytes) -> Event:
        if len(line) > MAX_LINE_BYTES:
            raise self._refusal(number, f"has more than {MAX_LINE_BYTES} bytes")
        if not sound(line):
            if number == 1 and _unversioned(line):
                raise self._refusal(
                    number,
                    "has no version: a pre-release segtune wrote it; give the study another name",
                )
            raise self._refusal(number, f"damaged: {line[:60]!r}{self._cause(number, line)}")
        try:
            event = decode(line)
        except (ValueError, RecursionError) as error:
            raise self._refusal(number, f"no event: {error}") from error
        if not all(type(event.get(key)) is int for key in ("v", "fence")):
            raise self._refusal(number, "no event: has no v or no fence")
        if event["v"] > VERSION:
            raise self._refusal(
                number,
                f"has version {event['v']}: a newer segtune wrote it; this reads up to {VERSION}",
            )
        return event

    def _cause(self, number: int, line: bytes) -> str:
        """Return how an editor damaged a line and what mends it; nothing where it was not one."""
        path = shlex.quote(str(self._path))
        if number == 1 and line[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            new = shlex.quote(f"{self._path}.new")
            return f": saved as UTF-16: iconv -f UTF-16 -t UTF-8 {path} > {new} && mv {new} {path}"
        bare = line.removeprefix(codecs.BOM_UTF8).rstrip(b" \t\r")
        if bare and not sound(bare):
            study = shlex.quote(self._path.parent.name)
            return f": segtune check {study} says whether it can be mended"
        marked = line.startswith(codecs.BOM_UTF8)
        left = "a blank line" if not bare else "a byte-order mark" if marked else "CRLF or blanks"
        clean = r"sed -i -e '1s/^\xef\xbb\xbf//' -e 's/[ \t\r]*$//' -e '/^$/d'"
        return f": an editor left {left}: {clean} {path}"

    def _refusal(self, number: int, problem: str) -> ValueError:
        return ValueError(f"{self._path}: line {number}: {problem}")


def steady_s() -> float:
    """Return seconds by a clock that nobody sets, and that a suspended machine does not stop."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _unversioned(line: bytes) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and "event" in event and not event.keys() & {"v", "crc"}


def _read_from(file: int, position: int) -> bytes:
    """Return what a file has from a position on."""
    pieces = []
    while piece := os.pread(file, 1 << 20, position):
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable: fsync of the file alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
