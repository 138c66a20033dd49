"""What a study's events say that MLflow is to show: points of curves, and what else is new."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from search.ledger.journal import Event
from search.ledger.state import StudyState, TrialState
from search.study.config import StudyConfig
from search.tracking.client import Point
from search.tracking.descriptions import short


@dataclass
class TrialChanges:
    """What is new of a trial."""

    points: list[Point] = field(default_factory=list)
    proposed: Event | None = None
    ended_ms: int | None = None
    configured: bool = False
    """Its configuration is new, or has changed."""
    painted: bool = False


class EventBatch:
    """Gathers what is to be sent; whoever has sent it takes it out.

    It keeps a state of its own, since the driver changes the study's in another thread.

    Attributes:
        state: The study after the events taken so far.
        rungs: The last rung of each trial that came to one.
        points: Of the study's own curves.
        trials: What is new of each trial.
        last_ms: When the last thing happened.
    """

    def __init__(self, study: StudyConfig):
        self.state = StudyState()
        self.rungs: dict[int, int] = {}
        self.points: list[Point] = []
        self.trials: dict[int, TrialChanges] = {}
        self.last_ms = 0
        self._study = study
        self._taken = 0
        self._best = -math.inf

    def clear(self) -> None:
        """Leave out what is new so far."""
        self.points.clear()
        self.trials.clear()

    def add(self, events: Sequence[Event], stop: int) -> None:
        """Take in the events before `stop` that were not taken yet."""
        for event in events[self._taken : stop]:
            self.state.apply(event)
            self._taken += 1
            if event["event"] not in OWN:
                self.last_ms = int(event["time"] * 1000)
                self._note(event, self.last_ms)

    def _note(self, event: Event, time_ms: int) -> None:
        match event["event"]:
            case "threshold":
                self.points.append(("threshold/dice", event["dice"], time_ms, 0))
            case "verdict":
                for row in event["comparisons"]:
                    self.trials.setdefault(row["trial"], TrialChanges())
        if event.get("trial") is None:
            return
        trial = self.state.trials[event["trial"]]
        changes = self.trials.setdefault(trial.number, TrialChanges())
        match event["event"]:
            case "proposed":
                changes.proposed, changes.configured = event, True
            case "reported":
                # The objective first: MLflow's pages begin with the metric that came first.
                metrics = {self._study.objective.metric: event["value"]} | event["metrics"]
                changes.points += _points(metrics, time_ms, event["epoch"])
                self._note_best(trial, event["value"], time_ms)
            case "decided" if event.get("rung") is not None:
                self.rungs[trial.number] = event["rung"]
            case "resumed":
                changes.configured = True
            case "ended":
                changes.ended_ms = time_ms
                changes.points += _points(self._final(trial), time_ms, trial.epoch)
            case "painted":
                changes.painted = True
            case "test_read":
                changes.points += _points(event["metrics"], time_ms, trial.epoch)

    def _note_best(self, trial: TrialState, value: float, time_ms: int) -> None:
        """Note what the best value so far is, or the control's, by the number of validations."""
        objective = self._study.objective
        sign = 1 if objective.mode == "max" else -1
        step, name = len(self.state.reported), short(objective.metric)
        if trial.kind == "control":
            self.points.append((f"control/{name}", value, time_ms, step))
        elif not trial.protected and sign * value > self._best:
            self._best = sign * value
            self.points.append((f"best/{name}", value, time_ms, step))

    def _final(self, trial: TrialState) -> dict[str, float]:
        """Return the objectives at a trial's end, and how far it came."""
        if not trial.reports:
            return {}
        metrics = trial.reports[-1].metrics
        names = [o.metric for o in (self._study.objective, *self._study.further_objectives)]
        final = {f"final/{short(name)}": metrics[name] for name in names if name in metrics}
        return final | {"final/epochs": float(trial.epoch)}


def _points(metrics: dict[str, float], time_ms: int, step: int) -> list[Point]:
    return [(key, value, time_ms, step) for key, value in metrics.items()]


OWN = {"mlflow", "driver"}
"""Events that say nothing about the study."""
