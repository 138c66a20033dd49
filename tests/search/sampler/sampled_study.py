"""A study for each kind of sampler, and what happens in it as events: nothing is trained."""

import json
import math
from collections.abc import Iterable
from typing import Any

from search.sampler.sampler import Sampler
from search.study.config import StudyConfig

Event = dict[str, Any]

SPACE: dict[str, dict[str, Any]] = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "model.width": {"type": "int", "low": 8, "high": 32, "step": 8, "when": {"model.depth": [3]}},
    "data.modalities": {"type": "categorical", "choices": [["ncct"], ["ncct", "tmax"]]},
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "warm_in"]},
    "model.depth": {"type": "int", "low": 2, "high": 3, "when": {"loss.weighting": ["warm_in"]}},
}
"""With a condition of a condition, whose dimension comes before its own, and lists as choices."""

TYPES = ("tpe", "curve_gp", "random", "qmc", "gp", "grid", "nsga2")
SPEED = {"metric": "time/case_s", "mode": "min"}


def make_study(kind: str = "tpe", **settings: Any) -> StudyConfig:
    space = dict(SPACE)
    if kind == "grid":
        space["optimizer.lr"] = {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1}
    return StudyConfig.model_validate(
        {
            "study": "toy",
            "data": {"store": "."},
            "space": space,
            "sampler": {"type": kind, "num_startup_trials": 4, "population_size": 4},
            "scheduler": {"max_t": 9, "smoothing": 2},
            "trials": {"num_trials": 40},
            **settings,
        }
    )


def reported(number: int, epoch: int, value: float, case_s: float = 1.0) -> Event:
    metrics = {"val/dice": value, "time/case_s": case_s}
    about = {"event": "reported", "trial": number, "epoch": epoch}
    return {**about, "value": value, "metrics": metrics}


def story(
    sampler: Sampler, number: int, values: Iterable[float], ending: str | None
) -> list[Event]:
    """Let a sampler propose and hear of one trial; return the events."""
    proposal = sampler.propose(number, given={})
    about = {"trial": number}
    events = [
        {"event": "proposed", **about, "kind": "sampled", "protected": False, **proposal},
        *(reported(number, epoch, value) for epoch, value in enumerate(values, 1)),
        *([{"event": "ended", **about, "ending": ending}] if ending else []),
    ]
    for event in events:
        sampler.observe(event)
    return events


def replayed(study: StudyConfig, events: Iterable[Event]) -> Sampler:
    """Return a sampler that read the events from a file."""
    sampler = Sampler(study)
    for event in json.loads(json.dumps(list(events))):
        sampler.observe(event)
    return sampler


def overlapping(study: StudyConfig, num_trials: int) -> list[Event]:
    """Run trials of which three overlap and which end in every way; return the events."""
    sampler = Sampler(study)
    params: list[dict[str, Any]] = []
    endings = ["completed", "stopped", "completed", "infeasible", "completed", "stalled", "failed"]
    events: list[Event] = []
    for number in range(num_trials):
        proposal = sampler.propose(number, given={})
        params.append(proposal["params"])
        events.append({"event": "proposed", "trial": number, "protected": False, **proposal})
        sampler.observe(events[-1])
        if (ended := number - 2) >= 0:
            lr = params[ended]["optimizer.lr"]
            value = 0.5 - 0.1 * abs(math.log10(lr) + 3)
            for event in (
                reported(ended, 1, value, case_s=lr * ended),
                {"event": "ended", "trial": ended, "ending": endings[ended % len(endings)]},
            ):
                events.append(event)
                sampler.observe(event)
    return events


SMALL: dict[str, Any] = {
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "learned"]},
    "loss.dice": {
        "type": "float", "low": 0.1, "high": 0.3, "step": 0.1,
        "when": {"loss.weighting": ["fixed"]},
    },
    "batch.effective": {"type": "int", "low": 2, "high": 6, "step": 2},
}  # fmt: skip
"""(3 + 1) x 3 combinations."""
