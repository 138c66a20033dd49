"""What becomes of a trial after a report: by the rungs, by the stall rule, or beside both."""

from collections.abc import Iterable
from typing import Self

from search.ledger.events import Ending
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import Report, TrialState
from search.pruning.asha import Action, Asha, Decision
from search.pruning.stall import StallRule
from search.study.config import StudyConfig

ENDINGS: dict[Action, Ending] = {"stop": "stopped", "stall": "stalled", "complete": "completed"}


class Pruner:
    """ASHA and the stall rule of a study, fed with reports in the order of the ledger."""

    def __init__(self, study: StudyConfig):
        self.study = study
        self.asha = study.asha()
        self.stall_rule = _stall_rule(study)

    @classmethod
    def replay(cls, study: StudyConfig, state: StudyState, events: Iterable[Event]) -> Self:
        """Rebuild a study's pruner from its events.

        Args:
            study: The study.
            state: What all the events say.
            events: The ledger's.
        """
        pruner = cls(study)
        for event in events:
            if event.get("trial") is None:
                continue
            trial = state.trials[event["trial"]]
            if event["event"] == "reported":
                pruner.decide(trial, Report(event["epoch"], event["value"], event["metrics"]))
            else:
                pruner.observe(trial, event)
        return pruner

    def observe(self, trial: TrialState, event: Event) -> None:
        """Take in another event of a trial; a protected one is judged beside the rungs."""
        if event["event"] == "proposed" and not trial.protected:
            self.asha.add(trial.number)

    def decide(self, trial: TrialState, report: Report) -> Decision:
        """Return the decision on a report, which need not be in the trial's reports yet.

        A protected trial and a resumed one run to their goal unless a value is not finite.
        """
        if trial.protected or trial.resumed_before(report.epoch):
            return Asha.report_protected(
                report.epoch, report.value, trial.goal_at(self.study, report.epoch)
            )
        decision = self.asha.report(trial.number, report.epoch, report.value)
        if decision.action != "continue":
            return decision
        if self.stall_rule is None:
            return decision
        if stalled := self.stall_rule.report(trial.number, report.epoch, report.value):
            self.asha.forget(trial.number)
            return Decision("stall", stalled, decision.rung)
        return decision


def _stall_rule(study: StudyConfig) -> StallRule | None:
    if study.stall is None:
        return None
    rungs = study.scheduler.type != "none"
    return StallRule(
        patience=study.stall.patience,
        min_delta=study.stall.min_delta,
        smoothing=study.scheduler.smoothing,
        grace_period=study.scheduler.grace_period if rungs else 0,
        sign=1 if study.objective.mode == "max" else -1,
    )


def decision_events(trial: int, report: Report, decision: Decision) -> list[Event]:
    """Return the `decided` event of a report, then what the trial ends by."""
    about = {"trial": trial, "epoch": report.epoch}
    judged = {"action": decision.action, "reason": decision.reason, "rung": decision.rung}
    events: list[Event] = [{"event": "decided", **about, **judged}]
    if decision.action != "continue":
        ending = ENDINGS[decision.action] if report.is_finite else "diverged"
        events.append({"event": "ended", **about, "ending": ending, "reason": decision.reason})
    return events
