"""A study's share of a cluster that other studies use, too, and for what it waits."""

import time

from search.execution.capacity import Slots
from search.execution.sharing import Sharing, Wish
from search.ledger.session import StudySession
from search.tuning.searcher import StudySearcher

YIELD_S = 10.0
"""With more than its share for so long, a study lets a trial write its checkpoint and wait."""


ROOM_S = 30.0
"""A trial that has no process for so long is spoken of."""


class Shares:
    """Keeps a study to its share, and says for what it waits.

    Args:
        session: The study.
        searcher: Starts no more trials than it may.
        slots: What the cluster can hold.
    """

    def __init__(
        self,
        session: StudySession,
        searcher: StudySearcher,
        slots: Slots,
    ):
        self._session = session
        self._searcher = searcher
        self._slots = slots
        self._over_since_s: float | None = None
        self._pending = dict[int, float]()
        """Trials whose attempt has no process, and since when."""
        uid = str((session.state.study or {}).get("uid") or session.folder)
        self._sharing = Sharing(uid, self._wish)
        searcher.most = self._most

    def poll(self) -> None:
        """Say and hear what there is; let a trial go where the study has had too much for long."""
        self._sharing.poll()
        running = self._searcher.trials_with_attempt()
        stay = running - self._session.why_stopped.keys()
        over = len(stay) - self._most(len(running))
        if over <= 0:
            self._over_since_s = None
        elif self._over_since_s is None:
            self._over_since_s = time.monotonic()
        elif time.monotonic() - self._over_since_s > YIELD_S:
            may_go = [number for number in sorted(stay) if self._may_go(number)]
            for trial in may_go[-over:]:  # the oldest go on
                self._session.ask_to_stop(trial, "it makes room for other studies")
        self._say()

    def _may_go(self, number: int) -> bool:
        """Return whether nothing is lost where a trial ends now.

        A trainer of one's own writes its checkpoints when it will: once it has reported, it has
        come somewhere, and does not begin again at every turn.
        """
        trial = self._session.state.trials[number]
        if self._session.study.trainer is None:
            return True
        return bool(trial.attempts) and trial.received > trial.attempts[-1].after

    def leave(self) -> None:
        """Let the others have everything."""
        self._sharing.leave()

    def _most(self, places: int) -> int:
        """Return how many trials may run where the cluster has so many places."""
        answer = self._sharing.answer
        if not self._sharing.heard:  # others may be there, whose places it would take
            return min(places, 1)
        if answer is None or not self._wish().wants:  # it has something to end, not to wait for
            return places
        return min(places, answer.places)

    def _wish(self) -> Wish:
        session, study = self._session, self._session.study
        wants = len(session.live())
        if session.only is None:
            state = session.state
            wants += state.num_searched_to_come(study) + state.num_protected_to_come(study)
        if session.stopping or session.broken:
            wants = 0
        most = study.trials.max_concurrent or wants
        runs = len(self._searcher.trials_with_attempt())
        return Wish(study.study, study.trials.share, self._slots.count(), min(wants, most), runs)

    def _say(self) -> None:
        answer, reason = self._sharing.answer, ""
        if answer is not None and answer.places < min((wish := self._wish()).wants, wish.slots):
            others = ", ".join(
                f"{other.name} {other.runs}" + f" (share {other.weight:g})" * (other.weight != 1)
                for other in answer.others
            )
            reason = f"its share of the cluster is {answer.places} of {wish.slots} places; "
            reason += f"beside it run: {others}"
        reason = reason or self._no_room()
        if reason.partition(";")[0] != self._session.state.waits.partition(";")[0]:
            self._session.record({"event": "waits", "reason": reason})

    def _no_room(self) -> str:
        """Return that a trial gets no process, as where others than studies use the cluster."""
        trials, now_s = self._session.state.trials, time.monotonic()
        attempts = self._searcher.trials_with_attempt()
        self._pending = {
            number: self._pending.get(number, now_s)
            for number in attempts
            if not trials[number].running
        }
        long = [number for number, since_s in self._pending.items() if now_s - since_s > ROOM_S]
        if not long or not self._slots.are_used():
            return ""
        return f"a process, since all places of the cluster are used; trial {min(long)} has none"
