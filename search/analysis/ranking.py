"""Which trials are best: at the end, at equal epochs, and where several objectives compete."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from search.ledger.state import TrialState
from search.pruning.asha import rung_levels
from search.study.config import Objective, StudyConfig
from trainer.configfile import ConfigError

FEW = 5
"""While no trial has completed, the best so many say which epoch is compared."""
MIN_CORRELATED = 8
"""With fewer complete trials, ranks that agree by chance look like ranks that agree."""


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


def finite_at(study: StudyConfig, trial: TrialState, epoch: int) -> float | None:
    """Return `value_at` where it is finite, else None."""
    value = value_at(study, trial, epoch)
    return value if value is not None and math.isfinite(value) else None


def rung_correlation(study: StudyConfig, trials: Iterable[TrialState]) -> list[dict[str, Any]]:
    """Return how well the ranks at each rung agree with those at max_t.

    Spearman's correlation of what ASHA ranks by, among the trials that reached max_t. Where ASHA
    stopped the others, these are alike at the rungs already, and agree less than all would have.
    For `scheduler.type: none`, at the rungs that its settings would have: then nothing is missing.

    Returns:
        For each rung `epoch`, `spearman` (-1 to 1) and `num_trials`; empty while there are fewer
        than MIN_CORRELATED.
    """
    from scipy import stats

    max_t = study.scheduler.max_t
    found = []
    for epoch in _rungs(study):
        both = [
            (early, late)
            for trial in trials
            if (early := finite_at(study, trial, epoch)) is not None
            and (late := finite_at(study, trial, max_t)) is not None
        ]
        at_rung, at_end = [early for early, _ in both], [late for _, late in both]
        if len(both) < MIN_CORRELATED or len(set(at_rung)) < 2 or len(set(at_end)) < 2:
            continue
        spearman = float(stats.spearmanr(at_rung, at_end).statistic)
        found.append({"epoch": epoch, "spearman": spearman, "num_trials": len(both)})
    return found


def _rungs(study: StudyConfig) -> list[int]:
    """Return the epochs of all brackets' rungs, also where `type: none` does not use them."""
    scheduler = study.scheduler
    if not study.trains:
        return []
    try:
        validate_every = study.train_config({}).validation.every
    except ConfigError:  # an earlier version had settings that there are no more
        return []
    levels = (
        rung_levels(
            grace_period=scheduler.grace_period,
            max_t=scheduler.max_t,
            reduction_factor=scheduler.reduction_factor,
            bracket=bracket,
            validate_every=validate_every,
        )
        for bracket in range(scheduler.brackets)
    )
    return sorted({epoch for bracket in levels for epoch in bracket})


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
