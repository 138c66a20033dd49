"""Which trials are best: now, at the end, at equal epochs, where several objectives compete."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import Report, TrialState
from search.pruning.asha import rung_levels
from search.study.config import Objective, StudyConfig
from trainer.configfile import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FEW = 5
"""While no trial has completed, the best so many say which epoch is compared."""
UNRANKED = ("failed", "diverged", "infeasible")
"""Endings of trials that have no rank, whatever they reported before."""
MIN_CORRELATED = 8
"""With fewer complete trials, ranks that agree by chance look like ranks that agree."""


class Standing(NamedTuple):
    """The mean of a trial's last validations: its one value, wherever it is shown or compared."""

    value: float
    """May not be finite."""
    epochs: tuple[int, ...]
    """Of the validations, ascending."""

    @property
    def where(self) -> str:
        """In words: `epoch 9` or `mean of epochs 7-9`."""
        if len(self.epochs) == 1:
            return f"epoch {self.epochs[0]}"
        return f"mean of epochs {epochs_in_words(self.epochs)}"


def epochs_in_words(epochs: Sequence[int]) -> str:
    """Return `7-9`, or `3, 6, 9` where others lie between."""
    first, last = epochs[0], epochs[-1]
    if last - first == len(epochs) - 1 and last > first:
        return f"{first}-{last}"
    return ", ".join(map(str, epochs))


def standing(
    study: StudyConfig, trial: TrialState, *, metric: str | None = None, epoch: int | None = None
) -> Standing | None:
    """Return what ASHA ranks by: the mean of the last `scheduler.smoothing` validations.

    Of what there is, where a trial has fewer. None before the first report.

    Args:
        study: Its study.
        trial: The trial.
        metric: None is the objective.
        epoch: Up to which; None is its last.
    """
    reports: Sequence[Report] = trial.reports
    if epoch is not None:
        reports = [report for report in reports if report.epoch <= epoch]
    recent = reports[-study.scheduler.smoothing :]
    if not recent:
        return None
    values = [
        report.value
        if metric in (None, study.objective.metric)
        else report.metrics.get(metric or "", math.nan)
        for report in recent
    ]
    return Standing(math.fsum(values) / len(values), tuple(report.epoch for report in recent))


def value_of(study: StudyConfig, trial: TrialState) -> float | None:
    """Return a trial's value, the mean of `standing`; None before a report, or if not finite."""
    found = standing(study, trial)
    return found.value if found and math.isfinite(found.value) else None


def ranked(study: StudyConfig, trials: Iterable[TrialState]) -> list[TrialState]:
    """Return the trials that have a rank, best first, by `value_of`.

    Those without a finite value have none, nor those whose ending says that their configuration
    does not work.
    """
    keys = ((rank_key(study, trial), trial) for trial in trials)
    found = {trial.number: (key, trial) for key, trial in keys if key is not None}
    return [trial for _, trial in sorted(found.values(), key=lambda pair: pair[0][0])]


def rank_key(study: StudyConfig, trial: TrialState) -> tuple[float, int] | None:
    """Return what trials are ranked by, ascending; None of one without a rank."""
    value = None if trial.ending in UNRANKED else value_of(study, trial)
    return None if value is None else (-_sign(study.objective) * value, trial.number)


def best_of(study: StudyConfig, state: StudyState) -> TrialState | None:
    """Return the searched trial with the first rank, also while it runs."""
    return next(iter(ranked(study, state.searched())), None)


def equal_epoch(study: StudyConfig, state: StudyState) -> int | None:
    """Return the epoch at which trials are compared on equal terms; None before any report.

    The largest that every trial has which was trained to max_t, the control and the references
    among them, and max_t at most: a resumed trial is compared with those that were not. While no
    searched trial has come so far, the largest that the best few have.
    """
    max_t = study.scheduler.max_t
    best = ranked(study, state.searched())
    fair = [trial for trial in best if trial.epoch >= max_t]
    if fair:
        beside = [state.control(), *state.references()]
        fair += [trial for trial in beside if trial and trial.epoch >= max_t]
    shared = [{r.epoch for r in t.reports if r.epoch <= max_t} for t in fair or best[:FEW]]
    return max(set.intersection(*shared), default=None) if shared else None


def value_at(study: StudyConfig, trial: TrialState, epoch: int) -> float | None:
    """Return the value of a trial when it had reported an epoch; None where it has not."""
    found = standing(study, trial, epoch=epoch)
    return found.value if found and found.epochs[-1] == epoch else None


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
    import numpy as np

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
        spearman = float(np.corrcoef(mean_ranks(at_rung), mean_ranks(at_end))[0, 1])
        found.append({"epoch": epoch, "spearman": spearman, "num_trials": len(both)})
    return found


def mean_ranks(values: Sequence[float]) -> "npt.NDArray[np.float64]":
    """Return the ranks of values from 1 up, equal ones sharing the mean of theirs.

    As `scipy.stats.rankdata`, whose import takes a second, half of what `compare` does.
    """
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return mean


def _rungs(study: StudyConfig) -> list[int]:
    """Return the epochs of all brackets' rungs, also where `type: none` does not use them."""
    scheduler = study.scheduler
    if not study.trains:
        return []
    try:
        validate_every = study.validate_every
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


def pareto(study: StudyConfig, trials: Iterable[TrialState]) -> list[TrialState]:
    """Return the trials that no other beats in one objective without losing in another.

    By the mean of the last validations, as they are ranked; sorted by the first objective, best
    first. A trial without a rank, or without a finite value of each, is in no such set.
    """
    objectives = [study.objective, *study.further_objectives]
    scores: dict[int, list[float]] = {}
    by_number = {trial.number: trial for trial in ranked(study, trials)}
    for number, trial in by_number.items():
        found = [(o, standing(study, trial, metric=o.metric)) for o in objectives]
        score = [_sign(o) * mean.value for o, mean in found if mean]
        if all(map(math.isfinite, score)):
            scores[number] = score

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    front = [n for n, mine in scores.items() if not any(beats(s, mine) for s in scores.values())]
    return [by_number[number] for number in sorted(front, key=lambda n: -scores[n][0])]


def _sign(objective: Objective) -> float:
    return 1.0 if objective.mode == "max" else -1.0


class Leader:
    """`best_of` for those who ask at every report: all trials are ranked only where it sinks.

    Args:
        state: Of a study, which grows; `observe` hears of each event after the state does.
    """

    def __init__(self, state: StudyState):
        self._state = state
        self._best: TrialState | None = None
        self._key: tuple[float, int] | None = None
        """Of the best trial, as it stood."""
        self._changed: set[int] | None = None
        """Trials of which there were events since; None where all are to be ranked."""

    def observe(self, event: Event) -> None:
        """Take note of which trial an event changes."""
        if self._changed is not None and event.get("trial") is not None:
            self._changed.add(event["trial"])

    def best(self, study: StudyConfig) -> TrialState | None:
        """Return the searched trial with the first rank, also while it runs; None without one.

        Args:
            study: Whose objective is the same at every call.
        """
        if self._changed is None or self._sinks(study):
            self._best = best_of(study, self._state)
            self._key = rank_key(study, self._best) if self._best else None
        for number in self._changed or ():
            trial = self._state.trials[number]
            key = None if trial.protected else rank_key(study, trial)
            if key is not None and (self._key is None or key < self._key):
                self._best, self._key = trial, key
        self._changed = set()
        return self._best

    def _sinks(self, study: StudyConfig) -> bool:
        """Return whether the best trial may be that no more; where not, take its new rank."""
        if self._best is None or self._best.number not in (self._changed or ()):
            return False
        key = rank_key(study, self._best)
        if key is None or self._key is None or key > self._key:
            return True
        self._key = key
        return False
