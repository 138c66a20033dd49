"""What a study's events say that MLflow is to show: points of curves, and what else is new."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from search.analysis.ranking import UNRANKED, standing, value_of
from search.ledger.events import OWN
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
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
    noted: bool = False
    """A person has said something of it."""


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
        self._values: dict[int, float] = {}
        """Of the searched trials that have a rank."""
        self._best: tuple[int, float] | None = None
        """The best of them, and its value."""

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
            case "masks" if "val/dice" in event["metrics"]:
                name, dice = event["name"], event["metrics"]["val/dice"]
                self.points.append((f"masks/{name}/dice", dice, time_ms, 0))
            case "data" if event["ceiling"]:
                self.points.append(("ceiling/dice", event["ceiling"]["dice"], time_ms, 0))
            case "confirmed" if event.get("best") is not None:
                for number in (event["best"], event["other"]):
                    self.trials.setdefault(number, TrialChanges())
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
                self._note_value(trial, time_ms)
            case "decided" if event.get("rung") is not None:
                self.rungs[trial.number] = event["rung"]
            case "resumed":
                changes.configured = True
            case "note":
                changes.noted = True
            case "ended":
                changes.ended_ms = time_ms
                changes.points += _points(self._final(trial), time_ms, trial.epoch)
                self._note_value(trial, time_ms)
            case "painted":
                changes.painted = True
            case "noise":
                name, step = short(event["metric"]), event["epoch"]
                found = {f"noise/{name}_mean": event["mean"], f"noise/{name}_std": event["std"]}
                self.points += _points(found, time_ms, step)
            case "test_read":
                changes.points += _points(event["metrics"], time_ms, trial.epoch)

    def _note_value(self, trial: TrialState, time_ms: int) -> None:
        """Note the best trial's value, or the control's, where it is new: as `compare` ranks."""
        value = value_of(self._study, trial)
        step, name = len(self.state.reported), short(self._study.objective.metric)
        if trial.kind == "control" and value is not None and not trial.ending:
            self.points.append((f"control/{name}", value, time_ms, step))
        if trial.protected:
            return
        if value is None or trial.ending in UNRANKED:
            self._values.pop(trial.number, None)
        else:
            self._values[trial.number] = value
        before, sign = self._best, 1 if self._study.objective.mode == "max" else -1
        if before is None or before[0] == trial.number:
            best = max(self._values, key=lambda number: sign * self._values[number], default=None)
            self._best = None if best is None else (best, self._values[best])
        elif value is not None and sign * value > sign * before[1]:
            self._best = trial.number, value
        if self._best and self._best != before:
            self.points.append((f"best/{name}", self._best[1], time_ms, step))

    def _final(self, trial: TrialState) -> dict[str, float]:
        """Return what ranks a trial at its end, by objective, and how far it came."""
        if not trial.reports:
            return {}
        names = [o.metric for o in (self._study.objective, *self._study.further_objectives)]
        means = {name: standing(self._study, trial, metric=name) for name in names}
        final = {
            f"final/{short(name)}": mean.value
            for name, mean in means.items()
            if mean and not math.isnan(mean.value)
        }
        return final | {"final/epochs": float(trial.epoch)}


def _points(metrics: dict[str, float], time_ms: int, step: int) -> list[Point]:
    return [(key, value, time_ms, step) for key, value in metrics.items()]
