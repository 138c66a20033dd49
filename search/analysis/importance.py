"""Which searched parameters mattered, and how sure that is: Optuna's fANOVA with an interval.

Of which values. Trials that ASHA stopped have fewer epochs, and those that went on were chosen by
their values, so the end of the survivors says little of what made them survive. All trials are
therefore taken at one epoch, the last that nearly all of them share: with ASHA the first rung,
where nothing is selected yet. There the value is the mean of the last `smoothing` validations, as
ASHA judges it. A diverged trial counts as the worst of the others, since that is what its
parameters did; infeasible and failed ones, and those that have not come so far, are left out.

Of which share. fANOVA (Hutter et al. 2014) fits a random forest and gives each parameter the share
of its variance over the search space, uniform in the space's own scale (log where the study says
so), that the parameter explains alone, without interactions. A forest also fits noise, which gives
a share to a parameter that does nothing: 0.08 with 18 trials, more than many a real one. So each
parameter enters twice, as it is and shuffled among the trials (Kursa & Rudnicki 2010), and what its
shuffled copy gets is subtracted. Without an effect the difference is 0 on average, of either sign.

Of conditional parameters. One that is searched `when` another has some value is judged by a forest
over the trials that have it, and its share is multiplied by their part of all the variance about
the mean. So all shares are of the same whole, and those of trials without it count as none.

How sure. Each tree sees another resample of the trials, and the mean is over all trees, so it is a
bagged estimate, whose standard error is known from how the trees' shares go with how often each
trial was drawn: the infinitesimal jackknife (Efron 2014; Wager, Hastie & Efron 2014, with their
correction for finitely many trees). The interval is the mean plus and minus 1.96 of these. Measured
on planted functions with 18 trials and noise: of 270 parameters without an effect one has an
interval without 0, and one with 0.67 of the variance is told from chance in 27 of 30 studies. What
is not in it: a forest flattens weak effects beside strong ones; of a planted share of 0.15 it finds
0.02 with 18 trials and 0.04 with 60.
"""

import math
import warnings
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.analysis.ranking import finite_at
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from search.study.space import Dimension, among

MIN_TRIALS = 12
"""With fewer that have a parameter, no number is given."""
SHARED = 0.8
"""The epoch is the last that so many of the ended trials have."""
NUM_TREES = 200
MAX_DRAWN = 100
"""A tree sees at most so many trials, as its time grows with their square."""

Values = NDArray[np.float64]


def importance(study: StudyConfig, trials: Sequence[TrialState]) -> dict[str, Any] | None:
    """Return the share of the variance that each searched parameter explains.

    Args:
        study: Its settings.
        trials: The searched trials.

    Returns:
        None while there are fewer than MIN_TRIALS. `parameters`, the largest `mean` first, each
        with `interval` and the number of trials that had it; `left_out`, those that too few had or
        that did not vary; `epoch`; `num_trials`, of which `num_diverged` count as the worst.
    """
    epoch = shared_epoch(study, trials)
    if epoch is None:
        return None
    values = {trial.number: finite_at(study, trial, epoch) for trial in trials}
    diverged = {t.number for t in trials if t.ending == "diverged"}
    finite = [v for n, v in values.items() if v is not None and n not in diverged]
    if not finite:
        return None
    worst = min(finite) if study.objective.mode == "max" else max(finite)
    values |= dict.fromkeys(diverged, worst)
    counted = [trial for trial in trials if values[trial.number] is not None]
    if len(counted) < MIN_TRIALS:
        return None
    table, target = positions(study.space, counted), np.array([values[t.number] for t in counted])
    varied = {name: len(np.unique(c[~np.isnan(c)])) > 1 for name, c in table.items()}
    num_trials = {name: int((~np.isnan(column)).sum()) for name, column in table.items()}
    judged = [n for n in table if varied[n] and num_trials[n] >= MIN_TRIALS]
    choices = {name for name in judged if study.space[name].choices is not None}
    shares, counts = _grow({name: table[name] for name in judged}, choices, target, study.seed)
    parameters = []
    for name, column in shares.items():
        mean, error = float(column.mean()), standard_error(column, counts)
        ends = [mean - 1.96 * error, min(1.0, mean + 1.96 * error)]
        about = {"num_trials": num_trials[name], "mean": mean, "interval": ends}
        parameters.append({"name": name, **about})
    return {
        "method": "fANOVA",
        "metric": study.objective.metric,
        "epoch": epoch,
        "num_trials": len(counted),
        "num_diverged": len(diverged),
        "min_trials": MIN_TRIALS,
        "parameters": sorted(parameters, key=lambda row: -row["mean"]),
        "left_out": [{"name": n, "num_trials": num_trials[n]} for n in table if n not in judged],
    }


def shared_epoch(study: StudyConfig, trials: Sequence[TrialState]) -> int | None:
    """Return the last epoch that SHARED of the trials that ended with a value have; None if none.

    Those that diverged do not count.
    """
    ended = [t for t in trials if t.reports and t.ending in ("completed", "stopped", "stalled")]
    epochs = {report.epoch for trial in ended for report in trial.reports}
    enough = [
        epoch
        for epoch in epochs
        if sum(finite_at(study, t, epoch) is not None for t in ended) >= SHARED * len(ended)
    ]
    return max(enough, default=None)


def positions(space: Mapping[str, Dimension], trials: Sequence[TrialState]) -> dict[str, Values]:
    """Return where in its range each trial has each parameter, (trials,), NaN where it has none.

    From 0 to 1, so that equal distances are equally likely in a random search. Each choice has an
    equal part, and each whole number.
    """
    return {
        name: np.array([_position(dimension, t.params.get(name, math.nan)) for t in trials])
        for name, dimension in space.items()
    }


def _position(dimension: Dimension, value: Any) -> float:
    if dimension.choices is not None:
        found = [i for i, c in enumerate(dimension.choices) if among(value, (c,))]
        return (found[0] + 0.5) / len(dimension.choices) if found else math.nan
    if not isinstance(value, int | float) or math.isnan(value):
        return math.nan
    assert dimension.low is not None and dimension.high is not None
    half = (dimension.step or (dimension.type == "int")) / 2
    low, high = dimension.low - half, dimension.high + half
    value = min(max(value, low), high)  # what is enqueued may lie outside
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    position: float = (value - low) / (high - low)
    return position


def _grow(
    table: Mapping[str, Values], choices: Set[str], target: Values, seed: int
) -> tuple[dict[str, Values], Values]:
    """Grow trees on resamples of the trials.

    Returns:
        Each parameter's share in each tree, (trees,), and how often each trial was drawn for it,
        (trees, trials).
    """
    rng = np.random.default_rng(seed)
    shares: dict[str, Values] = {name: np.zeros(NUM_TREES) for name in table}
    counts = np.zeros((NUM_TREES, len(target)))
    regimes: dict[bytes, list[str]] = {}
    for name, column in table.items():
        regimes.setdefault(np.isnan(column).tobytes(), []).append(name)
    for tree in range(NUM_TREES):
        picks = rng.integers(len(target), size=min(len(target), MAX_DRAWN))
        counts[tree] = np.bincount(picks, minlength=len(target))
        for names in regimes.values():
            has = ~np.isnan(table[names[0]])
            # The tree is told all that these trials have, not only what is particular to them.
            known = [name for name, column in table.items() if not np.isnan(column[has]).any()]
            columns = np.stack([table[name][has] for name in known], axis=1)
            # Shuffled before it is resampled: a trial drawn twice is twice the same in both.
            both = np.hstack([columns, rng.permuted(columns, axis=0)])
            rows = (np.cumsum(has) - 1)[picks[has[picks]]]
            mine = target[has][rows]
            if len(rows) < 2:
                continue
            unordered = [name in choices for name in known] * 2
            found = variance_shares(_encoded(both[rows], unordered, mine), mine, tree)
            part = _squares(mine) / (_squares(target[picks]) or 1.0)
            for name in names:
                i = known.index(name)
                shares[name][tree] = part * (found[i] - found[i + len(known)])
    return shares, counts


def standard_error(values: Values, counts: Values) -> float:
    """Return the standard error of a bagged mean by the infinitesimal jackknife.

    Args:
        values: What each resample gave, (resamples,).
        counts: How often each had each trial, (resamples, trials).
    """
    number, drawn = len(values), counts[0].sum()
    deviations = values - values.mean()
    covariances = (counts - counts.mean(axis=0)).T @ deviations / number
    spread = float(deviations @ deviations) / number
    variance = float(covariances @ covariances) - drawn / number * spread
    return math.sqrt(max(0.0, variance) + spread / number)


def _squares(values: Values) -> float:
    """Return the sum of squares about the mean."""
    return float(((values - values.mean()) ** 2).sum())


def _encoded(columns: Values, unordered: Sequence[bool], target: Values) -> Values:
    """Return columns, (trials, columns), with the choices of the unordered ones in order."""
    return np.stack(
        [
            _ordered(column, target) if is_choice else column
            for column, is_choice in zip(columns.T, unordered, strict=True)
        ],
        axis=1,
    )


def _ordered(column: Values, target: Values) -> Values:
    """Return choices in the order of their mean values, as equal parts of 0 to 1.

    Then a tree's one split can set any of them apart from the others (Fisher 1958).
    """
    _, choice = np.unique(column, return_inverse=True)
    means = np.bincount(choice, weights=target) / np.bincount(choice)
    ranks = np.argsort(np.argsort(means, kind="stable"))
    return np.asarray((ranks[choice] + 0.5) / len(means), dtype=np.float64)


def variance_shares(columns: Values, target: Values, seed: int) -> list[float]:
    """Return Optuna's fANOVA, by one tree, of columns that lie in 0..1, (trials, parameters)."""
    if not np.ptp(target):
        return [0.0] * columns.shape[1]
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [str(i) for i in range(columns.shape[1])]
    unit: dict[str, optuna.distributions.BaseDistribution] = dict.fromkeys(
        names, optuna.distributions.FloatDistribution(0.0, 1.0)
    )
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(zip(names, row, strict=True)), distributions=unit, value=value
        )
        for row, value in zip(columns.tolist(), target.tolist(), strict=True)
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=1, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(
                study, evaluator=evaluator, params=names, normalize=False
            )
        except RuntimeError:  # every tree is a single leaf: too few different trials were drawn
            return [0.0] * len(names)
    return [float(found[name]) for name in names]
