"""What a study's ledger says, event by event: the driver, `status` and `compare` all read it here.

The driver applies each event that it appends, so a study in progress and one rebuilt after a
crash went through the same code. Each event has `event`, its kind, `time` and where it applies
`trial`. The kinds and what else they have:

    study        config, config_hash, store_hash, commit, versions
    threshold    what the best single-modality threshold scores
    proposed     params, kind (control, enqueued, sampled), protected
    started      attempt, host, pid
    reported     epoch, value (of the objective), metrics
    decided      epoch, action (continue, stop, complete), reason, rung (None if at none)
    ended        ending, epoch, reason
    interrupted  epoch; the carrier is gone, the trial goes on later
    mlflow       run_id with a trial, experiment_id without
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from search.asha import Action, Asha, Decision
from search.study import StudyConfig

Event = dict[str, Any]
Ending = Literal["completed", "stopped", "diverged", "infeasible", "failed"]


def ending_of(action: Action, value: float) -> Ending | None:
    """Return how a trial ends by a decision on a value of the objective, None if it goes on."""
    match action:
        case "complete":
            return "completed"
        case "stop":
            return "stopped" if math.isfinite(value) else "diverged"
    return None


class Report(NamedTuple):
    """One validation of a trial."""

    epoch: int
    value: float
    """Of the objective."""
    metrics: dict[str, float]


class Decided(NamedTuple):
    """What was decided after a report."""

    epoch: int
    action: Action
    reason: str


@dataclass
class TrialState:
    """One trial, as far as the ledger goes."""

    number: int
    params: dict[str, Any]
    """Dotted trainer paths."""
    kind: Literal["control", "enqueued", "sampled"]
    protected: bool
    """Runs to max_t, outside the rungs and the sampler."""
    reports: list[Report] = field(default_factory=list)
    decided: Decided | None = None
    """The last decision."""
    attempts: int = 0
    """How often it was started."""
    running: bool = False
    """Started, and neither ended nor interrupted since; also true when its driver was killed."""
    ending: Ending | None = None
    reason: str = ""
    mlflow_run_id: str | None = None

    @property
    def epoch(self) -> int:
        """The last epoch reported, 0 before the first."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def value(self) -> float | None:
        """The objective at the last epoch reported."""
        return self.reports[-1].value if self.reports else None


class StudyState:
    """A study as a pure replay of its events."""

    def __init__(self) -> None:
        self.study: Event | None = None
        """The newest `study` event."""
        self.threshold: Event | None = None
        self.mlflow_experiment_id: str | None = None
        self.trials: dict[int, TrialState] = {}
        """By number, in the order of their proposal."""
        self.last_time: float | None = None
        """Unix seconds of the last event."""
        self._reported: list[tuple[int, Report]] = []

    @classmethod
    def replay(cls, events: Iterable[Event]) -> Self:
        """Rebuild a study from its events."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: Event) -> None:
        """Take in one event.

        Raises:
            ValueError: The kind is unknown, so a newer segtune wrote it.
            AssertionError: It contradicts those before it: an epoch twice, a report after the end.
        """
        self.last_time = event.get("time", self.last_time)
        if event["event"] == "proposed":
            number = event["trial"]
            assert number not in self.trials, f"trial {number} is proposed twice"
            self.trials[number] = TrialState(
                number, event["params"], event["kind"], event["protected"]
            )
            return
        trial = self.trials[event["trial"]] if event.get("trial") is not None else None
        match event["event"], trial:
            case "study", None:
                self.study = event
            case "threshold", None:
                self.threshold = event
            case "mlflow", None:
                self.mlflow_experiment_id = event["experiment_id"]
            case "mlflow", TrialState():
                trial.mlflow_run_id = event["run_id"]
            case (("started" | "reported" | "decided" | "ended" | "interrupted"), TrialState()):
                assert trial.ending is None, f"trial {trial.number}: {event['event']} after its end"
                self._apply_to_live(trial, event)
            case kind, _:
                raise ValueError(f"ledger: unknown event {kind!r}: a newer segtune wrote it")

    def _apply_to_live(self, trial: TrialState, event: Event) -> None:
        match event["event"]:
            case "started":
                trial.attempts += 1
                trial.running = True
            case "reported":
                report = Report(event["epoch"], event["value"], event["metrics"])
                assert report.epoch > trial.epoch, (
                    f"trial {trial.number}: epoch {report.epoch} is reported after {trial.epoch}"
                )
                trial.reports.append(report)
                self._reported.append((trial.number, report))
            case "decided":
                assert event["epoch"] == trial.epoch, (
                    f"trial {trial.number}: decided at epoch {event['epoch']}, not {trial.epoch}"
                )
                trial.decided = Decided(event["epoch"], event["action"], event["reason"])
            case "ended":
                trial.ending, trial.reason = event["ending"], event["reason"]
                trial.running = False
            case "interrupted":
                trial.running = False

    def finished(self, study: StudyConfig) -> bool:
        """Return whether no trial is left to propose or to carry on."""
        planned = study.num_protected + study.trials.num_trials
        return self.next_number >= planned and not self.live()

    @property
    def next_number(self) -> int:
        """The number of the next proposal; the control is 0."""
        return max(self.trials, default=-1) + 1

    def live(self) -> list[TrialState]:
        """Return the trials that have not ended, running or not, oldest first."""
        return [trial for trial in self.trials.values() if trial.ending is None]

    def searched(self) -> list[TrialState]:
        """Return the trials that count as searched: all but the control and the references."""
        return [trial for trial in self.trials.values() if not trial.protected]

    def control(self) -> TrialState | None:
        """Return the plain U-Net, None before its proposal."""
        return next((trial for trial in self.trials.values() if trial.kind == "control"), None)

    def best(self, mode: Literal["min", "max"]) -> TrialState | None:
        """Return the searched trial with the best value at its last epoch, also while it runs."""
        sign = 1 if mode == "max" else -1
        finite = [t for t in self.searched() if t.value is not None and math.isfinite(t.value)]
        return max(finite, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def asha(self, study: StudyConfig) -> Asha:
        """Rebuild ASHA from the reports in their order; protected trials are not in it."""
        return self._judge_again(study)[0]

    def unsettled(self, study: StudyConfig) -> list[Event]:
        """Return the `decided` and `ended` events that a crash in the middle of an append lost.

        A report may have reached the disk without the decision that belongs to it, and a decision
        without the end. A driver appends these before anything else; usually there are none.
        """
        _, decisions = self._judge_again(study)
        events: list[Event] = []
        for trial in self.live():
            if not trial.reports:
                continue
            decided, *ended = settle(trial.number, trial.reports[-1], decisions[trial.number])
            if trial.decided is None or trial.decided.epoch < trial.epoch:
                events.append(decided)
            events += ended
        return events

    def _judge_again(self, study: StudyConfig) -> tuple[Asha, dict[int, Decision]]:
        """Feed all reports to a new ASHA; also return the last decision on each trial."""
        asha = study.asha()
        for trial in self.searched():
            asha.add(trial.number)
        decisions = {}
        for number, report in self._reported:
            decisions[number] = judge(asha, self.trials[number], report)
        return asha, decisions


def judge(asha: Asha, trial: TrialState, report: Report) -> Decision:
    """Return the decision on a report: by the rungs, or for a protected trial beside them."""
    if trial.protected:
        return asha.report_protected(report.epoch, report.value)
    return asha.report(trial.number, report.epoch, report.value)


def settle(trial: int, report: Report, decision: Decision) -> list[Event]:
    """Return the `decided` event of a report, then the `ended` one if the trial ends by it."""
    about = {"trial": trial, "epoch": report.epoch}
    judged = {"action": decision.action, "reason": decision.reason, "rung": decision.rung}
    events: list[Event] = [{"event": "decided", **about, **judged}]
    if ending := ending_of(decision.action, report.value):
        events.append({"event": "ended", **about, "ending": ending, "reason": decision.reason})
    return events


def threshold_rule(threshold: Mapping[str, Any]) -> str:
    """Return in words what the best threshold calls lesion, for example `tmax >= 4.711`."""
    side = ">=" if threshold["above"] else "<"
    return f"{threshold['modality']} {side} {threshold['threshold']:.4g}"
