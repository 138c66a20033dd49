"""What becomes of a trial after a report: by the rungs, by the stall rule, or beside both."""

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
    def replay(cls, study: StudyConfig, state: StudyState) -> Self:
        """Rebuild a study's pruner from all its reports."""
        pruner = cls(study)
        for trial in state.trials.values():
            pruner.add(trial)
        for number, report in state.reported:
            pruner.decide(state.trials[number], report)
        return pruner

    def add(self, trial: TrialState) -> None:
        """Enter a new trial; a protected one is judged beside the rungs."""
        if not trial.protected:
            self.asha.add(trial.number)

    def decide(self, trial: TrialState, report: Report) -> Decision:
        """Return the decision on a report, which need not be in the trial's reports yet.

        A protected trial and a resumed one run to their goal unless a value is not finite.
        """
        epoch, value = report.epoch, report.value
        goal = trial.goal_at(self.study, epoch)
        if trial.protected or trial.resumed_before(epoch):
            return Asha.report_protected(epoch, value, goal)
        decision = self.asha.report(trial.number, epoch, value)
        if decision.action != "continue" or self.stall_rule is None:
            return decision
        if stalled := self.stall_rule.report(trial.number, epoch, value):
            self.asha.forget(trial.number)
            return Decision("stall", stalled, decision.rung)
        return decision


def _stall_rule(study: StudyConfig) -> StallRule | None:
    if study.stall is None:
        return None
    asha = study.scheduler.type == "asha"
    return StallRule(
        patience=study.stall.patience,
        min_delta=study.stall.min_delta,
        smoothing=study.scheduler.smoothing,
        grace_period=study.scheduler.grace_period if asha else 0,
        sign=1 if study.objective.mode == "max" else -1,
    )


def decision_events(trial: int, report: Report, decision: Decision) -> list[Event]:
    """Return the `decided` event of a report, then the `ended` one if the trial ends by it."""
    about = {"trial": trial, "epoch": report.epoch}
    judged = {"action": decision.action, "reason": decision.reason, "rung": decision.rung}
    events: list[Event] = [{"event": "decided", **about, **judged}]
    if decision.action != "continue":
        ending = ENDINGS[decision.action] if report.is_finite else "diverged"
        events.append({"event": "ended", **about, "ending": ending, "reason": decision.reason})
    return events
