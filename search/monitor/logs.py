"""`segtune logs STUDY:7`: what a trial printed; `segtune logs STUDY`: what happened in a study."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.monitor.console import event_line
from search.monitor.watch import EVERY_REMOTE_S, EVERY_S, StudyFollower
from search.report.text import as_printed
from search.storage.run_folders import LOG, log_of, read_log
from search.storage.studies import display_path, read_study, shared_place
from search.storage.trials.names import trial_name, trial_of
from search.study.config import StudyConfig
from search.study.frozen import study_of
from trainer.configfile import ConfigError
from trainer.terminal import one_line

logger = logging.getLogger(__name__)

ANCHOR = 4096
"""Bytes by which the end of what was shown is found again in a log that was cut."""
_LEFT_OUT = re.compile(rb"^\[segtune: \d+ bytes are left out here\]$", re.M)


def show_trial(folder: Path, number: int, *, follow: bool) -> None:
    """Print a trial's log, and on request what comes until the trial or its driver ends.

    Args:
        folder: The study's.
        number: The trial's.
        follow: Go on; Ctrl-C ends it.

    Raises:
        ConfigError: There is no such trial, or it has no log.
        OSError: The log cannot be read.
    """
    run_dir = folder / "trials" / f"{number:04d}"
    trial = trial_of(folder, read_study(folder)[1], number)
    try:
        shown = content = b""
        for content in _contents(folder, number) if follow else ():
            new = new_in(shown, content)
            whole = new[: new.rfind(b"\n") + 1]
            shown = content[: len(content) - len(new) + len(whole)]
            _print(whole)
        found = content[len(shown) :] if content else read_log(run_dir)
    except KeyboardInterrupt:
        return
    if found is None:
        why = "it has not begun"
        if trial.attempts:
            goes_on = trial.ending is None and shared_place(folder)
            why = "it has not reported yet" if goes_on else "none was kept"
        raise ConfigError([f"{trial_name(folder, number)}: has no log: {why}"])
    _print(found)


def _contents(folder: Path, number: int) -> Iterator[bytes]:
    """Yield a trial's log again and again, until the trial or its driver has ended."""
    run_dir = folder / "trials" / f"{number:04d}"
    every_s = EVERY_REMOTE_S if shared_place(folder) else EVERY_S
    follower, path = StudyFollower(folder), run_dir / LOG
    seen: object = None
    content = b""
    while True:
        ended = not follower.driver or follower.snapshot.state.trials[number].ending
        try:
            stat = path.stat() if path.exists() else None
            now = (stat.st_size, stat.st_mtime_ns) if stat else None
            if shared_place(folder) or now != seen:
                seen, content = now, read_log(run_dir) or b""
        except OSError as error:
            if not shared_place(folder):
                raise
            logger.debug("%s: %s", display_path(folder), error)
        yield content
        if ended:
            return
        time.sleep(every_s)
        follower.poll()


def new_in(shown: bytes, content: bytes) -> bytes:
    """Return what of a log was not shown yet, although its middle may have been cut out since."""
    if content.startswith(shown):
        return content[len(shown) :]
    place = content.rfind(anchor := shown[-ANCHOR:])
    if place >= 0:
        return content[place + len(anchor) :]
    cut = _LEFT_OUT.search(content)
    return content[cut.start() :] if cut else content


def _print(content: bytes) -> None:
    """Print lines; the last one may have been left open by whoever was killed."""
    text = as_printed(content.decode(errors="replace"))
    print(text, end="" if text.endswith("\n") or not text else "\n", flush=True)


def show_study(folder: Path, *, follow: bool) -> None:
    """Print a study's events as its drivers did, and on request those until its driver ends.

    Args:
        folder: The study's.
        follow: Go on; Ctrl-C ends it.

    Raises:
        ValueError: The ledger is damaged, or has no settings.
        OSError: There is no ledger.
    """
    follower = StudyFollower(folder)
    told = _Told(folder)
    for event in follower.events:
        told.tell(event)
    with suppress(KeyboardInterrupt):
        while follow and follower.driver:
            time.sleep(EVERY_REMOTE_S if shared_place(folder) else EVERY_S)
            follower.poll(told.tell)
    told.end()


class _Told:
    """Prints the lines of a study's events, the first of a day with its date."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._study: StudyConfig | None = None
        self._state = StudyState()

    def tell(self, event: Event) -> None:
        """Take in an event, and print its line if it has one."""
        self._state.apply(event)
        when = time.localtime(event["time"])
        if event["event"] == "study":
            self._study = study_of(event, self._folder)
        if event["event"] == "driver":
            day = time.strftime("%Y-%m-%d %H:%M:%S %z", when)
            by = f", by {one_line(event['by'])}" if event.get("by") else ""
            print(f"--- {day}  driver pid {event.get('pid')} on {event.get('host')}{by}")
        elif self._study and (line := event_line(event, self._study, self._state)):
            print(line, flush=True)

    def end(self) -> None:
        """Say where more is."""
        logs = [n for n, t in self._state.trials.items() if t.attempts and log_of(self._folder, n)]
        if logs:
            name = trial_name(self._folder, logs[-1])
            if place := shared_place(self._folder):
                name = f"{place}:{logs[-1]}"
            print(f"\nWhat trials printed: segtune logs {name}; {len(logs)} have a log")
