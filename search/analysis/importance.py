"""Which searched settings mattered, and by how much: a permutation test, and means with intervals.

Of which values. Trials that ASHA stopped have fewer epochs, and those that went on were chosen by
their values, so the end of the survivors says little of what made them survive. All trials are
therefore taken at one epoch, the last that nearly all of them share: with ASHA the first rung,
where nothing is selected yet. There the value is the mean of the last `smoothing` validations, as
ASHA judges it. A diverged trial counts as the worst of the others, since that is what its
settings did; infeasible and failed ones, and those that have not come so far, are left out.

Whether. How much of the values' variance a setting explains, by its choices or by a line or a
parabola over its range, is compared with what it explains when the values are shuffled among the
trials. It has to beat the best of all settings there, so that a study in which nothing mattered
names a setting in 5 % of the cases, however many are searched (max-T, Westfall & Young 1993). What
is found is then known: its part of the values is taken out, the rest is shuffled (Freedman & Lane
1983), and the next is looked for, until one is not told from chance. At last each that was found
has to hold beside the others, since a sampler moves several settings at once. A conditional
setting is judged by the trials in which it is searched.

By how much. The mean at each choice, or third of the range, with Student's 95 % interval over the
trials; what else these trials differ in is in it.

What this finds, beside fANOVA, forests, Gaussian processes and rank tests: docs/importance.md.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.analysis.case_scores import case_metric
from search.analysis.intervals import ALPHA, Limits, interval, student_error
from search.analysis.ranking import finite_at
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from search.study.space import Dimension, among
from trainer.randomness import generator

MIN_TRIALS = 6
"""Fewer that have a setting can be shuffled in too few ways."""
SHARED = 0.8
"""The epoch is the last that so many of the ended trials have."""
SHUFFLES = 2000
EQUAL = 1e-9
"""Closer than this is the same, rounded otherwise."""

Values = NDArray[np.float64]


def importance(study: StudyConfig, trials: Sequence[TrialState]) -> dict[str, Any]:
    """Return which searched settings mattered, and the objective by their values.

    Args:
        study: Its settings.
        trials: The searched trials.

    Returns:
        `parameters`, the least `p` first: `mattered`, whether p, corrected for all settings, is
        below ALPHA; `num_trials` that had it; `groups`, each choice or third of the range (`low`
        to `high`, or `choice`) with `num_trials`, how many of these `diverged`, and `mean` and
        `interval` of the others, None where there is none. `left_out`: settings that fewer than
        MIN_TRIALS had (`missing` so many) or that did not vary. `epoch`, None before any;
        `num_trials`, of which `num_diverged` count as the worst; `missing`, how many trials more
        it takes to tell anything.
    """
    epoch = shared_epoch(study, trials)
    values = _values(study, trials, epoch) if epoch is not None else {}
    counted = [trial for trial in trials if trial.number in values]
    result: dict[str, Any] = {
        "method": "permutation test",
        "metric": study.objective.metric,
        "epoch": epoch,
        "num_trials": len(counted),
        "num_diverged": sum(trial.ending == "diverged" for trial in counted),
        "missing": max(0, MIN_TRIALS - len(counted)),
        "parameters": [],
        "left_out": [],
    }
    if result["missing"]:
        return result
    table = positions(study.space, counted)
    target = np.array([values[trial.number] for trial in counted])
    num_trials = {name: int((~np.isnan(column)).sum()) for name, column in table.items()}
    shapes = {
        name: shapes_of(column, is_choice=study.space[name].choices is not None)
        for name, column in table.items()
        if num_trials[name] >= MIN_TRIALS and np.nanmin(column) < np.nanmax(column)
    }
    result["parameters"] = [
        {
            "name": name,
            "p": p,
            "mattered": p <= ALPHA,
            "num_trials": num_trials[name],
            "groups": _groups(study, name, counted, table[name], target),
        }
        for name, p in sorted(
            p_values(shapes, target, study.seed).items(), key=lambda found: found[1]
        )
    ]
    result["left_out"] = [
        {"name": name, "num_trials": n, "missing": max(0, MIN_TRIALS - n)}
        for name, n in num_trials.items()
        if name not in shapes
    ]
    return result


def shared_epoch(study: StudyConfig, trials: Sequence[TrialState]) -> int | None:
    """Return the last epoch that SHARED of the trials that ended with a value have; None if none.

    Those that diverged do not count.
    """
    judged = ("completed", "stopped", "stalled")
    ended = [t for t in trials if t.reports and t.status() in judged]
    having = Counter(report.epoch for trial in ended for report in trial.reports)
    needed = SHARED * len(ended)
    enough = (
        epoch
        for epoch in sorted(having, reverse=True)
        if having[epoch] >= needed
        and sum(finite_at(study, t, epoch) is not None for t in ended) >= needed
    )
    return next(enough, None)


def _values(study: StudyConfig, trials: Sequence[TrialState], epoch: int) -> dict[int, float]:
    """Return the value of each trial that counts, by its number."""
    diverged = [trial.number for trial in trials if trial.ending == "diverged"]
    found = {t.number: finite_at(study, t, epoch) for t in trials if t.number not in diverged}
    finite = {number: value for number, value in found.items() if value is not None}
    if not finite:
        return {}
    worst = min(finite.values()) if study.objective.mode == "max" else max(finite.values())
    return finite | dict.fromkeys(diverged, worst)


def positions(space: Mapping[str, Dimension], trials: Sequence[TrialState]) -> dict[str, Values]:
    """Return where in its range each trial has each setting, (trials,), NaN where it has none.

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
    low, high = _ends(dimension)
    value = min(max(value, low), high)  # what is enqueued may lie outside
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    position: float = (value - low) / (high - low)
    return position


def _ends(dimension: Dimension) -> tuple[float, float]:
    """Return a number's range, so that each step has an equal part of it."""
    assert dimension.low is not None and dimension.high is not None
    half = (dimension.step or (dimension.type == "int")) / 2
    return dimension.low - half, dimension.high + half


class Shape(NamedTuple):
    """How values may depend on a setting."""

    has: NDArray[np.bool_]
    """Which trials have it, (trials,)."""
    columns: Values
    """What values may be a sum of, (trials, columns), 0 where a trial does not have it."""


def shapes_of(column: Values, *, is_choice: bool) -> list[Shape]:
    """Return what is looked for of a setting: its choices, or a line, or a line and a parabola.

    Args:
        column: Its position in each trial, (trials,), NaN where it has none.
        is_choice: Whether it is a categorical.
    """
    has = ~np.isnan(column)
    # 0 on average over choices or range, not over trials: what a condition does stays its own.
    if is_choice:
        choices = np.unique(column[has])
        kinds = [np.where(has, (column == choice) - 1 / len(choices), 0.0) for choice in choices]
        return [Shape(has, np.stack(kinds, axis=1))]
    line = np.where(has, column - 0.5, 0.0)
    parabola = np.where(has, (column - 0.5) ** 2 - 1 / 12, 0.0)
    return [Shape(has, line[:, None]), Shape(has, np.stack([line, parabola], axis=1))]


def p_values(shapes: Mapping[str, Sequence[Shape]], target: Values, seed: int) -> dict[str, float]:
    """Return each setting's p-value, corrected for all of them.

    Args:
        shapes: What is looked for of each.
        target: The trials' values, (trials,).
        seed: Of the shuffles.
    """
    if np.ptp(target) <= EQUAL * np.abs(target).max():
        return dict.fromkeys(shapes, 1.0)
    target = (target - target.mean()) / target.std()
    order = np.tile(np.arange(len(target)), (1 + SHUFFLES, 1))
    shuffles = order  # its first stays as it is
    shuffles[1:] = generator(seed, "importance").permuted(order[1:], axis=1)
    found: dict[str, float] = {}
    while left := beside(shapes, found, target, shuffles):
        name, p = min(left.items(), key=lambda one: one[1])
        if p > ALPHA:
            break
        found[name] = max(p, *found.values(), 0.0)
    for name in list(found) if len(found) > 1 else []:
        others = [other for other in found if other != name]
        found[name] = max(found[name], beside(shapes, others, target, shuffles)[name])
    return found | left


def beside(
    shapes: Mapping[str, Sequence[Shape]],
    known: Collection[str],
    target: Values,
    shuffles: NDArray[np.int64],
) -> dict[str, float]:
    """Return the p-values of all settings but the known ones, beside these; strongest first.

    Args:
        shapes: What is looked for of each.
        known: Names of settings.
        target: The trials' values, (trials,).
        shuffles: Their orders, the first as they are, (1 + shuffles, trials).
    """
    constant = np.ones((len(target), 1))
    explained = _axes(np.hstack([constant, *(shapes[name][-1].columns for name in known)]))
    rest = target - explained @ (explained.T @ target)
    values = rest[shuffles]
    squares = values**2
    there: dict[bytes, _Among] = {}
    for has in (shape.has for each in shapes.values() for shape in each):
        if (key := has.tobytes()) not in there:
            there[key] = _Among.of(has, explained, values, squares)
    strengths = {
        name: np.max(
            [_strength(shape, there[shape.has.tobytes()], values) for shape in each], axis=0
        )
        for name, each in shapes.items()
        if name not in known
    }
    if not strengths:
        return {}
    largest = np.max([strength[1:] for strength in strengths.values()], axis=0)
    strongest = sorted(strengths, key=lambda name: -strengths[name][0])
    return {
        name: float((1 + (largest >= strengths[name][0] - EQUAL).sum()) / (1 + len(largest)))
        for name in strongest
    }


class _Among(NamedTuple):
    """What is the same for all settings that the same trials have; others are 0 in it."""

    known: Values
    """What is explained there, (trials, columns)."""
    rest: Values
    """Sums of squares of the values beside what is known, (1 + shuffles,)."""

    @classmethod
    def of(
        cls, has: NDArray[np.bool_], explained: Values, values: Values, squares: Values
    ) -> "_Among":
        known = _axes(explained * has[:, None])
        return cls(known, squares @ has.astype(float) - ((values @ known) ** 2).sum(axis=1))


def _strength(shape: Shape, among: _Among, values: Values) -> Values:
    """Return minus the logarithm of the F-test's p-value of a shape beside what is explained.

    So that shapes with different numbers of columns and trials are compared on equal terms.

    Args:
        shape: Of one setting.
        among: The trials that have it.
        values: As they are and shuffled, (1 + shuffles, trials).

    Returns:
        (1 + shuffles,), 0 where too few trials are left to tell.
    """
    from scipy import special

    known = among.known
    own = _axes(shape.columns - known @ (known.T @ shape.columns))
    rank, df = own.shape[1], int(shape.has.sum()) - known.shape[1] - own.shape[1]
    if rank == 0 or df < 2:
        return np.zeros(len(values))
    gained = ((values @ own) ** 2).sum(axis=1)
    ratio = (gained / rank) / np.maximum((among.rest - gained) / df, EQUAL**2)
    chances = np.maximum(special.fdtrc(rank, df, ratio), np.finfo(float).tiny)
    return np.asarray(-np.log(chances), dtype=np.float64)


def _axes(columns: Values) -> Values:
    """Return orthonormal columns that span the same, (trials, rank)."""
    axes, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(axes[:, sizes > 1e-8], dtype=np.float64)


def _groups(
    study: StudyConfig, name: str, trials: Sequence[TrialState], column: Values, target: Values
) -> list[dict[str, Any]]:
    """Return the objective at each choice, or third of the range."""
    dimension, groups = study.space[name], []
    diverged = np.array([trial.ending == "diverged" for trial in trials])
    number = len(dimension.choices) if dimension.choices is not None else 3
    group_of = np.where(np.isnan(column), -1, np.minimum(column * number, number - 1)).astype(int)
    for index in range(number):
        members = group_of == index
        values = target[members & ~diverged]
        groups.append(
            _label(dimension, index)
            | {"num_trials": int(members.sum()), "diverged": int((members & diverged).sum())}
            | {"mean": float(values.mean()) if len(values) else None}
            | {"interval": _interval(study, values)}
        )
    return groups


def _label(dimension: Dimension, index: int) -> dict[str, Any]:
    """Return what is in a group."""
    if dimension.choices is not None:
        return {"choice": dimension.choices[index]}
    low, high = _ends(dimension)

    def at(third: int) -> float:
        if dimension.log:
            return float(low * (high / low) ** (third / 3))
        return float(low + (high - low) * third / 3)

    ends = at(index), at(index + 1)
    assert dimension.low is not None and dimension.high is not None
    return {"low": max(ends[0], dimension.low), "high": min(ends[1], dimension.high)}


def _interval(study: StudyConfig, values: Values) -> list[float] | None:
    """Return the 95 % interval of a mean over trials; None of fewer than two, or of equals."""
    scale = case_metric(study.objective.metric, study.objective.mode).scale
    limits = Limits(scale.least, scale.most, None, None)
    if not len(values):
        return None
    mean = float(values.mean())
    found = interval(mean, student_error(values), len(values), limits)
    return found and list(found)
