"""`segtune status STUDY --watch`: the driver's screen in another shell, from the ledger alone."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from search.ledger.journal import Event, Ledger
from search.ledger.state import contradictions, no_settings
from search.monitor.console import print_event
from search.monitor.live_screen import (
    REFRESH_PER_S,
    Screen,
    live_display,
    terminal,
)
from search.monitor.snapshot import StudySnapshot
from search.monitor.status import render, status_of
from search.storage.studies import display_path as name_of
from search.storage.studies import refresh, shared_place, writer_of
from trainer.files.documents import to_json

logger = logging.getLogger(__name__)

EVERY_S = 1.0
EVERY_REMOTE_S = 10.0
"""Between two polls of S3."""


class StudyFollower:
    """A study whose ledger others write; only what is new is read.

    Attributes:
        snapshot: Where it stands; another object once the file is not the one that was read.
        driver: Who runs it, None if nobody.

    Args:
        folder: The study's.

    Raises:
        ValueError: The ledger is damaged, contradicts itself, or has no settings.
        OSError: It cannot be read.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._path = folder / "ledger.jsonl"
        self._answers = True
        self.driver: str | None = None
        self._open()

    @property
    def events(self) -> list[Event]:
        """All that was read so far."""
        return self._ledger.events

    def _open(self) -> None:
        """Read all of the ledger, and wait for the settings of a study that has just begun."""
        while True:
            self._reach()
            self._ledger = Ledger.open(self._path, writer=False)
            if snapshot := StudySnapshot.of(self._ledger):
                self.snapshot = snapshot
                return
            if not self.driver:
                raise no_settings(self._path)
            time.sleep(EVERY_S)

    def poll(self, on_event: Callable[[Event], None] = lambda event: None) -> bool:
        """Read what is new, and return whether anything is.

        Args:
            on_event: Called with each new event, after it was applied.

        Raises:
            ValueError: As above.
            OSError: As above, but an S3 that does not answer only has nothing new.
        """
        before = self.driver
        self._reach()
        new = self._ledger.read_on()
        if new is None:
            self._open()
            return True
        with contradictions(self._path):
            for event in new:
                self.snapshot.apply([event])
                on_event(event)
        return bool(new) or self.driver != before

    def _reach(self) -> None:
        try:
            # Asked before the ledger is read, which then has all that a driver wrote who has gone.
            self.driver = writer_of(self._path)
            refresh(self.folder)
        except OSError as error:
            if not shared_place(self.folder):
                raise
            if self._answers:
                logger.warning("%s: does not answer: %s", name_of(self.folder), error)
            self._answers = False
        else:
            self._answers = True


def watch(folder: Path, *, every_s: float | None, as_json: bool) -> None:
    """Show a study until it ends, its driver has gone, or Ctrl-C.

    On a terminal, the live screen with the events above it. Else the lines of `status`, again
    after each poll that found something new.

    Args:
        folder: The study's.
        every_s: Between two polls; None for EVERY_S, or EVERY_REMOTE_S in S3.
        as_json: Print `status` as one line of JSON instead.

    Raises:
        ValueError: The ledger is damaged, contradicts itself, or has no settings.
        OSError: It cannot be read.
    """
    every_s = every_s or (EVERY_REMOTE_S if shared_place(folder) else EVERY_S)
    console = None if as_json else terminal()
    try:
        follower = StudyFollower(folder)
        if console:
            _draw(follower, console, every_s)
        else:
            _print(follower, every_s, as_json)
    except KeyboardInterrupt:
        return
    snapshot = follower.snapshot
    if console:
        finished = snapshot.state.finished(snapshot.study)
        last = "" if finished else " To continue it, run its `segtune launch` again."
        standing = snapshot.state.standing(snapshot.study)
        # Last, and without a period: it may end in a command.
        print(f"Nobody runs this study any more.{last} It is {standing}")


def _draw(follower: StudyFollower, console: Console, every_s: float) -> None:
    """Keep the screen up to date."""
    screen = Screen(follower.snapshot, follower.driver, follower.folder)

    def print_if_rare(event: Event) -> None:
        if event["event"] != "reported":
            print_event(event, follower.snapshot.study, follower.snapshot.state)

    with live_display(screen, console, ticking=False) as live:
        while follower.driver:
            _tick(live, every_s)
            follower.poll(print_if_rare)
            screen.update(follower.snapshot, follower.driver)


def _tick(live: Live, seconds: float) -> None:
    """Wait, while the screen's clocks go on."""
    end_s = time.monotonic() + seconds
    while (rest_s := end_s - time.monotonic()) > 0:
        live.refresh()
        time.sleep(min(rest_s, 1 / REFRESH_PER_S))


def _print(follower: StudyFollower, every_s: float, as_json: bool) -> None:
    """Print how the study stands, after every change."""
    changed = True
    while True:
        if changed:
            result = status_of(follower.snapshot, follower.folder, follower.driver)
            text = to_json(result, indent=None) if as_json else f"{render(result)}\n"
            print(text, flush=True)
        if not follower.driver:
            return
        time.sleep(every_s)
        changed = follower.poll()
