"""Where a study stands, event by event: its state, its rungs, and who reported when.

The live screen of the driver, `status --watch` in another shell and `status` read the same events
here, so they show the same.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from search.analysis.ranking import standing
from search.ledger.events import OWN
from search.ledger.journal import Event, Ledger
from search.ledger.state import StudyState, contradictions
from search.ledger.trial_state import TrialState
from search.pruning.asha import bracket_shares
from search.study.config import StudyConfig
from search.study.frozen import study_of
from search.study.rungs import rungs_of


class Rung(NamedTuple):
    """How the searched trials fared at an epoch at which they are judged."""

    bracket: int
    epoch: int
    reached: int
    """Trials judged here."""
    went_on: int
    """Those of them that trained on; at the last epoch, those that completed."""


class Rungs:
    """What became of the searched trials at the rungs, max_t being the last of each bracket.

    Attributes:
        levels: Epochs of each bracket's rungs, ascending.
        reached: For each, how many trials were judged there.
        went_on: For each, how many of them were not ended by it, and do not wait at it.
        lost: For each, how many trials ended after the rung before it, or at it.
        shares: Of all trials, the share that each bracket receives.
    """

    def __init__(self, study: StudyConfig):
        self._asha = study.asha()
        rungs = rungs_of(study)
        self.shares = bracket_shares(rungs)
        self.levels = [[*levels, study.scheduler.max_t] for levels in rungs]
        self.reached = [[0] * len(levels) for levels in self.levels]
        self.went_on = [[0] * len(levels) for levels in self.levels]
        self.lost = [[0] * len(levels) for levels in self.levels]
        self._bracket: dict[int, int] = {}
        self._next: dict[int, int] = {}
        """Of each trial that has not ended, its next rung."""
        self._left: dict[int, int] = {}
        """Of each trial that has ended, what would have been its next."""

    def bracket(self, trial: int) -> int:
        """Return the bracket of a searched trial."""
        return self._bracket[trial]

    def apply(self, event: Event) -> None:
        """Take in one event."""
        trial = event.get("trial")
        match event["event"]:
            case "proposed" if not event["protected"]:
                self._bracket[event["trial"]] = self._asha.add(event["trial"])
                self._next[event["trial"]] = 0
            case "decided" if trial in self._next:
                self._count_decision(event["trial"], event)
            case "ended" if trial in self._next:
                bracket, following = self._bracket[event["trial"]], self._next.pop(event["trial"])
                self._left[event["trial"]] = following
                if following < len(self.levels[bracket]):
                    self.lost[bracket][following] += 1

            case "retried" if trial in self._left:
                bracket, following = self._bracket[event["trial"]], self._left.pop(event["trial"])
                self._next[event["trial"]] = following
                if following < len(self.levels[bracket]):
                    self.lost[bracket][following] -= 1
            case "resumed":  # its rungs are behind it, whatever becomes of it
                self._left.pop(event["trial"], None)

    def _count_decision(self, trial: int, event: Event) -> None:
        bracket, before = self._bracket[trial], self._next[trial]
        completes = event["action"] == "complete"
        judged_at = event["epoch"] if completes else event.get("rung")
        if judged_at is None:  # between two rungs, or its value is not finite
            return
        after = self._next[trial] = bisect_right(self.levels[bracket], judged_at)
        for level in range(before, after):
            self.reached[bracket][level] += 1
            last = level == after - 1
            self.went_on[bracket][level] += event["action"] in ("continue", "complete") or not last

    def rows(self) -> list[Rung]:
        """Return all rungs, bracket by bracket."""
        return [
            Rung(bracket, *row)
            for bracket, levels in enumerate(self.levels)
            for row in zip(levels, self.reached[bracket], self.went_on[bracket], strict=True)
        ]


class StudySnapshot:
    """A study's state, and what is shown beside it; each event costs microseconds.

    Args:
        study: Its first settings.
        where: The ledger's path, for messages.

    Attributes:
        study: Its newest settings.
        state: What the ledger says.
        rungs: How trials fared at the rungs.
        last_report_s: When each running trial started or last reported, in unix seconds.
        started: The trials that were started since the newest launch began.
        asks_for_more: Whether that launch is a `confirm` or a `resume` that has just chosen trials.
        at_once: The most trials that ran at once since the newest launch that started one began.
        interrupted: Of each trial that waits since its attempt died, how that died.
        times: Of each event, in unix seconds; None of those that MLflow need not have.
        low: The lowest finite value that any trial reported, +inf before the first.
        high: The highest, or -inf.
    """

    def __init__(self, study: StudyConfig, where: str | Path = "ledger.jsonl"):
        self.study = study
        self._where = where
        self.state = StudyState()
        self.rungs = Rungs(study)
        self.last_report_s: dict[int, float] = {}
        self.started: set[int] = set()
        self.asks_for_more = False
        self.at_once = 0
        self.interrupted: dict[int, Event] = {}
        self.times: list[float | None] = []
        self.low, self.high = math.inf, -math.inf

    @classmethod
    def of(cls, ledger: Ledger) -> "StudySnapshot | None":
        """Return where a ledger's study stands; None if it has no settings yet.

        Raises:
            ConfigError: Its lines contradict each other, or a newer segtune wrote one.
        """
        settings = next((event for event in ledger.events if event["event"] == "study"), None)
        if settings is None:
            return None
        with contradictions(ledger.path):
            study = study_of(settings, ledger.path)
            snapshot = cls(study, ledger.path)
            snapshot.apply(ledger.events)
        return snapshot

    def apply(self, events: Iterable[Event]) -> None:
        """Take in some events.

        Raises:
            ValueError: As `StudyState.apply`.
            AssertionError: As `StudyState.apply`.
        """
        for event in events:
            self.state.apply(event)
            self.rungs.apply(event)
            self._notice(event)

    def _notice(self, event: Event) -> None:
        trial: Any = event.get("trial")
        self.times.append(None if event["event"] in OWN else event.get("time"))
        if event["event"] == "interrupted":
            self.interrupted[trial] = event
        elif event["event"] in ("started", "ended"):
            self.interrupted.pop(trial, None)
        match event["event"]:
            case "study":  # raised num_trials, another budget: nothing that moves a rung
                self.study = study_of(event, self._where)
            case "driver":
                self.last_report_s.clear()
                self.started.clear()
                self.interrupted.clear()
                self.asks_for_more = False
            case "resumed":
                self.asks_for_more = True
            case "proposed" if event["kind"] == "confirm":
                self.asks_for_more = True
            case "started":
                if not self.started:
                    self.at_once = 0
                self.started.add(trial)
                self.last_report_s[trial] = event.get("time", 0.0)
                self.at_once = max(self.at_once, len(self.last_report_s))
            case "reported":
                self.last_report_s[trial] = event.get("time", 0.0)
                if math.isfinite(value := event["value"]):
                    self.low, self.high = min(self.low, value), max(self.high, value)
            case "ended" | "interrupted":
                self.last_report_s.pop(trial, None)

    def running(self) -> list[TrialState]:
        """Return the trials that run, oldest first; as if their driver still lived."""
        return [trial for trial in self.state.trials.values() if trial.running]

    def counts(self, driven: bool) -> dict[str, Any]:
        """Return how many trials are waiting, are running, or have each ending.

        Args:
            driven: Whether a driver lives; else none of them runs.

        Returns:
            Of the searched under `trials`, and apart from them of `references`, the control among
            them, and of the `confirming`; and how the control stands as `control_status`, None
            without one.
        """
        state = self.state
        parts = {"trials": state.searched(), "confirming": state.confirming()}
        parts["references"] = [
            trial for trial in state.trials.values() if trial.protected and trial.kind != "confirm"
        ]
        counts: dict[str, Any] = {
            name: dict(sorted(Counter(t.status(driven=driven) for t in trials).items()))
            for name, trials in parts.items()
        }
        control = state.control()
        return counts | {"control_status": control.status(driven=driven) if control else None}

    def planned_epochs(self) -> int:
        """Return the epochs of the whole plan without pruning, with resumed and confirming ones."""
        study, state = self.study, self.state
        to_come = state.num_searched_to_come(study) + state.num_protected_to_come(study)
        return to_come * study.scheduler.max_t + sum(
            trial.goal(study) for trial in self.state.trials.values()
        )


def counted(counts: Mapping[str, Any]) -> str:
    """Return `counts` in words: `2 completed, 10 stopped; control completed`, then references."""
    control = counts["control_status"]
    named = [("references", Counter(counts["references"]) - Counter([control] * bool(control)))]
    named += [("confirming", counts["confirming"])]
    parts = [_listed(counts["trials"]) or "none", *([f"control {control}"] if control else [])]
    return "; ".join([*parts, *(f"{name}: {_listed(group)}" for name, group in named if group)])


def _listed(group: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in group.items())


def score_of(study: StudyConfig, trial: TrialState | None) -> dict[str, Any] | None:
    """Return a trial's value as JSON values, with the epochs of which it is the mean."""
    mean = standing(study, trial) if trial else None
    if trial is None or mean is None or not math.isfinite(mean.value):
        return None
    return {
        "trial": trial.number,
        "epoch": trial.epoch,
        "value": mean.value,
        "epochs": list(mean.epochs),
    }
