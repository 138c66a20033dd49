"""A study while its driver runs it: the one place where events are recorded."""

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

from search.ledger.budget import overspent
from search.ledger.decisions import Pruner
from search.ledger.journal import Event, Ledger
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from search.study.frozen import study_of

logger = logging.getLogger(__name__)

FULL = {errno.ENOSPC, errno.EDQUOT}

Listener = Callable[[Event], None]


class StudySession:
    """A study's configuration, its ledger, and what the ledger says.

    Everything that happens goes through `record`: on disk first, then into the state, then to the
    listeners (sampler, progress lines, MLflow). Whatever is rebuilt after a crash is rebuilt from
    the same events in the same order.

    Attributes:
        stopping: Why the driver lets its trials checkpoint and end; empty while it does not.
        broken: Why the study cannot go on at all; empty while it can.
        data_changed: Whether that is because its data are others: no trial is at fault then.
        error: What made `record` fail. Ray Tune, which called, keeps only the text of it.
        only: The trials that this driver runs, asked for by name: it proposes none, and no
            budget of the study ends it. None for all of the plan.
        gpu_hours: What the study may have spent when trials asked for by name are ended; None for
            no end.
    """

    FULL_S = 5.0
    """Between two attempts to write on a full disk."""

    def __init__(self, study: StudyConfig, folder: Path, ledger: Ledger):
        self.study = study
        self.folder = folder
        self.ledger = ledger
        self.state = StudyState.of(ledger)
        self.listeners: list[Listener] = []
        self.stopping = ""
        self.broken = ""
        self.data_changed = False
        self.error: Exception | None = None
        self.only: frozenset[int] | None = None
        self.gpu_hours: float | None = None
        self.pruner = Pruner.replay(study, self.state)
        self.listeners.append(self._follow)

    def record(self, *events: Event) -> None:
        """Append events to the ledger with one fsync, then let everyone know of them.

        While the disk is full this waits, and the study with it, unless it is told to stop.

        Raises:
            OSError: The disk fails; then nothing was recorded and no one told.
        """
        try:
            for event in self._append(*events) if events else ():
                self.state.apply(event)
                for listener in self.listeners:
                    listener(event)
        except Exception as error:
            self.error = error
            raise

    def _append(self, *events: Event) -> list[Event]:
        told = False
        while True:
            try:
                return self.ledger.append(*events)
            except OSError as error:
                if error.errno not in FULL or self.stopping:
                    raise
                if not told:
                    logger.warning("%s: %s; waiting for space", self.folder, error.strerror)
                    told = True
                time.sleep(self.FULL_S)

    def _follow(self, event: Event) -> None:
        match event["event"]:
            case "proposed":
                self.pruner.add(self.state.trials[event["trial"]])
            case "study":  # other limits, or another place: nothing that a decision goes by
                self.study = study_of(event, self.folder)

    def trial_dir(self, trial: int) -> Path:
        """Return the folder in which a trial trains."""
        return self.folder / "trials" / f"{trial:04d}"

    def ask_to_stop(self, trial: int) -> None:
        """Ask a trial's attempt to write a checkpoint and end."""
        run_dir = self.trial_dir(trial)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "stop").touch()

    def includes(self, trial: TrialState) -> bool:
        """Return whether this driver runs a trial, unless it has ended."""
        return self.only is None or trial.number in self.only

    def live(self) -> list[TrialState]:
        """Return the trials that are to be continued, oldest first."""
        return [trial for trial in self.state.live() if self.includes(trial)]

    @property
    def finished(self) -> bool:
        """Whether no trial is left to propose or to continue."""
        return not self.live() and (self.only is not None or self.state.planned(self.study))

    def overspent(self, now: float | None = None) -> Event | None:
        """Return the `budget` event of the first limit that is reached, None if none ends this."""
        if self.only is None:
            return overspent(self.study, self.state.meter, now)
        spent = self.state.meter.spent(self.study.trials, now)["gpu_hours"]
        if self.gpu_hours is None or spent < self.gpu_hours:
            return None
        return {"event": "budget", "what": "gpu_hours", "spent": round(spent, 4),
                "limit": round(self.gpu_hours, 4)}  # fmt: skip
