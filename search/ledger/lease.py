"""One driver at a time: a lease on a study's folder, also where hosts share the folder.

A lease is a file `lease.000007` that its driver creates exclusively, touches every few seconds,
and which a successor removes. Its number fences the ledger: a driver that was thought dead finds
its file gone before it writes, and what it wrote meanwhile has a number that is out of date.

On one machine a lock on the file tells at once whether its driver lives. From another machine its
age tells, measured against a file made in the same folder, so that no two clocks are compared; and
one that has expired is watched for two touches more, since a clock may have jumped for a moment.
"""

import errno
import fcntl
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

from trainer.files.documents import from_json, to_json
from trainer.files.same_machine import clock_s, machine

logger = logging.getLogger(__name__)

LEASE_S = 30.0
"""A lease that nobody touches for so long has expired."""
BEAT_S = 5.0
"""Between two touches."""
WATCH_S = 10.0
"""One that looks expired is watched so long: a clock that was set makes any look so."""


class BeingRun(ValueError):
    """A driver that lives has the study.

    Args:
        place: The study's.
        who: The driver, as `pid 123 on host`.
    """

    def __init__(self, place: object, who: str):
        super().__init__(f"{place}: this study is being run by {who}")
        self.who = who


class TakenOver(ValueError):
    """Another driver has the study now; this one may write nothing more."""


class LostLedger(ValueError):
    """A ledger is no longer where its readers look: its driver may write nothing more."""


class Lease:
    """A lease that this process holds; get one with `take`.

    Attributes:
        fence: Its number, greater than that of every earlier one.
    """

    def __init__(self, path: Path, file: int):
        self.fence = _number(path)
        self._path = path
        self._file = file
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._heart.start()

    @classmethod
    def take(cls, folder: Path, *, above: int = 0) -> Self:
        """Take the lease of a study's folder, or wait until its holder proves alive or dead.

        Args:
            folder: The study's; it exists.
            above: The number must be greater: a copied study came without its leases.

        Raises:
            BeingRun: A driver that lives holds it.
            OSError: The folder cannot be written.
        """
        fence = max(above, _newest(folder))
        while True:
            _wait_for_death(lease_path(folder, fence))
            path = lease_path(folder, fence + 1)
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o664)
            except FileExistsError:  # somebody was quicker
                fence += 1
                continue
            try:
                if (newest := _newest(folder)) > fence + 1:  # and has been replaced already
                    path.unlink()
                    os.close(file)
                    fence = newest
                    continue
                _sign(file, fence + 1)
                for number in _numbers(folder):
                    if number <= fence:
                        lease_path(folder, number).unlink(missing_ok=True)
            except BaseException:
                path.unlink(missing_ok=True)
                os.close(file)
                raise
            return cls(path, file)

    def check(self) -> None:
        """Make sure that this lease is still held.

        Raises:
            TakenOver: It is not.
            LostLedger: There is none any more.
        """
        try:
            # Opened, because NFS answers a stat from its cache but asks the server for this.
            os.close(os.open(self._path, os.O_RDONLY))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            folder = self._path.parent
            if other := _look(lease_path(folder, _newest(folder))):
                raise TakenOver(
                    f"{folder}: another driver ({other.who}) has taken this study over; this one "
                    "writes nothing more"
                ) from None
            raise LostLedger(
                f"{folder}: was removed or renamed, or its lease was, while this driver wrote "
                "there; this one writes nothing more"
            ) from None

    def release(self) -> None:
        """Let the next driver begin at once; a second call does nothing."""
        if self._released.is_set():
            return
        self._released.set()
        self._heart.join()
        try:
            os.utime(self._path, (0, 0))  # as if not touched for half a century
        except OSError as error:
            logger.debug("%s: %s", self._path, error)
        os.close(self._file)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            try:
                os.utime(self._path)
            except FileNotFoundError:  # taken over: `check` tells who asks
                return
            except OSError as error:
                logger.debug("%s: %s", self._path, error)


def holder(folder: Path) -> str | None:
    """Return who holds a folder's lease at this moment, as `pid 123 on host`; None if nobody."""
    seen = observed(folder)
    return None if seen is None or seen.alive is False else seen.who


def observed(folder: Path) -> "Observed | None":
    """Return what can be known of the newest driver of a folder; None if it had none."""
    return _look(lease_path(folder, _newest(folder)))


class Observed(NamedTuple):
    """A lease as somebody else sees it."""

    who: str
    alive: bool | None
    """None: it was touched lately, on another machine."""
    touched_s: float
    silent_s: float
    """Seconds since it was touched, by the clock that dates the folder's files."""
    locked: bool | None = None
    """On this machine, whether its driver's lock is there."""

    @property
    def is_over(self) -> bool:
        """Whether its driver is certainly gone: it said so, or has left its lock."""
        return self.locked is False or not self.touched_s


def _look(path: Path) -> Observed | None:
    """Return what can be known of a lease's driver; None if there is no such lease."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        touched_s = os.fstat(file).st_mtime
        signed = _read(file)
        # What is not signed yet was created an instant ago.
        who = f"pid {signed['pid']} on {signed['host']}" if signed else "another process"
        if signed.get("machine") == machine():
            locked = _locked(file)
            return Observed(who, locked, touched_s, _since_s(path.parent, touched_s), locked)
    finally:
        os.close(file)
    silent_s = _since_s(path.parent, touched_s)
    return Observed(who, False if silent_s > LEASE_S else None, touched_s, silent_s)


def _wait_for_death(path: Path) -> None:
    """Return when a lease's driver is dead.

    Raises:
        BeingRun: It lives.
    """
    begun_s, first_s, told = time.monotonic(), None, False
    while (seen := _look(path)) and not seen.is_over:
        first_s = seen.touched_s if first_s is None else first_s
        if seen.alive or seen.touched_s != first_s:
            raise BeingRun(path.parent, seen.who)
        watched_s = time.monotonic() - begun_s
        if watched_s > (min(WATCH_S, LEASE_S) if seen.alive is False else LEASE_S):
            break
        if watched_s > 1 and not told:
            told = True
            logger.warning(
                "%s: waiting up to %.0f s for a sign of life of %s", path.parent, LEASE_S, seen.who
            )
        time.sleep(0.2)
    if told and seen:
        logger.warning("%s: %s is silent: this driver takes over", path.parent, seen.who)


def _sign(file: int, fence: int) -> None:
    """Lock a new lease, then say whose it is: whoever reads this finds the lock in place."""
    about: dict[str, Any] = {"fence": fence, "host": socket.gethostname(), "pid": os.getpid()}
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        about["machine"] = machine()
    except OSError:  # a file system without locks: the age alone tells
        pass
    os.write(file, to_json(about, indent=None).encode() + b"\n")
    os.fsync(file)


def _read(file: int) -> dict[str, Any]:
    try:
        return from_json(os.pread(file, 4096, 0))
    except ValueError:
        return {}


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _since_s(folder: Path, touched_s: float) -> float:
    try:
        now_s = clock_s(folder)
    except OSError:  # a reader may not be allowed to write
        now_s = time.time()
    return max(0.0, now_s - touched_s)


def lease_path(folder: Path, fence: int) -> Path:
    """Return the file that is there for as long as nobody has replaced a driver."""
    return folder / f"lease.{fence:06d}"


def _number(path: Path) -> int:
    return int(path.suffix[1:])


def _numbers(folder: Path) -> list[int]:
    return [_number(path) for path in folder.glob("lease.*") if path.suffix[1:].isdecimal()]


def _newest(folder: Path) -> int:
    return max(_numbers(folder), default=0)
