"""What a study has spent, metered from its ledger, so that restarts and failed work count too."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from search.ledger.journal import Event
from search.study.config import StudyConfig, Trials

UNITS = {
    "epochs": "epochs",
    "gpu_hours": "GPU-hours",
    "cpu_hours": "CPU-hours",
    "wall_hours": "wall hours",
}
"""What is spent, in words."""
HEADS = {"gpu_hours": "GPU-h", "cpu_hours": "CPU-h"}
"""A cost as the head of a column."""


def cost_key(trials: Trials) -> Literal["gpu_hours", "cpu_hours"]:
    """Return in what a study's cost is shown: GPU-hours where its trials have GPUs."""
    return "gpu_hours" if trials.gpus else "cpu_hours"


class Size(NamedTuple):
    """What is set aside for a trial."""

    gpus: float
    cpus: int


@dataclass
class Meter:
    """Seconds and epochs spent; a pure replay of events.

    An attempt costs from its start until its trial ends, is interrupted, or its driver was last
    heard of. Between the last event of one launch and the `driver` event of the next, nothing runs.
    """

    wall_s: float = 0.0
    """Of all launches together."""
    attempt_s: float = 0.0
    """Of all attempts together, up to their last event."""
    epochs: int = 0
    """Of all trials together."""
    by_trial: dict[int, float] = field(default_factory=dict)
    """`attempt_s` of each trial."""
    _by_size: dict[Size | None, dict[int, float]] = field(default_factory=dict)
    """`by_trial` of attempts with so many GPUs and CPUs, which may change in a study's course."""
    _size: Size | None = None
    _size_of: dict[int, Size | None] = field(default_factory=dict)
    """Of each trial, what its newest attempt was started with."""
    _running: dict[int, float] = field(default_factory=dict)
    """Until when a running attempt is paid for, by trial, in unix seconds."""
    _epoch: dict[int, int] = field(default_factory=dict)
    _last: float | None = None

    def apply(self, event: Event) -> None:
        """Take in one event of the ledger."""
        last = self._last
        now: float = event.get("time", last or 0.0)
        trial = event.get("trial")
        match event["event"]:
            case "study" if "trials" in event["config"]:
                trials = event["config"]["trials"]
                gpus, cpus = (trials.get(f"{what}_per_trial") for what in ("gpus", "cpus"))
                known = isinstance(gpus, int | float) and isinstance(cpus, int)
                self._size = Size(gpus, cpus) if known else None
            case "driver":
                for running in list(self._running):
                    self._pay(running, last or now)
                self._running.clear()
                last = now
            case "started":
                self._running[event["trial"]] = now
                self._size_of[event["trial"]] = self._size
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
            size = self._size_of[trial]  # another may be given while it runs
            for seconds in (self.by_trial, self._by_size.setdefault(size, {})):
                seconds[trial] = seconds.get(trial, 0.0) + paid_s
            self._running[trial] = now

    def spent(self, trials: Trials, now: float | None = None) -> dict[str, float]:
        """Return `epochs`, `gpu_hours`, `cpu_hours` and `wall_hours`.

        Args:
            trials: The study's.
            now: Unix seconds; what runs is paid for until then. None: until its last event.
        """
        wall_s, cost = self.wall_s, self.cost_hours(trials)
        if now is not None and self._last is not None:
            wall_s += max(0.0, now - self._last)
            for running, paid in self._running.items():
                gpus, cpus = self._size_of[running] or Size(trials.gpus, trials.cpus_per_trial)
                cost["gpu_hours"] += max(0.0, now - paid) / 3600 * gpus
                cost["cpu_hours"] += max(0.0, now - paid) / 3600 * cpus
        return {"epochs": self.epochs, **cost, "wall_hours": wall_s / 3600}

    def cost_hours(self, trials: Trials, trial: int | None = None) -> dict[str, float]:
        """Return what attempts cost up to their last event: `gpu_hours` and `cpu_hours`.

        Args:
            trials: The study's.
            trial: Whose attempts; None for all.
        """
        cost = {"gpu_hours": 0.0, "cpu_hours": 0.0}
        for size, seconds in self._by_size.items():
            gpus, cpus = size or Size(trials.gpus, trials.cpus_per_trial)
            hours = (sum(seconds.values()) if trial is None else seconds.get(trial, 0.0)) / 3600
            cost["gpu_hours"] += hours * gpus
            cost["cpu_hours"] += hours * cpus
        return cost


def overspent(study: StudyConfig, meter: Meter, now: float | None = None) -> Event | None:
    """Return the `budget` event of the first limit that is reached, None if none is."""
    spent = meter.spent(study.trials, now)
    for what, limit in study.budget.model_dump().items():
        if limit is not None and spent[what] >= limit:
            return {"event": "budget", "what": what, "spent": round(spent[what], 4), "limit": limit}
    return None


def budget_rule(event: Event) -> str:
    """Return a `budget` event in words."""
    return f"the budget of {event['limit']:g} {UNITS[event['what']]} is spent"
