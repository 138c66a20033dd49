"""A trial's run folder in S3: fetched before it trains, sent before each of its reports.

    trials/0003/000007-0002/claim           of the second attempt, under the driver of lease 7
    trials/0003/000007-0002/manifest.json   the run folder's files, each with its object
    trials/0003/000007-0002/4-metrics.jsonl one of the files that its fourth sending changed

An attempt claims its trial, takes over the newest manifest before its own, and writes below its own
number alone; the manifest comes after what it names, so that the folder is always whole. Objects
that neither the newest manifest nor the one before names are deleted. Before it sends, it looks for
a claim after its own, and if there is one it ends. So one that was thought dead can at most finish
the sending that it was in, and that takes nothing away from its successor: whichever of its last
two manifests that took over, its objects are still there.

The node's own copy of a run folder goes when its attempt ends and all of it is in S3. What a killed
one leaves in `work` of SEGTUNE_CACHE (else ~/.cache/segtune) saves the next attempt there the
fetching; `rm -r ~/.cache/segtune/work`, when nothing runs, frees the rest.
"""

import errno
import fcntl
import logging
import math
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.storage.outbox import pauses
from search.storage.s3 import (
    Entry,
    Remote,
    below,
    in_parallel,
)
from trainer.configfile import flatten
from trainer.files.atomic import write_atomically
from trainer.files.damaged import clear
from trainer.files.documents import from_json, to_json

logger = logging.getLogger(__name__)

SIGNS_S = 2.0
"""Between two polls for the sign to stop."""
ALIVE_S = 5.0
"""Between two signs of life."""
RETRY_S = (1.0, 15.0)
"""First and longest pause after a failure."""
CLAIM_S = 300.0
"""An attempt that cannot begin for so long gives its trial back."""
CLOSE_S = 30.0
"""At the end of an attempt what is left is sent for at most so long."""

INDEX = ".objects.json"
"""In a run folder: the objects that its files were equal to when it was last fetched or sent."""
HERE = {"alive", "stop", "owner"}
"""Files of a run folder that mean something on its node alone."""
FREE = {"epochs", "device", "num_threads", "data.store", "data.store_hash", "memory_share"}
"""Settings in which two attempts of one trial may differ."""


class Superseded(RuntimeError):
    """Another attempt has the trial now; this one may write nothing more."""


class S3Run:
    """An attempt's hold on a trial's run folder in S3; a context manager.

    Args:
        study: The study's place.
        run_dir: The run folder on this node.
        trial: Its number.
        owner: (number of the driver's lease, attempt).
        train: The trial's TrainConfig; a record of another one is not taken over.
    """

    def __init__(
        self,
        study: Remote,
        run_dir: Path,
        trial: int,
        owner: tuple[int, int],
        train: Mapping[str, Any],
    ):
        self._study = study
        self._run_dir = run_dir
        self._name = f"{trial:04d}"
        self._trial = study / f"trials/{self._name}"
        self._fence = owner[0]
        self._own = f"{owner[0]:06d}-{owner[1]:04d}"
        self._train = flatten(dict(train))
        self._files: dict[str, str] = {}
        """Object of each file, as the newest manifest has it."""
        self._seen: dict[str, tuple[int, int]] = {}
        """Size and date of each file when it was sent."""
        self._num_sent = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._exchange_signs, name="s3", daemon=True)

    def __enter__(self) -> "S3Run":
        """Claim the trial and bring its run folder here.

        Raises:
            Superseded: Another attempt has claimed it since this one was sent.
            OSError: S3 does not answer for CLAIM_S, or the disk is full.
        """
        _insist(self._claim, limit_s=CLAIM_S)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        try:
            _insist(self._send_last, limit_s=CLOSE_S)
        except (OSError, Superseded) as error:
            logger.warning("%s: not sent to the end: %s", self._trial, error)
        else:
            fetch_run(self._trial, {}, self._run_dir)

    def _send_last(self) -> None:
        """Send what is left; that nothing is left is no proof that the run is still ours."""
        self._send()
        self._check(self._trial.entries())

    def send(self) -> None:
        """Send what has changed since the last time, for as long as that takes.

        Raises:
            Superseded: Another attempt has the trial.
        """
        _insist(self._send)

    def _claim(self) -> None:
        self._trial.put(f"{self._own}/claim", b"")
        found = self._trial.entries()
        self._check(found)
        self._run_dir.mkdir(parents=True, exist_ok=True)
        clear(self._run_dir / "stop")
        self._look_for_stop()
        manifest = newest_manifest(self._trial, found)
        self._files = manifest["files"] if self._is_same(manifest["train"]) else {}
        if not self._files or self._files != load_index(self._run_dir):
            _let_end(self._run_dir / ".program")
            # What an attempt printed here that was killed was not sent.
            fetch_run(self._trial, self._files, self._run_dir, kept=("stop", "log.txt"))
        save_index(self._run_dir, self._files)

    def _is_same(self, train: Mapping[str, Any]) -> bool:
        """Return whether a record is this trial's; settings that one did not know may be new."""
        keys = train.keys() & self._train.keys() - FREE
        return all(train[key] == self._train[key] for key in keys)

    def _look_for_stop(self) -> None:
        # Asked for by name: to list costs ten times as much.
        if self._study.get(f"signs/stopping-{self._fence:06d}-{self._name}") is not None:
            (self._run_dir / "stop").touch()

    def _check(self, found: list[Entry]) -> None:
        last = max((e.key.partition("/")[0] for e in found), default=self._own)
        if last > self._own:
            raise Superseded(f"{self._trial}: attempt {last} has this trial, not {self._own}")

    def _send(self) -> None:
        seen = dict(_stat(self._run_dir))
        changed = [name for name, stat in seen.items() if self._seen.get(name) != stat]
        if not changed and seen.keys() == self._files.keys():
            return
        found = self._trial.entries()
        self._check(found)
        self._num_sent += 1
        files = {name: key for name, key in self._files.items() if name in seen}
        for name in changed:
            # Flat, since Arrow leaves a marker in each folder whose last object it deletes.
            key = f"{self._own}/{self._num_sent}-{name.replace('/', '~')}"
            try:
                self._trial.upload(key, self._run_dir / name)
            except FileNotFoundError:  # renamed meanwhile, by a trainer that does not wait
                seen.pop(name)
                files.pop(name, None)
            else:
                files[name] = key
        manifest = {"train": self._train, "files": files}
        self._trial.put(f"{self._own}/manifest.json", to_json(manifest, indent=None).encode())
        kept = {*files.values(), *self._files.values()}
        kept |= {f"{self._own}/claim", f"{self._own}/manifest.json"}
        self._files, self._seen = files, seen
        save_index(self._run_dir, files)
        self._trial.delete(entry.key for entry in found if entry.key not in kept)

    def _exchange_signs(self) -> None:
        alive = self._run_dir / "alive"
        last, next_s = 0.0, 0.0
        while not self._closing.wait(SIGNS_S):
            try:
                self._look_for_stop()
                changed = alive.stat().st_mtime if alive.exists() else 0.0
                if changed != last and time.monotonic() >= next_s:
                    self._study.put(f"signs/alive-{self._name}", b"")
                    last, next_s = changed, time.monotonic() + ALIVE_S
            except OSError as error:
                logger.debug("%s: %s", self._study, error)


def _insist(do: Callable[[], None], limit_s: float = math.inf) -> None:
    """Do something with S3 again and again until it succeeds, or until a limit.

    Raises:
        OSError: The limit has come, or it is this machine's disk that fails.
    """
    end_s = time.monotonic() + limit_s
    for pause_s in pauses(*RETRY_S):
        try:
            return do()
        except OSError as error:
            if error.errno is not None:  # S3's errors have none
                raise
            if time.monotonic() + pause_s > end_s:
                raise OSError(errno.EREMOTEIO, f"S3 does not answer: {error}") from error
            logger.warning("S3 does not answer, this trial waits: %s", error)
        time.sleep(pause_s)


def _let_end(lock: Path) -> None:
    """Wait for the program of an attempt that was killed here, before its files and lock go."""
    with suppress(FileNotFoundError), lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


_OURS = re.compile(rf"{re.escape(INDEX)}|\.program.*|\..+\.tmp")
"""Names of files that are of use on this node alone: locks, and what is not written yet."""


def _stat(run_dir: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for path in sorted(run_dir.rglob("*")):
        if path.name in HERE or _OURS.fullmatch(path.name) or not path.is_file():
            continue
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        yield path.relative_to(run_dir).as_posix(), (stat.st_size, stat.st_mtime_ns)


def newest_manifest(trial: Remote, found: list[Entry]) -> dict[str, Any]:
    manifests = sorted(e.key for e in found if e.key.endswith("/manifest.json"))
    content = trial.get(manifests[-1]) if manifests else None
    return from_json(content) if content else {"train": {}, "files": {}}


def fetch_run(
    trial: Remote, files: Mapping[str, str], run_dir: Path, kept: Collection[str] = ("stop",)
) -> None:
    """Make a run folder what a manifest says; nothing else stays in it but what is to be kept.

    Args:
        trial: The trial's place.
        files: The object of each file.
        run_dir: The run folder.
        kept: Names of what stays, unless the manifest has it.

    Raises:
        OSError: S3 does not answer, or the disk is full.
    """
    for path in run_dir.iterdir() if run_dir.exists() else ():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    in_parallel(lambda name: trial.download(files[name], below(run_dir, name)), files)


def load_index(run_dir: Path) -> dict[str, str] | None:
    try:
        return from_json((run_dir / INDEX).read_text())
    except FileNotFoundError:
        return None


def save_index(run_dir: Path, files: Mapping[str, str]) -> None:
    text = to_json(files, indent=None)
    write_atomically(run_dir / INDEX, lambda temporary: temporary.write_text(text))
