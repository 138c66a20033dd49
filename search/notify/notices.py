"""A study's driver tells others when it matters: a listener of its events, and of its end."""

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from search.analysis.ranking import UNRANKED, best_of, value_of
from search.ledger.budget import budget_rule
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.notify.couriers import Heartbeat, Messenger
from search.notify.messages import message
from search.study.notify.section import Kind
from search.study.notify.targets import targets
from trainer.exceptions import first_line

CLOSE_S = 5.0
"""Which the end of a study waits for its last message."""


class Notices:
    """Tells who is named in a study or in the environment, while entered.

    An error that leaves it is told as well.

    Args:
        session: The study.
        say: Where people are told that others could not be.

    Raises:
        ConfigError: An address is none, or there is no such program.
    """

    def __init__(self, session: StudySession, say: Callable[[str], None]):
        self._session = session
        self._targets = targets(session.study.notify, os.environ)
        self._messenger = Messenger(self._targets, say)
        self._tells = bool(self._targets.webhook or self._targets.command)
        address = self._targets.heartbeat
        self._heartbeat = Heartbeat(address, session.trial_dir, say) if address else None
        best = best_of(session.study, session.state)
        self._best = value_of(session.study, best) if best else None
        self._spent: Event | None = None
        self._sign = 1 if session.study.objective.mode == "max" else -1
        for note in self._targets.notes:
            say(f"note: {note}")

    def __enter__(self) -> Self:
        if self._tells:
            self._messenger.start()
        if self._heartbeat:
            self._heartbeat.start()
        self._session.listeners.append(self._observe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._heartbeat:
            self._heartbeat.close()
        if isinstance(error, Exception):
            name, said = type(error).__name__, first_line(error)
            self._tell("broken", f"its driver ended with an error: {name}: {said}")
        if self._tells and not (error and not isinstance(error, Exception)):
            self._messenger.close(CLOSE_S)

    def ended(self, broken: bool) -> None:
        """Tell that the driver ends, for one reason.

        Args:
            broken: Whether nothing but failures came out.
        """
        session = self._session
        spent = self._spent or session.overspent()
        standing = session.state.standing(session.study)
        if broken:
            why = session.broken or "its trials only fail"
            self._tell("broken", f"is broken: {why}")
        elif spent and not session.finished:
            self._tell("budget", f"not finished: {budget_rule(spent)}")
        elif session.finished:
            ended = f"{len(session.only)} trials that were asked for ended" if session.only else ""
            self._tell("end", ended or standing)
        else:
            self._tell("end", f"stopped ({session.stopping}); {standing}")

    def _tell(self, event: Kind, what: str) -> None:
        """Tell an end by what it is, or where that is not wanted, as an end."""
        wanted = event if event in self._targets.on else "end"
        if self._tells and wanted in self._targets.on:
            self._messenger.tell(message(self._session, wanted, what))

    def _observe(self, event: Event) -> None:
        trial: int | None = event.get("trial")
        if event["event"] == "budget":
            self._spent = event
        if self._heartbeat and trial is not None:
            match event["event"]:
                case "started":
                    self._heartbeat.begun(trial)
                case "ended" | "interrupted":
                    self._heartbeat.over(trial)
                case "reported":
                    self._heartbeat.reported()
        if event["event"] == "reported" and self._tells and "best" in self._targets.on:
            self._look_for_best(event["trial"])

    def _look_for_best(self, number: int) -> None:
        study, trial = self._session.study, self._session.state.trials[number]
        value = value_of(study, trial)
        if trial.protected or trial.ending in UNRANKED or value is None:
            return
        before, better = self._best, self._best is None or self._sign * (value - self._best) > 0
        self._best = value if better else before
        if better and before is not None:
            what = (
                f"new best: {study.study}:{number}, {study.objective.metric} {value:.4f} at epoch "
                f"{trial.epoch}, before {before:.4f}"
            )
            self._messenger.tell(message(self._session, "best", what))
