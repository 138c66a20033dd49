"""Lets go of the checkpoints that a study does not keep (`checkpoints.keep`), while it runs."""

import math
import time
from collections.abc import Callable, Container

from search.analysis.kept import may_go_on, standing_by
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.storage.disk import remove_parts
from search.study.checkpoints import Checkpoints


class CheckpointKeeper:
    """Removes checkpoints of ended trials that are none of the best; a listener of the session.

    What a rule of the study may still need stays: of trials that have not ended, or
    that `segtune retry` may try again. Ranked are those that have ended: one that runs may yet
    sink, and what it had pushed out would be gone. Of a study that an earlier version began, which
    kept all, nothing goes unless `checkpoints.keep` is given.

    Args:
        session: The study.
        with_attempt: Returns the trials of which an attempt lives.
        say: Tells a person, once, what cannot be removed.
    """

    PERIOD_S = 30.0
    """Between two looks; an attempt that was stopped has written its last checkpoint by then."""
    BUSY_S = 0.5
    """Of a look: folders may be on a slow disk, and the driver has other work."""

    def __init__(
        self,
        session: StudySession,
        with_attempt: Callable[[], Container[int]],
        say: Callable[[str], None],
    ):
        self._session = session
        self._with_attempt = with_attempt
        self._say = say
        self._told = False
        self._next_s = time.monotonic() + self.PERIOD_S
        self._ended = {t.number for t in session.state.trials.values() if t.ending}
        begun = next((e for e in session.ledger.events if e["event"] == "study"), {})
        self._lets_go = "lets_go" in begun
        session.listeners.append(self._observe)

    def _observe(self, event: Event) -> None:
        if event["event"] == "ended":
            self._ended.add(event["trial"])
        elif event["event"] in ("resumed", "retried"):
            self._ended.discard(event["trial"])

    def poll(self) -> None:
        """Look, if it is time."""
        if self._ended and time.monotonic() >= self._next_s:
            self._remove(self.BUSY_S)
            self._next_s = time.monotonic() + self.PERIOD_S

    def finish(self) -> None:
        """Remove all that is left to remove; no attempt lives any more."""
        self._remove(math.inf)

    def _remove(self, limit_s: float) -> None:
        """Remove checkpoints, until so many seconds are over or the study is told to stop."""
        study, state = self._session.study, self._session.state
        keep, live = study.checkpoints.keep, self._with_attempt()
        if keep == "all" or study.trainer:  # of which only its own program knows the files
            return
        if not (self._lets_go or keep != Checkpoints().keep):
            return
        ended = [trial for trial in state.searched() if trial.ending]
        kept = standing_by(study, state, keep, among=ended)
        kept -= {trial.number for trial in state.confirming()}
        end_s = time.monotonic() + limit_s
        for number in sorted(self._ended - kept):
            if number in live or may_go_on(state.trials[number]):
                continue
            if self._session.stopping or time.monotonic() > end_s:
                return
            try:
                remove_parts(self._session.trial_dir(number), ("checkpoints",))
            except OSError as error:
                if not self._told:
                    self._told = True
                    self._say(f"note: checkpoints that the study does not keep stay: {error}")
            self._ended.discard(number)
