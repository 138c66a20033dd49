"""The append-only record of a study: one JSON object a line, written by the driver alone.

Everything else about a study can be rebuilt from it. Lines are strict JSON; the floats that JSON
lacks are written as the strings "NaN", "Infinity" and "-Infinity", and read back as floats.
"""

import fcntl
import json
import logging
import math
import os
import socket
import time
from pathlib import Path
from typing import Any, Self

logger = logging.getLogger(__name__)

Event = dict[str, Any]

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Ledger:
    """An open ledger; make one with `open`.

    Attributes:
        path: The file.
        events: Every event so far, in order.
    """

    def __init__(self, path: Path, events: list[Event], file: int | None, lock: int | None):
        self.path = path
        self.events = events
        self._file = file
        self._lock = lock

    @classmethod
    def open(cls, path: str | Path, *, writer: bool) -> Self:
        """Read a ledger, and as the writer hold it alone until `close` or the process ends.

        A last line without its line end is an append that a crash cut short: it was never acted
        on and is left out, and the writer removes it. A damaged line above it is refused.

        Args:
            path: The file; the writer creates it and its folder where they are missing.
            writer: Whether to append. Readers need no lock and may read beside the writer.

        Raises:
            ValueError: Another process writes, or a line is damaged.
            OSError: The file cannot be read, created or locked.
        """
        path = Path(path)
        if not writer:
            events, _ = _parse(path, path.read_bytes())
            return cls(path, events, file=None, lock=None)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(_lock_path(path))
        try:
            created = not path.exists()
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if created:
                    _sync_folder(path.parent)
                content = path.read_bytes()
                events, size = _parse(path, content)
                if size < len(content):
                    torn = len(content) - size
                    logger.warning("%s: dropped a torn last line of %d bytes", path, torn)
                    os.ftruncate(file, size)
                    os.fsync(file)
            except BaseException:
                os.close(file)
                raise
        except BaseException:
            os.close(lock)
            raise
        return cls(path, events, file, lock)

    def append(self, *events: Event) -> list[Event]:
        """Write events, one write and one fsync for all, and return them as a reader sees them.

        When this returns they are on disk. When it raises none of them is in the file, as far as
        the file system lets that be arranged, and `events` does not have them.

        Args:
            *events: Each with `event`, its kind; `time` (unix seconds) is added.

        Raises:
            OSError: The disk is full or fails.
        """
        assert self._file is not None, "only the writer appends"
        assert all(isinstance(event.get("event"), str) for event in events)
        now = round(time.time(), 3)
        lines = [_encode({**event, "time": now}) for event in events]
        data = "".join(lines).encode()
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(
                    f"{self.path}: wrote {written} of {len(data)} bytes: is the disk full?"
                )
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        seen = [_decode(line) for line in lines]
        self.events.extend(seen)
        return seen

    def close(self) -> None:
        """Release the ledger; a second call does nothing."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def writer_of(path: str | Path) -> str | None:
    """Return who writes a ledger at this moment, as `pid 123 on host`; None if nobody does."""
    try:
        lock = os.open(_lock_path(Path(path)), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(lock)
    return None


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _holder(lock: int) -> str:
    return os.pread(lock, 1000, 0).decode(errors="replace").strip() or "another process"


def _acquire(path: Path) -> int:
    """Lock a file, name this process in it, and return its descriptor."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    give_up_s = time.monotonic() + 0.5
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < give_up_s:
                time.sleep(0.02)  # `writer_of` holds it for an instant
                continue
            holder = _holder(lock)
            os.close(lock)
            raise ValueError(f"{path.parent}: this study is being run by {holder}") from None
        except OSError as error:
            os.close(lock)
            raise OSError(f"{path}: cannot be locked: {error.strerror}") from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return lock


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable: fsync of the file alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse(path: Path, content: bytes) -> tuple[list[Event], int]:
    """Return the events of all complete lines, and how many bytes those take."""
    size = content.rfind(b"\n") + 1
    events = []
    for number, line in enumerate(content[:size].split(b"\n")[:-1], start=1):
        try:
            event = _decode(line.decode())
            if not (isinstance(event, dict) and isinstance(event.get("event"), str)):
                raise ValueError("no event")
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: damaged: {line[:60]!r}") from error
        events.append(event)
    return events, size


def _encode(event: Event) -> str:
    try:
        text = json.dumps(event, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_name_non_finite(event), allow_nan=False, separators=(",", ":"))
    return text + "\n"


def _decode(line: str) -> Event:
    event = json.loads(line)
    named = "NaN" in line or "Infinity" in line
    return _read_non_finite(event) if named else event


def _name_non_finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _name_non_finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_name_non_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _read_non_finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _read_non_finite(item) for key, item in value.items()}
        case list():
            return [_read_non_finite(item) for item in value]
        case str():
            return _NON_FINITE.get(value, value)
    return value
