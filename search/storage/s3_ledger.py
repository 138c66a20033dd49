"""A study in S3 and its mirror folder: what the driver's thread sends, and what readers fetch.

    lease/                  search/storage/s3_lease.py
    ledger/000007-000000012345   bytes of ledger.jsonl from 12345 on, from the driver of lease 7
    study.yaml
    signs/stop              asks the driver to stop
    requests/1764…-1f2e….json   search/storage/requests.py: deleted once what it became is here
    signs/stopping-000007-0003   the driver of lease 7 asks the attempt of trial 3 to stop
    signs/alive-0003        trial 3 is alive
    trials/0003/            search/storage/s3_run.py

Objects cannot be appended to, so the ledger is sent in pieces: what was appended since the last
one, about once a second, by a thread. A driver's first piece is the whole ledger, as it found it
and began it, and replaces the pieces of all drivers before it: only those of the highest number
count, so that a driver which was thought dead can write what it likes. An S3 that does not answer
delays nothing; it is told once, and what it missed is sent when it answers again.

A driver that is killed has not sent the last second. Launched again on the same machine, it has
that still. Launched on another machine, whose mirror is empty, it goes on from what S3 has. Reports
that are missing come again: an attempt sends its own record to S3 before it reports a validation,
and the next attempt of the trial reports whatever the ledger does not have. A decision is made
again from the same reports. Of a trial whose proposal is missing, the number is given to another
one; its first attempt finds another configuration's record, and begins anew.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from search.ledger import lease
from search.ledger.journal import Ledger
from search.ledger.lease import BeingRun, TakenOver
from search.storage.outbox import Outbox, reason
from search.storage.requests import FOLDER, MAX_BYTES, names_in
from search.storage.s3 import (
    Entry,
    Remote,
    below,
    in_parallel,
    remote_of,
)
from search.storage.s3_lease import S3Lease
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json

logger = logging.getLogger(__name__)

PERIOD_S = 0.5
"""Between two pieces of the ledger."""
SIGNS_S = 2.0
"""Between two looks at the signs."""
RETRY_S = (1.0, 15.0)
"""First and longest pause after a failure."""
CLOSE_S = 60.0
"""At the end the rest is sent for at most so long; the next launch here sends what is left."""
REMOVED_AT_ONCE = 200
"""Objects of a study that is deleted, between two signs of life of who deletes it."""

INDEX = ".pieces.json"
"""In the mirror: which driver's pieces the ledger here consists of, and up to which byte."""


class _Index(NamedTuple):
    fence: int = 0
    end: int = 0

    @classmethod
    def load(cls, folder: Path) -> "_Index":
        try:
            return cls(**from_json((folder / INDEX).read_text()))
        except (FileNotFoundError, ValueError):  # version 0.1 wrote a list: all is fetched again
            return cls()

    def save(self, folder: Path) -> None:
        text = to_json(self._asdict(), indent=None)
        write_atomically(folder / INDEX, lambda temporary: temporary.write_text(text))


@contextmanager
def opened(remote: Remote, folder: Path) -> Iterator[Ledger]:
    """Open a study in S3 as its only driver, and keep what it writes there.

    Args:
        remote: The study's place.
        folder: Its mirror.

    Raises:
        ValueError: Another driver has the study, or its ledger is damaged.
        OSError: The folder or S3 cannot be reached.
    """
    remote.check()
    with _alone(folder) as alone:
        if not alone:
            who = lease.holder(folder) or "another process"
            raise BeingRun(remote, who)
        held = S3Lease.take(remote, above=max(_newest(_pieces(remote)), _local_fence(folder)))
        try:
            _fetch(remote, folder)
            path = folder / "ledger.jsonl"
            with Ledger.open(path, writer=True, above=held.fence - 1) as ledger:
                for stop in folder.glob("trials/*/stop"):
                    stop.unlink()
                with Sender(remote, folder, ledger, held):
                    yield ledger
        finally:
            with suppress(OSError):
                held.release()


def remove(remote: Remote, folder: Path) -> None:
    """Delete all that S3 has of a study, as its only driver; the ledger last, the newest first.

    So whoever is killed meanwhile leaves a study, which can be deleted again.

    Args:
        remote: The study's place.
        folder: Its mirror, which stays.

    Raises:
        ValueError: A driver has the study.
        OSError: S3 cannot be reached.
    """
    remote.check()
    with _alone(folder) as alone:
        if not alone:
            raise BeingRun(remote, lease.holder(folder) or "another process")
        held = S3Lease.take(remote, above=max(_newest(_pieces(remote)), _local_fence(folder)))
        try:
            keys = [entry.key for entry in remote.entries()]
            ledger = sorted((key for key in keys if key.startswith("ledger/")), reverse=True)
            rest = [key for key in keys if not key.startswith(("ledger/", "lease/"))]
            for at in range(0, len(rest + ledger), REMOVED_AT_ONCE):
                held.beat()
                remote.delete((rest + ledger)[at : at + REMOVED_AT_ONCE])
        except BaseException:
            with suppress(OSError):
                held.release()
            raise
        remote.delete(entry.key for entry in remote.entries("lease"))


def fetch_ledger(folder: Path) -> None:
    """Bring a study's ledger and settings here, if it lies in S3 and is not run from here.

    Raises:
        OSError: S3 does not answer, or refuses.
    """
    remote = remote_of(folder)
    if remote is None:
        return
    with _alone(folder) as alone:
        if alone:
            _fetch(remote, folder)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Change a mirror alone, if no driver of this machine does."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _lock(file, folder)
    finally:
        os.close(file)


def _lock(file: int, folder: Path) -> bool:
    """Lock a mirror, waiting for readers, but not for a driver; return whether that succeeded."""
    end_s = time.monotonic() + 10
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if lease.holder(folder) or time.monotonic() > end_s:
                return False
            time.sleep(0.05)
        else:
            return True


def _pieces(remote: Remote) -> list[Entry]:
    return sorted(remote.entries("ledger"))


def _place(piece: Entry) -> tuple[int, int]:
    """Return the number of a piece's driver, and where in the ledger it begins."""
    fence, _, start = piece.key.removeprefix("ledger/").partition("-")
    return int(fence), int(start)


def _newest(pieces: list[Entry]) -> int:
    return _place(pieces[-1])[0] if pieces else 0


def _local_fence(folder: Path) -> int:
    """Return the highest number in the ledger here, which may not have been sent."""
    path = folder / "ledger.jsonl"
    return Ledger.open(path, writer=False).fence if path.exists() else 0


def _fetch(remote: Remote, folder: Path) -> None:
    """Make the ledger here what S3 has; what only this machine has stays if nothing is newer."""
    while not _fetch_ledger(remote, folder):
        pass
    if settings := remote.get("study.yaml"):
        write_atomically(folder / "study.yaml", lambda temporary: temporary.write_bytes(settings))


def _fetch_ledger(remote: Remote, folder: Path) -> bool:
    """Return False where a driver has just replaced the pieces that were to be read."""
    pieces = _pieces(remote)
    fence = _newest(pieces)
    path = folder / "ledger.jsonl"
    known = _Index.load(folder)
    if known.fence != fence or not path.exists() or path.stat().st_size < known.end:
        known = _Index(fence)
    new = [piece for piece in pieces if _place(piece) >= (fence, 0)]
    new = [piece for piece in new if _place(piece)[1] + piece.size > known.end]
    contents = in_parallel(remote.get, [piece.key for piece in new])
    content, end = b"", known.end
    for piece, more in zip(new, contents, strict=True):
        start = _place(piece)[1]
        if more is None:
            return False
        if start > end:
            raise ValueError(f"{remote}: {piece.key}: the piece before it is missing")
        content += more[end - start :]
        end = max(end, start + len(more))
    if new:
        before = path.read_bytes()[: known.end] if known.end else b""
        write_atomically(path, lambda temporary: temporary.write_bytes(before + content))
        _Index(fence, end).save(folder)
    return True


class Sender:
    """Sends what a driver writes to S3 from a thread, and takes signs there and back.

    Args:
        remote: The study's place.
        folder: Its mirror.
        ledger: Open, and the newest of what `remote` has.
        held: The lease in S3.
    """

    def __init__(self, remote: Remote, folder: Path, ledger: Ledger, held: S3Lease):
        self._remote = remote
        self._folder = folder
        self._ledger = ledger
        self._lease = held
        self._sent = 0
        self._settings: bytes | None = None
        self._alive: dict[str, float] = {}
        self._stopping: set[str] = set()
        self._requests: set[str] = set()
        """Files of those that were brought here, and are in S3 still."""
        self._next_s = 0.0
        self._taken_over = False
        self._outbox = Outbox(
            self._send,
            self._is_behind,
            name="s3",
            period_s=PERIOD_S,
            retry_s=RETRY_S,
            on_outage=self._log_outage,
            meanwhile=self._vouch,
        )

    def __enter__(self) -> "Sender":
        self._send_ledger()  # so that whoever is told of this driver finds its study
        self._remote.delete(
            e.key for e in self._remote.entries("signs") if not e.key.startswith("signs/alive-")
        )
        self._fetch_requests()
        self._outbox.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._outbox.close(CLOSE_S)
        if self._is_behind() and not self._taken_over:
            logger.warning(
                "%s: does not have everything yet: launch from this machine to send the rest",
                self._remote,
            )

    def _is_behind(self) -> bool:
        return self._sent < self._ledger.size or bool(self._taken_up())

    def _log_outage(self, error: Exception | None) -> None:
        if error is None:
            logger.warning("%s: answers again and has everything", self._remote)
        else:
            why = reason(error, length=200)
            logger.warning("%s: does not answer, events wait: %s", self._remote, why)

    def _send(self) -> None:
        try:
            self._lease.beat()
            taken_up = self._taken_up()  # looked for before the ledger is sent, which has them now
            self._send_ledger()
            self._send_settings()
            self._remote.delete(f"{FOLDER}/{name}" for name in taken_up)
            self._requests -= taken_up
            if time.monotonic() >= self._next_s:
                self._exchange_signs()
                self._fetch_requests()
                self._next_s = time.monotonic() + SIGNS_S
        except TakenOver as error:
            self._taken_over = True
            self._ledger.lose(str(error))
            self._outbox.end()

    def _send_ledger(self) -> None:
        size = self._ledger.size
        if size == self._sent:
            return
        with self._ledger.path.open("rb") as file:
            file.seek(self._sent)
            content = file.read(size - self._sent)
        fence, first = self._lease.fence, self._sent == 0
        self._remote.put(f"ledger/{fence:06d}-{self._sent:012d}", content)
        self._sent = size
        _Index(fence, size).save(self._folder)
        if first:
            old = [piece for piece in _pieces(self._remote) if _place(piece)[0] < fence]
            self._remote.delete(piece.key for piece in old)

    def _send_settings(self) -> None:
        with suppress(FileNotFoundError):
            settings = (self._folder / "study.yaml").read_bytes()
            if settings != self._settings:
                self._remote.put("study.yaml", settings)
                self._settings = settings

    def _taken_up(self) -> set[str]:
        return {name for name in self._requests if not (self._folder / FOLDER / name).exists()}

    def _fetch_requests(self) -> None:
        """Bring here what people ask for; whoever reads it says what is wrong with it."""
        for entry in self._remote.entries(FOLDER):
            name = Path(entry.key).name
            if name in self._requests or not names_in([name]):
                continue
            too_large = f"of {entry.size} bytes".encode()
            content = self._remote.get(entry.key) if entry.size <= MAX_BYTES else too_large
            if content is not None:
                path = self._folder / FOLDER / name
                path.parent.mkdir(exist_ok=True)
                write_atomically(path, partial(Path.write_bytes, data=content))
                self._requests.add(name)

    def _exchange_signs(self) -> None:
        for stop in self._folder.glob("trials/*/stop"):
            if (trial := stop.parent.name) not in self._stopping:
                self._remote.put(f"signs/stopping-{self._lease.fence:06d}-{trial}", b"")
                self._stopping.add(trial)
        for sign in self._remote.entries("signs"):
            name = sign.key.removeprefix("signs/")
            if name == "stop":
                (self._folder / "stop").touch()
                self._remote.delete([sign.key])
            elif name.startswith("alive-") and self._alive.get(name) != sign.changed_s:
                self._alive[name] = sign.changed_s
                _touch_alive(below(self._folder, f"trials/{name.removeprefix('alive-')}"))

    def _vouch(self) -> None:
        """Let no trial be thought dead because S3 is."""
        for run_dir in self._folder.glob("trials/*"):
            _touch_alive(run_dir)


def _touch_alive(run_dir: Path) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "alive").touch()
