"""Which trials are best: at the end, at equal epochs, and where several objectives compete."""

import math
from collections.abc import Iterable, Sequence

from search.state import TrialState
from search.study import Objective, StudyConfig

FEW = 5
"""While no trial has completed, the best so many say which epoch is compared."""


def ranked(study: StudyConfig, trials: Iterable[TrialState]) -> list[TrialState]:
    """Return the trials with a finite value, best first, by their last epoch reported."""
    finite = [t for t in trials if t.value is not None and math.isfinite(t.value)]
    return sorted(finite, key=lambda trial: -_sign(study.objective) * (trial.value or 0.0))


def equal_epoch(study: StudyConfig, trials: Iterable[TrialState]) -> int | None:
    """Return the epoch at which trials are compared on equal terms; None before any report.

    The largest that every completed trial has reported, so that one which was resumed is compared
    with those that were not; while none is complete, the largest that the best few have.
    """
    best = ranked(study, trials)
    fair = [t for t in best if t.ending == "completed"] or best[:FEW]
    shared = set.intersection(*({r.epoch for r in t.reports} for t in fair)) if fair else set()
    return max(shared, default=None)


def value_at(study: StudyConfig, trial: TrialState, epoch: int) -> float | None:
    """Return what ASHA ranks by: the mean of the last `smoothing` values up to an epoch.

    None where the trial has not reported that epoch.
    """
    values = [report.value for report in trial.reports if report.epoch <= epoch]
    if not any(report.epoch == epoch for report in trial.reports):
        return None
    recent = values[-study.scheduler.smoothing :]
    return math.fsum(recent) / len(recent)


def pareto(objectives: Sequence[Objective], trials: Iterable[TrialState]) -> list[TrialState]:
    """Return the trials that no other beats in one objective without losing in another.

    By the last epoch reported; sorted by the first objective, best first. A trial without a finite
    value of each is in no such set.
    """
    scores: dict[int, list[float]] = {}
    by_number = {trial.number: trial for trial in trials}
    for number, trial in by_number.items():
        metrics = trial.reports[-1].metrics if trial.reports else {}
        score = [_sign(o) * metrics.get(o.metric, math.nan) for o in objectives]
        if all(map(math.isfinite, score)):
            scores[number] = score

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    front = [n for n, mine in scores.items() if not any(beats(s, mine) for s in scores.values())]
    return [by_number[number] for number in sorted(front, key=lambda n: -scores[n][0])]


def _sign(objective: Objective) -> float:
    return 1.0 if objective.mode == "max" else -1.0
