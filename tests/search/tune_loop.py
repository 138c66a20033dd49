"""What Ray Tune does with a study, in one process and quickly: for many kills and odd orders.

The searcher, the scheduler and the trainable are the real ones; only the loop between them and the
processes of the trials are not.
"""

import itertools
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from search.execution.faults.recovery import Recovery
from search.execution.logs.trial_log import TrialLog
from search.execution.trainable import Trainable
from search.ledger.journal import Ledger
from search.ledger.session import StudySession
from search.sampler.sampler import Sampler
from search.storage.requests import end_by_hand
from search.study.load import load_study
from search.tuning.scheduler import Scheduler
from search.tuning.searcher import StudySearcher


@dataclass
class Attempt:
    """As much of a Ray trial as the scheduler looks at."""

    trial_id: str
    config: dict[str, Any]
    status: str = Trial.PENDING
    pickled_error_file: str | None = None
    error_file: str | None = None
    trainable: Trainable | None = None

    def init_local_path(self) -> None:
        """Have no folder of Tune's."""


class NoLog(TrialLog):
    """Keeps nothing: here many trials share a process, and what it prints is of none of them."""

    def begin(self, path: Path, header: str = "", prefix: str = "") -> None:
        """Do nothing."""


class Loop:
    """Runs a study's trials, one step at a time, in an order of its own choice.

    Args:
        session: The study.
        sampler: Draws; it has observed the ledger's events.
        workers: How many trials run at once.
        fit: `module:function` with the contract of `trainer.loop.fit`.
        draw: Chooses what happens next.
        deaths: Share of the steps in which an attempt dies instead.
    """

    def __init__(
        self,
        session: StudySession,
        sampler: Sampler,
        *,
        workers: int,
        fit: str,
        draw: random.Random,
        deaths: float = 0.0,
    ):
        self.live = session
        self.draw = draw
        self.deaths = deaths
        # Each look at its clock is a day later: nobody rests here.
        days = itertools.count(step=86400.0)
        recovery = Recovery(lambda: {"here": workers}, clock=lambda: next(days))
        self.searcher = StudySearcher(session, sampler, lambda without: workers, recovery, fit)
        self.scheduler = Scheduler(session, recovery)
        self.running: list[Attempt] = []
        self._staged_trials: list[Attempt] = []
        self._stopped_trials: set[Attempt] = set()  # it forgets at once, where Tune's is made to
        self._failed_trials: set[Attempt] = set()
        self._asked = 0

    def turn(self) -> bool:
        """Do one thing that Tune might do next; False when nothing is left."""
        end_by_hand(self.live, self.searcher.trials_with_attempt())
        if waiting := self.scheduler.choose_trial_to_run(self):
            self._start(waiting)
            return True
        if not self.running or self.draw.random() < 0.5:
            self._asked += 1
            spec = self.searcher.suggest(f"attempt{self._asked}")
            if isinstance(spec, dict):
                self.scheduler.on_trial_add(self, Attempt(f"attempt{self._asked}", spec))
                return True
            if spec == Searcher.FINISHED and not self.running:
                return False
        if self.running:
            self._step(self.draw.choice(self.running))
        return True

    def stop_trial(self, attempt: Attempt) -> None:
        """As of Tune's controller: an attempt that has not begun goes."""
        attempt.status = Trial.TERMINATED
        self.searcher.on_trial_complete(attempt.trial_id)

    def _start(self, attempt: Attempt) -> None:
        attempt.status = Trial.RUNNING
        attempt.trainable = Trainable.__new__(Trainable)
        attempt.trainable.config = attempt.config
        attempt.trainable.setup(attempt.config)
        attempt.trainable._log = NoLog()
        about = {key: attempt.config[key] for key in ("trial", "attempt")}
        where = {"host": "here", "pid": 1, "cpu": "", "threads": 1}
        self.live.record({"event": "started", **about, **where})
        self.running.append(attempt)

    def _step(self, attempt: Attempt) -> None:
        assert attempt.trainable is not None
        try:
            if self.draw.random() < self.deaths:
                raise RuntimeError("its process died")
            result = attempt.trainable.step()
        except Exception:
            self._leave(attempt, Trial.ERROR)
            self.scheduler.on_trial_error(None, attempt)
            self.searcher.on_trial_complete(attempt.trial_id, error=True)
            return
        stops = result.get("done") or (
            self.scheduler.on_trial_result(None, attempt, result) == Scheduler.STOP
        )
        if stops:
            self._leave(attempt, Trial.TERMINATED)
            self.scheduler.on_trial_complete(None, attempt, result)
            self.searcher.on_trial_complete(attempt.trial_id, result=result)

    def _leave(self, attempt: Attempt, status: str) -> None:
        assert attempt.trainable is not None
        attempt.status = status
        attempt.trainable.cleanup()
        self.running.remove(attempt)


def launch(path: Path, runs: Path, workers: int) -> None:
    """Create or continue a toy study and carry it out, as `segtune launch` does with Ray."""
    study = load_study(path)
    folder = runs / study.study
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        if not any(event["event"] == "study" for event in ledger.events):
            config = study.model_dump(mode="json")
            ledger.append({"event": "study", "uid": "toy", "config": config, "store_hash": ""})
        session = StudySession(study, folder, ledger)
        sampler = Sampler(study)
        for event in ledger.events:
            sampler.observe(event)
        session.listeners.insert(0, sampler.observe)
        draw = random.Random(time.monotonic_ns())
        deaths = 0.0 if workers == 1 else 0.02
        fit = "tests.search.toy:fit"
        loop = Loop(session, sampler, workers=workers, fit=fit, draw=draw, deaths=deaths)
        while loop.turn():
            pass
