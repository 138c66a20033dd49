"""One driver at a time also where a study lies in S3, which has neither locks nor exclusive files.

A lease is an object `lease/000007-1f2e3d4c`, written anew by its driver every BEAT_S. Whoever wants
to follow finds it released, its process gone (on the same kernel and in the same process
namespace), or its date older than LEASE_S by S3's own clock, or watches it for so long. Then it
writes a claim with the next number, and lists: if it sees another claim of its number or a higher
one, it withdraws. S3 reads what was written (since 2020, as MinIO and Ceph do), so of two claims
the later one sees the earlier, and never do two drivers hold the same number.

What is guaranteed: numbers only rise, one driver has each, and of the ledger (storage/s3_ledger.py)
only the pieces of the highest number count. So what a driver that was thought dead still writes
never mixes with its successor's. What is not: that two drivers never run at the same time. One that
S3 has not heard for LEASE_S may be replaced, and goes on until it reaches S3 again; then it ends,
and what it did meanwhile does not count.
"""

import logging
import os
import random
import re
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from search.ledger.lease import BeingRun, TakenOver
from search.storage.s3 import Entry, Remote
from trainer.files.documents import from_json, to_json

logger = logging.getLogger(__name__)

BEAT_S = 10.0
"""Between two signs of life."""
LEASE_S = 60.0
"""A lease that nobody renews for so long has expired."""

_KEY = re.compile(r"lease/(\d+)-[0-9a-f]+")


class S3Lease:
    """A lease that this process holds; get one with `take`.

    Attributes:
        fence: Its number, greater than that of every earlier one.
    """

    def __init__(self, remote: Remote, key: str):
        self.fence = _number(key)
        self._remote = remote
        self._key = key
        self._next_s = time.monotonic() + BEAT_S

    @classmethod
    def take(cls, remote: Remote, *, above: int = 0) -> "S3Lease":
        """Take the lease of a study, or wait until its holder proves alive or dead.

        Args:
            remote: The study's place.
            above: The number must be greater.

        Raises:
            ValueError: A driver that lives holds it.
            OSError: S3 does not answer, or refuses.
        """
        while True:
            earlier = _leases(remote)
            if earlier:
                _wait_for_death(remote, earlier[-1])
            fence = max([above, *(_number(entry.key) for entry in earlier)]) + 1
            key = f"lease/{fence:06d}-{uuid.uuid4().hex[:8]}"
            remote.put(key, _signature())
            others = [entry for entry in _leases(remote) if entry.key != key]
            if all(_number(entry.key) < fence for entry in others):
                remote.delete(entry.key for entry in others)
                return cls(remote, key)
            remote.delete([key])
            time.sleep(random.uniform(0.1, 1.0))

    def beat(self) -> None:
        """Give a sign of life where one is due, and make sure that the lease is still held.

        Raises:
            TakenOver: It is not.
            OSError: S3 does not answer.
        """
        if time.monotonic() < self._next_s:
            return
        leases = _leases(self._remote)
        if not leases or leases[-1].key != self._key:
            who = _who(_read(self._remote, leases[-1])) if leases else "unknown"
            raise TakenOver(
                f"{self._remote}: another driver ({who}) has taken this study over; this one "
                "writes nothing more"
            )
        self._remote.put(self._key, _signature())
        self._next_s = time.monotonic() + BEAT_S

    def release(self) -> None:
        """Let the next driver begin at once.

        Raises:
            OSError: S3 does not answer.
        """
        self._remote.put(self._key, to_json({"released": True}, indent=None).encode())


def holder(remote: Remote) -> str | None:
    """Return who runs a study at this moment, as `pid 123 on host`; None if nobody.

    Raises:
        OSError: S3 does not answer.
    """
    leases = _leases(remote)
    seen = _look(remote, leases[-1]) if leases else None
    return None if seen is None or seen.alive is False else seen.who


class _Observed(NamedTuple):
    """A lease as somebody else sees it."""

    who: str
    alive: bool | None
    """None: it was renewed lately, on another machine."""
    changed_s: float


def _look(remote: Remote, lease: Entry) -> _Observed | None:
    """Return what can be known of a lease's driver; None if the lease is gone or released."""
    signed = _read(remote, lease)
    if not signed or signed.get("released"):
        return None
    who = _who(signed)
    if signed["kernel"] == _kernel():
        return _Observed(who, _started(signed["pid"]) == signed["started"], lease.changed_s)
    expired = _clock_s(remote) - lease.changed_s > LEASE_S
    return _Observed(who, False if expired else None, lease.changed_s)


def _wait_for_death(remote: Remote, lease: Entry) -> None:
    """Return when a lease's driver is dead.

    Raises:
        BeingRun: It lives.
    """
    end_s, first = time.monotonic() + LEASE_S, lease
    while (seen := _look(remote, lease)) and seen.alive is not False:
        if seen.alive or lease.changed_s != first.changed_s:
            raise BeingRun(remote, seen.who)
        if time.monotonic() > end_s:
            return
        if lease is first:
            logger.warning(
                "%s: waiting up to %.0f s for a sign of life of %s", remote, LEASE_S, seen.who
            )
        time.sleep(1.0)
        leases = _leases(remote)
        if not leases or leases[-1].key != first.key:
            return
        lease = leases[-1]


def _leases(remote: Remote) -> list[Entry]:
    """Return the leases, the newest last."""
    return sorted(entry for entry in remote.entries("lease") if _KEY.fullmatch(entry.key))


def _number(key: str) -> int:
    match = _KEY.fullmatch(key)
    assert match is not None, key
    return int(match[1])


def _read(remote: Remote, lease: Entry) -> dict[str, Any]:
    content = remote.get(lease.key)
    return from_json(content) if content else {}


def _who(signed: dict[str, Any]) -> str:
    return f"pid {signed['pid']} on {signed['host']}" if "pid" in signed else "unknown"


def _signature() -> bytes:
    pid = os.getpid()
    about = {
        "host": socket.gethostname(),
        "pid": pid,
        "kernel": _kernel(),
        "started": _started(pid),
    }
    return to_json(about, indent=None).encode()


def _kernel() -> str:
    """Return what processes share that can see each other; unlike a host's name it is unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex  # equal to none: the age alone tells


def _started(pid: int) -> str:
    """Return when a living process began, in the kernel's ticks; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _clock_s(remote: Remote) -> float:
    """Return the time by which S3 dates its objects."""
    key = f"clock/{uuid.uuid4().hex[:8]}"
    try:
        remote.put(key, b"")
        [entry] = [entry for entry in remote.entries("clock") if entry.key == key]
    except (OSError, ValueError):  # a reader may not be allowed to write
        return time.time()
    with suppress(OSError):
        remote.delete([key])
    return entry.changed_s
