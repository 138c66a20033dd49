"""What a study has spent, metered from its ledger, so that restarts and failed work count too."""

from dataclasses import dataclass, field

from search.ledger.journal import Event
from search.study.config import StudyConfig


@dataclass
class Meter:
    """Seconds and epochs spent; a pure replay of events.

    A carrier costs from its start until its trial ends, is interrupted, or its driver was last
    heard of. Between the last event of one launch and the `driver` event of the next, nothing runs.
    """

    wall_s: float = 0.0
    """Of all launches together."""
    attempt_s: float = 0.0
    """Of all carriers together, up to their last event."""
    epochs: int = 0
    """Of all trials together."""
    by_trial: dict[int, float] = field(default_factory=dict)
    """`attempt_s` of each trial."""
    _running: dict[int, float] = field(default_factory=dict)
    """Until when a running carrier is paid for, in unix seconds."""
    _epoch: dict[int, int] = field(default_factory=dict)
    _last: float | None = None

    def apply(self, event: Event) -> None:
        """Take in one event of the ledger."""
        last = self._last
        now: float = event.get("time", last or 0.0)
        trial = event.get("trial")
        match event["event"]:
            case "driver":
                for carried in list(self._running):
                    self._pay(carried, last or now)
                self._running.clear()
                last = now
            case "started":
                self._running[event["trial"]] = now
            case "reported":
                self._pay(event["trial"], now)
                self.epochs += event["epoch"] - self._epoch.get(event["trial"], 0)
                self._epoch[event["trial"]] = event["epoch"]
            case "interrupted" | "ended" if trial in self._running:
                self._pay(trial, now)
                del self._running[trial]
        self.wall_s += max(0.0, now - (now if last is None else last))
        self._last = now

    def _pay(self, trial: int, now: float) -> None:
        # A clock that is set back costs nothing.
        if trial in self._running:
            paid_s = max(0.0, now - self._running[trial])
            self.attempt_s += paid_s
            self.by_trial[trial] = self.by_trial.get(trial, 0.0) + paid_s
            self._running[trial] = now

    def spent(self, gpus_per_trial: float, now: float | None = None) -> dict[str, float]:
        """Return what Budget limits: epochs, gpu_hours and wall_hours.

        Args:
            gpus_per_trial: Of the study.
            now: Unix seconds; what runs is paid for until then. None: until its last event.
        """
        attempt_s, wall_s = self.attempt_s, self.wall_s
        if now is not None and self._last is not None:
            attempt_s += sum(max(0.0, now - paid) for paid in self._running.values())
            wall_s += max(0.0, now - self._last)
        return {
            "epochs": self.epochs,
            "gpu_hours": attempt_s * gpus_per_trial / 3600,
            "wall_hours": wall_s / 3600,
        }


def overspent(study: StudyConfig, meter: Meter, now: float | None = None) -> Event | None:
    """Return the `budget` event of the first limit that is reached, None if none is."""
    spent = meter.spent(study.trials.gpus_per_trial, now)
    for what, limit in study.budget.model_dump().items():
        if limit is not None and spent[what] >= limit:
            return {"event": "budget", "what": what, "spent": round(spent[what], 4), "limit": limit}
    return None


def budget_rule(event: Event) -> str:
    """Return a `budget` event in words."""
    return f"the budget of {event['limit']:g} {event['what'].replace('_', ' ')} is spent"
