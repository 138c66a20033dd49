"""MLflow as a view of the ledger: what of it was delivered, and the thread that delivers the rest.

The ledger is the spool: a thread walks along it and delivers, and a small file says how far it
came. A dead server delays nothing and loses nothing; what it missed is delivered later, or by
`segtune sync`. Delivery may repeat itself without doubling a point, since the points' times are
the ledger's.
"""

import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from search.ledger.events import OWN
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.storage.mlflow_cursor import Cursor, read_cursor, write_cursor
from search.storage.outbox import Outbox, reason
from search.storage.studies import display_path
from search.tracking.address import (
    database_path,
    linked_runs,
    tracking_uri,
    without_credentials,
)

if TYPE_CHECKING:
    from search.tracking.artifacts import Found
    from search.tracking.runs import StudyInMlflow


class Tracker:
    """Delivers a study's events to MLflow; a context manager that does it from a thread.

    Args:
        session: The study.
        link: Takes `mlflow` events for the ledger, which only the driver may write.
        say: Tells a person, once, that the server does not answer.

    Attributes:
        found: What the study has found when it ends, so that the last report need not look itself.
    """

    PERIOD_S = 2.0
    """Reports are gathered for so long and delivered together."""
    RETRY_S = (2.0, 60.0)
    """First and longest pause after a failure."""
    CLOSE_S = 60.0
    """At the end, the rest is delivered for at most so long; the next launch does what is left."""
    QUIET_S = 2.0
    """Of that, until a line says what is waited for."""
    CHUNK = 1000
    """Events a delivery."""
    REPORT_S = 300.0
    """Between two reports of a study that goes on."""
    REPORT_SHARE = 0.02
    """Of the time may go into them."""

    def __init__(
        self, session: StudySession, link: Callable[[Event], None], say: Callable[[str], None]
    ):
        self._session = session
        self._events = session.ledger.events
        self._link = link
        self._say = say
        self._secret_uri = tracking_uri(session.folder.parent)
        self.uri = without_credentials(self._secret_uri)
        self._delivered, self._reported = self._load_cursor()
        self._next_report_s = time.monotonic() + self.REPORT_S
        self._view: StudyInMlflow | None = None
        self._remedy = ""
        self.found: Found | None = None
        self._outbox = Outbox(
            self._deliver,
            lambda: self.behind,
            name="mlflow",
            period_s=self.PERIOD_S,
            retry_s=self.RETRY_S,
            on_outage=self._say_outage,
            daemon=False,
        )

    @property
    def behind(self) -> bool:
        """Whether there is anything that MLflow does not have."""
        return self._lacks(min(self._delivered, self._reported))

    def _lacks(self, position: int) -> bool:
        return any(event["event"] not in OWN for event in self._events[position:])

    def __enter__(self) -> "Tracker":
        self._outbox.start()
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):  # who ends it at once waits for nothing
            self._outbox.close(0)
            return
        later = f"`segtune sync {self._session.folder.name}`"
        waits = f"MLflow is brought up to date; Ctrl-C leaves, and {later} sends the rest later"
        # A server that does not answer takes none of the time.
        self._outbox.close(self.CLOSE_S, self.QUIET_S, lambda: self._say(waits))
        if self.behind:
            rest = self._remedy or f"{later} or the same command again sends the rest"
            self._say(f"MLflow does not have everything yet; {rest}")

    def _deliver(self) -> None:
        self.deliver(last=self._outbox.closing)

    def deliver(self, *, last: bool) -> int:
        """Deliver what there is, in this thread, and return how many events it was.

        Args:
            last: Nothing follows soon: the report of the study belongs to it, and a look whether
                what was delivered before is still there.

        Raises:
            Exception: Whatever MLflow raises; what was delivered before is noted.
        """
        if not (self.behind or last):
            return 0
        view = self._opened()
        begin = self._delivered
        while self._lacks(self._delivered):
            stop = min(self._delivered + self.CHUNK, len(self._events))
            view.send(self._events, stop)
            self._delivered = stop
            self._save_cursor()
        if self._lacks(self._reported) and (last or time.monotonic() >= self._next_report_s):
            self._report(view, last)
        return self._delivered - begin

    def _report(self, view: "StudyInMlflow", last: bool) -> None:
        stop, begun_s = self._delivered, time.monotonic()
        view.send_report(self.found if last else None, last=last)
        ended_s = time.monotonic()
        pause_s = max(self.REPORT_S, (ended_s - begun_s) / self.REPORT_SHARE)
        self._reported, self._next_report_s = stop, ended_s + pause_s
        self._save_cursor()

    def _opened(self) -> "StudyInMlflow":
        if self._view is None:
            from search.tracking.runs import StudyInMlflow

            check_time = self._outbox.check_time
            view = StudyInMlflow(self._session, self._secret_uri, self._link, self._say, check_time)
            if view.is_new:
                self._delivered = self._reported = 0
            view.skip(self._events, self._delivered)
            self._view = view
        return self._view

    def _say_outage(self, error: Exception | None) -> None:
        self._remedy = remedy(error, self.uri) if error else ""
        if error is None:
            self._say(f"MLflow at {self.uri} answers again and has everything")
        else:
            self._say(f"MLflow at {self.uri} does not answer, events wait: {why(error, self.uri)}")

    def _save_cursor(self) -> None:
        write_cursor(self._session.folder, Cursor(self.uri, self._delivered, self._reported))

    def _load_cursor(self) -> tuple[int, int]:
        """Return how many events MLflow has, and how many its report of the study covers."""
        saved = read_cursor(self._session.folder)
        linked = linked_runs(self._events, self.uri)
        # An earlier segtune kept passwords, and had no run of the study.
        if saved is None or without_credentials(saved.uri) != self.uri or None not in linked:
            return 0, 0
        if saved.delivered > len(self._events):  # it is of another ledger
            return 0, 0
        # A driver may have died between a run's creation and the line that links it; from its
        # proposal on, everything is delivered again, and the run is found by its trial's name.
        for number, event in enumerate(self._events[: saved.delivered]):
            if event["event"] == "proposed" and event["trial"] not in linked:
                return number, saved.reported
        return saved.delivered, saved.reported


def why(error: Exception, uri: str) -> str:
    """Return an error of MLflow's in a line without passwords, long enough for its remedy.

    Args:
        error: What it raised.
        uri: Where it is, without a password.
    """
    text = without_credentials(reason(error, length=600))[:300]
    return ": ".join(filter(None, (text, remedy(error, uri))))


def remedy(error: Exception, uri: str) -> str:
    """Return what a person must do about an error that waiting does not mend; else nothing."""
    path = database_path(uri)
    is_garbage = any(sign in str(error) for sign in ("is not a database", "image is malformed"))
    if path is None or not (is_garbage or path.is_dir()):
        return ""
    file = shlex.quote(display_path(path))
    what = "" if is_garbage else f"{file} is a folder; "
    return f"{what}mv {file} {file}.damaged, and `segtune sync` writes another"


def send_rest(session: StudySession, say: Callable[[str], None]) -> None:
    """Deliver what MLflow does not have of a study of which no trial runs now."""
    links: list[Event] = []
    tracker = Tracker(session, links.append, say)
    if tracker.behind:
        with tracker:
            pass
        session.record(*links)
