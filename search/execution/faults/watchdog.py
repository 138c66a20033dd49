"""Finds attempts that hang: processes that live, and neither report nor give a sign of life."""

import time
from collections.abc import Iterable
from typing import Any

import ray
from ray.tune.experiment import Trial

from search.ledger.session import StudySession


class Watchdog:
    """Ends attempts that have been silent for too long; Ray Tune would wait for ever.

    Whether the file `alive` changed is asked, never how old it is: hosts' clocks differ.

    Args:
        session: The study.

    Attributes:
        ended: Names of the attempts that it ended.
    """

    PERIOD_S = 5.0

    def __init__(self, session: StudySession):
        self.ended: set[str] = set()
        self._session = session
        self._signs: dict[str, tuple[Any, float]] = {}
        """Each attempt's last sign, and when it was new."""
        self._next_s = 0.0

    def check(self, trials: Iterable[Trial]) -> None:
        """End every attempt whose process has been silent for the study's hang_timeout_s."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        limit_s = self._session.study.trials.hang_timeout_s
        self._next_s = now_s + min(self.PERIOD_S, limit_s / 4)
        before, self._signs = self._signs, {}
        for attempt in trials:
            actor = attempt.temporary_state.ray_actor
            if attempt.is_finished() or actor is None or attempt.trial_id in self.ended:
                continue
            sign = self._sign(attempt)
            last, since_s = before.get(attempt.trial_id, (None, now_s))
            since_s = since_s if sign == last else now_s
            self._signs[attempt.trial_id] = sign, since_s
            if now_s - since_s > limit_s:
                self.ended.add(attempt.trial_id)
                ray.kill(actor)

    def _sign(self, attempt: Trial) -> tuple[str, float, int]:
        number = attempt.config["trial"]
        try:
            alive_s = (self._session.trial_dir(number) / "alive").stat().st_mtime
        except OSError:
            alive_s = 0.0
        return attempt.status, alive_s, self._session.state.trials[number].epoch
