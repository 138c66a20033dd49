"""What a study has spent, metered from its ledger, so that restarts and failed work count too."""

from collections.abc import Set
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
SHARE_SPENT = "the share of confirm is spent"
REDRAWN = -1
"""In the place of a trial, for validations of trained weights with other noise."""


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

    An attempt costs from its start until its trial ends or is interrupted, or its driver
    was last heard of. Between the last event of one launch and the `driver` event of the next,
    nothing runs.

    Seconds are the drivers' own, `after_s` of each event, so that a clock that is set costs
    nothing; of events that have none, it is the difference of their times.
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
    """`by_trial` of attempts with so many GPUs and CPUs, which may change in a study's course; and
    what REDRAWN took."""
    _confirming: set[int] = field(default_factory=set)
    """Trials that judge others."""
    _size: Size | None = None
    _size_of: dict[int, Size | None] = field(default_factory=dict)
    """Of each trial, what its newest attempt was started with."""
    _running: dict[int, float] = field(default_factory=dict)
    """Until when a running attempt is paid for, by trial, in seconds of `_now`."""
    _epoch: dict[int, int] = field(default_factory=dict)
    _now: float = 0.0
    """Seconds of all drivers together."""
    _last: float | None = None
    """Unix time of the last event."""

    def apply(self, event: Event) -> None:
        """Take in one event of the ledger."""
        time: float = event.get("time", self._last or 0.0)
        by_clock = 0.0 if self._last is None else max(0.0, time - self._last)
        passed: float = event.get("after_s", by_clock)
        self._last = time
        if event["event"] == "driver":
            for running in list(self._running):
                self._pay(running, self._now)
            self._running.clear()
            return
        self.wall_s += passed
        self._now += passed
        now = self._now
        trial = event.get("trial")
        match event["event"]:
            case "study" if "trials" in event["config"]:
                trials = event["config"]["trials"]
                gpus, cpus = (trials.get(f"{what}_per_trial") for what in ("gpus", "cpus"))
                known = isinstance(gpus, int | float) and isinstance(cpus, int)
                self._size = Size(gpus, cpus) if known else None
            case "proposed" if event["kind"] == "confirm":
                self._confirming.add(event["trial"])
            case "redrawn":
                drawn = self._by_size.setdefault(self._size, {})
                drawn[REDRAWN] = drawn.get(REDRAWN, 0.0) + event["seconds"]
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

    def _pay(self, trial: int, now: float) -> None:
        if trial in self._running:
            paid_s = now - self._running[trial]
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
        idle_s = 0.0 if now is None or self._last is None else max(0.0, now - self._last)
        cost = self.cost_hours(trials)
        if now is not None:
            for running, paid in self._running.items():
                gpus, cpus = self._size_of[running] or Size(trials.gpus, trials.cpus_per_trial)
                hours = (self._now + idle_s - paid) / 3600
                cost["gpu_hours"] += hours * gpus
                cost["cpu_hours"] += hours * cpus
        return {"epochs": self.epochs, **cost, "wall_hours": (self.wall_s + idle_s) / 3600}

    def cost_hours(self, trials: Trials, trial: int | None = None) -> dict[str, float]:
        """Return what attempts cost up to their last event: `gpu_hours` and `cpu_hours`.

        Args:
            trials: The study's.
            trial: Whose attempts; None for all, and what is redrawn.
        """
        return self._cost_hours(trials, None if trial is None else {trial})

    def confirming_hours(self, trials: Trials) -> dict[str, float]:
        """Return what it cost up to the last event to judge the best: as `cost_hours`."""
        return self._cost_hours(trials, {*self._confirming, REDRAWN})

    def _cost_hours(self, trials: Trials, of: Set[int] | None) -> dict[str, float]:
        cost = {"gpu_hours": 0.0, "cpu_hours": 0.0}
        for size, seconds in self._by_size.items():
            gpus, cpus = size or Size(trials.gpus, trials.cpus_per_trial)
            counted = seconds if of is None else of & seconds.keys()
            hours = sum(seconds[each] for each in counted) / 3600
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
    if event.get("share"):
        return SHARE_SPENT
    return f"the budget of {event['limit']:g} {UNITS[event['what']]} is spent"
