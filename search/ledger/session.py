"""A study while its driver runs it: the one place where events are recorded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from search.ledger.budget import cost_key, overspent
from search.ledger.decisions import Pruner
from search.ledger.journal import Event, Ledger
from search.ledger.patience import patiently
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from search.study.frozen import study_of

Listener = Callable[[Event], None]
Result = TypeVar("Result")


class StudySession:
    """A study's configuration, its ledger, and what the ledger says.

    Everything that happens goes through `record`: on disk first, then into the state, then to the
    listeners (sampler, progress lines, MLflow). Whatever is rebuilt after a crash is rebuilt from
    the same events in the same order.

    Attributes:
        stopping: Why the driver lets its trials checkpoint and end; empty while it does not.
        stopped_by: Whose stop file it was, if that is why.
        broken: Why the study cannot go on at all; empty while it can.
        data_changed: Whether that is because its data are others: no trial is at fault then.
        error: What made `record` fail. Ray Tune, which called, keeps only the text of it.
        why_stopped: Why attempts were asked to end, while the study goes on, by trial; until its
            next attempt.
        only: The trials that this driver runs, asked for by name: it proposes none, and no
            budget of the study ends it. None for all of the plan.
        most_hours: What the study may have spent, in hours of `cost_key`, when trials asked for by
            name are ended; None for no end.
        shares: Whether those trials are of the section `confirm`, which the study's budget ends as
            well.
    """

    def __init__(self, study: StudyConfig, folder: Path, ledger: Ledger):
        self.study = study
        self.folder = folder
        self.ledger = ledger
        self.state = StudyState.of(ledger)
        self.listeners: list[Listener] = []
        self.stopping = ""
        self.stopped_by = ""
        self.broken = ""
        self.data_changed = False
        self.error: Exception | None = None
        self.why_stopped: dict[int, str] = {}
        self.only: frozenset[int] | None = None
        self.most_hours: float | None = None
        self.shares = False
        self.pruner = Pruner.replay(study, self.state, ledger.events)
        self.listeners.append(self._follow)

    def record(self, *events: Event) -> None:
        """Append events to the ledger with one fsync, then let everyone know of them.

        While the storage is full or away this waits, and the study with it, unless it is told to
        stop.

        Raises:
            OSError: The storage fails; then nothing was recorded and no one told.
        """
        try:
            append = partial(self.ledger.append, *events)
            for event in self.patiently(append, self.ledger.path) if events else ():
                self.state.apply(event)
                for listener in self.listeners:
                    listener(event)
        except Exception as error:
            self.error = error
            raise

    def patiently(self, do: Callable[[], Result], place: Path) -> Result:
        """Read or write something of the study, waiting as `record` does.

        Args:
            do: May be called again after it failed.
            place: What it reads or writes.

        Raises:
            OSError: As `record`.
        """
        return patiently(do, place, told_to_stop=lambda: self.stopping)

    def _follow(self, event: Event) -> None:
        if event.get("trial") is not None:
            self.pruner.observe(self.state.trials[event["trial"]], event)
        match event["event"]:
            case "study":  # other limits, or another place: nothing that a decision goes by
                schema, study = self.study.own_schema, study_of(event, self.folder)
                self.study = study.checked_by(schema) if schema else study

    def trial_dir(self, trial: int) -> Path:
        """Return the folder in which a trial trains."""
        return self.folder / "trials" / f"{trial:04d}"

    def ask_to_stop(self, trial: int, why: str = "") -> None:
        """Ask a trial's attempt to write a checkpoint and end.

        Args:
            trial: Its number.
            why: What is recorded as the reason of its end, where the study itself goes on.
        """
        run_dir = self.trial_dir(trial)
        if why:
            self.why_stopped[trial] = why

        def ask() -> None:
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / "stop").touch()

        self.patiently(ask, run_dir)

    def asked_to_stop(self, folder: Path) -> bool:
        """Return whether somebody asks a trial, by its folder, or the study to stop."""
        stop = folder / "stop"
        return self.patiently(stop.exists, stop)

    def includes(self, trial: TrialState) -> bool:
        """Return whether this driver runs a trial now, unless it has ended."""
        if self.only is None:
            return self.study.confirm is None or trial.kind != "confirm"
        return trial.number in self.only

    def live(self) -> list[TrialState]:
        """Return the trials that are to train, oldest first."""
        return [trial for trial in self.state.live() if self.includes(trial)]

    @property
    def finished(self) -> bool:
        """Whether no trial is left to propose, to continue or to give its end."""
        if self.only is not None:
            return not self.live()
        return self.state.finished(self.study)

    @property
    def now_s(self) -> float:
        """Unix seconds, but by a clock that nobody has set since the last event."""
        return (self.state.last_time or 0.0) + self.ledger.idle_s

    def overspent(self, now: float | None = None) -> Event | None:
        """Return the `budget` event of the first limit that is reached, None if none ends this."""
        if self.only is None or self.shares:
            found = overspent(self.study, self.state.meter, now)
            if found or self.only is None:
                return found
        what = cost_key(self.study.trials)
        spent = self.state.meter.spent(self.study.trials, now)[what]
        if self.most_hours is None or spent < self.most_hours:
            return None
        found = {"event": "budget", "what": what, "spent": round(spent, 4),
                 "limit": round(self.most_hours, 4)}  # fmt: skip
        return found | {"share": True} if self.shares else found
