"""Is one configuration really better than another? Paired differences over seeds and cases.

Both are trained with the same seeds on the same folds, so each validation case gives a paired
difference of the metric. Three things make the mean difference uncertain: the seeds, what a fold's
training set does, and which patients. Their variances are added up, and Student's t has
Satterthwaite's (1946) degrees of freedom.

- With one seed a fold, the variance of the folds' means has all three, and that of the cases is
  added to it: the variance of the hierarchical bootstrap (Davison & Hinkley 1997, sec. 3.8; with
  the same cases for all seeds of the pigeonhole bootstrap, Owen 2007), in closed form and unbiased.
  Alone this errs in up to 7 % (11 % for a family of 3 under Holm), so the interval is never
  narrower than Student's of the folds' means.
- With several seeds on every fold (folds crossed with seeds), seeds are known from within folds,
  with as many degrees of freedom as there are seeds to spare, and cases from within seeds. What the
  folds' means vary more than these two explain is added as the training sets' share, with the few
  degrees of freedom that folds have.

And no interval is narrower than what the cases may not have shown yet (analysis/intervals.py).

Simulated, 20 cases on 4 folds whose differences vary by 0.1 from case to case and by 0.04 from seed
to seed: equals are called different in 1 to 3 % of the studies, in 2 to 5 % where training sets
do as much as seeds, with 3, 4, 8 or 12 seeds. A difference of 0.08 is found with 3, 4, 6, 8, 12 and
16 seeds in 20, 40, 41, 61, 70 and 74 %. Folds as the only units, whatever the seeds on each, found
it in 21, 37, 41, 46, 52 and 52 %.

What no interval here knows: folds share training cases, so seeds on different folds are not quite
independent (Bengio & Grandvalet 2004).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.analysis.intervals import ALPHA, TOO_FEW, Limits, Scale, interval, p_value, unseen_share

Word = Literal[
    "better", "worse", "equivalent", "not distinguishable", "cases too few or too alike to tell"
]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How much one configuration has more of a metric than another, and how sure that is."""

    mean: float
    """Of the units' means."""
    std_error: float
    """From folds, seeds and cases."""
    df: float
    """Degrees of freedom of the standard error."""
    units_error: float
    """Standard error of the mean from the units' means alone, for units of one seed; else 0."""
    case_error: float
    """Standard error of the mean from the cases alone."""
    seed_sd: float
    """Standard deviation that one seed gives the mean over a fold's cases; where no fold has
    several, with what training sets do."""
    unit_means: list[float]
    num_seeds: int
    num_cases: list[int]
    """By unit."""
    num_different: int
    """Cases, each counted once."""
    limits: Limits

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference."""
        return p_value(self.mean, self._errors(), self.num_different, self.limits)

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """Return the interval that covers the true mean with probability 1 - alpha, or None."""
        return interval(self.mean, self._errors(), self.num_different, self.limits, alpha)

    def half_width(self, num_seeds: int, num_units: int, *, same_cases: bool) -> float:
        """Return about how far a 95 % interval would reach with so many seeds on so many units.

        If seeds and cases vary as they do, and training sets do nothing.
        """
        from scipy import stats

        share = 1.0 if same_cases else len(self.unit_means) / num_units
        losses = [self.limits.unseen_low, self.limits.unseen_high]
        lost = max((abs(loss) for loss in losses if loss is not None), default=0.0)
        unseen = lost * unseen_share(round(self.num_different / share), ALPHA)
        cases, seeds = share * self.case_error**2, self.seed_sd**2 / num_seeds
        parts = [(cases, max(1, self.num_different - 1))]
        if num_seeds >= 2 * num_units:
            parts.append((seeds, num_seeds - num_units))
        else:
            parts.append((seeds + (0.0 if same_cases else cases), num_units - 1))
        total = sum(part for part, _ in parts)
        df = total**2 / sum(part**2 / df for part, df in parts) if total else 1.0
        return max(unseen, float(stats.t.isf(ALPHA / 2, df)) * math.sqrt(total))

    def _errors(self) -> list[tuple[float, float]]:
        """Return standard errors, each with its degrees of freedom; the wider interval counts."""
        errors = [(self.std_error, self.df)]
        if len(self.unit_means) > 1:
            errors.append((self.units_error, len(self.unit_means) - 1))
        return errors


@dataclass(frozen=True)
class Verdict:
    """What a family's correction makes of a difference."""

    p_holm: float
    """Adjusted; below ALPHA is a finding."""
    level: float
    """Of the interval, 1 - ALPHA divided among those of the family that it competes with."""
    interval: tuple[float, float] | None
    word: Word


def difference(
    mine: Sequence[Values],
    theirs: Sequence[Values] | None,
    scale: Scale,
    *,
    same_cases: bool = False,
) -> Difference:
    """Estimate a mean difference over folds, seeds and cases, or the mean of one configuration.

    Args:
        mine: For each unit (a fold, or a seed where there is one fold) its scores, (seeds, cases).
        theirs: The other's, paired with them; None for the mean of `mine` itself.
        scale: Of the scores.
        same_cases: Every unit has the same cases in the same order (a test set), so that units and
            cases count independently of each other; otherwise each unit's cases are others.

    Raises:
        AssertionError: A unit without a case, or units of `same_cases` with unequally many.
    """
    assert mine and all(values.ndim == 2 and values.size for values in mine)
    flat = [values.mean(0) for values in mine]
    if theirs is None:
        units, limits = [*mine], Limits.of_mean(np.concatenate(flat), scale)
    else:
        units = [one - other for one, other in zip(mine, theirs, strict=True)]
        others = np.concatenate([values.mean(0) for values in theirs])
        limits = Limits.of_difference(np.concatenate(flat), others, scale)
    by_case = [values.mean(0) for values in units]
    means = np.array([values.mean() for values in by_case])
    if same_cases:
        cases = [_part(np.stack(by_case).mean(0), 1)]
    else:
        cases = [_part(values, len(units)) for values in by_case]
    between, seeds = _part(means, 1), _seeds_part(units)
    case_variance = sum(part for part, _ in cases)
    within = 0.0 if same_cases else case_variance
    if seeds is None:
        parts, floor = [*cases, between], math.sqrt(between[0])
        per_seed = max(0.0, between[0] - within) * len(units)
    else:
        rest = max(0.0, between[0] - seeds[0] - within)
        parts, floor = [*cases, seeds, (rest, between[1])], 0.0
        per_seed = seeds[0] * len(units) ** 2 / sum(1 / len(unit) for unit in units)
    total, spread = sum(part for part, _ in parts), sum(part**2 / df for part, df in parts)
    return Difference(
        mean=float(means.mean()),
        std_error=math.sqrt(total),
        df=total**2 / spread if spread else 1.0,
        units_error=floor,
        case_error=math.sqrt(case_variance),
        seed_sd=math.sqrt(per_seed),
        unit_means=means.tolist(),
        num_seeds=sum(len(unit) for unit in units),
        num_cases=[len(values) for values in by_case],
        num_different=len(by_case[0]) if same_cases else len(np.concatenate(flat)),
        limits=limits,
    )


Part = tuple[float, int]
"""What one source adds to the variance of a mean, and its degrees of freedom."""


def _part(values: Values, num_units: int) -> Part:
    """Return what one level's values add, if so many units have a level like it."""
    df = len(values) - 1
    if not df:
        return 0.0, 1
    return float(values.var(ddof=1)) / len(values) / num_units**2, df


def _seeds_part(units: Sequence[Values]) -> Part | None:
    """Return what seeds add, from those that share a unit; None unless each unit has several."""
    means = [unit.mean(1) for unit in units]
    if min(map(len, means)) < 2:
        return None
    df = sum(len(seeds) - 1 for seeds in means)
    variance = sum(float(((seeds - seeds.mean()) ** 2).sum()) for seeds in means) / df
    return variance * sum(1 / len(seeds) for seeds in means) / len(units) ** 2, df


def holm(p_values: Sequence[float]) -> list[tuple[float, float]]:
    """Correct a family's p-values (Holm 1979).

    The i-th smallest of K is tested at ALPHA / (K - i + 1), until one fails; it and all larger ones
    are no findings. An interval at the level that is returned excludes 0 just where Holm rejects:
    those after the first failure have the failure's level.

    Returns:
        For each, the adjusted p-value and the alpha of its interval.
    """
    order = np.argsort(p_values, kind="stable")
    corrected = [(1.0, ALPHA)] * len(p_values)
    adjusted, alpha, failed = 0.0, ALPHA, False
    for rank, index in enumerate(order):
        left = len(order) - rank
        adjusted = max(adjusted, min(1.0, left * p_values[index]))
        if not failed:
            alpha, failed = ALPHA / left, left * p_values[index] >= ALPHA
        corrected[index] = adjusted, alpha
    return corrected


def decide(
    family: Sequence[Difference], better: Literal["max", "min"], margin: float | None = None
) -> list[Verdict]:
    """Judge a family of comparisons, Holm-corrected; the intervals decide.

    Args:
        family: Differences of several candidates to the same kind of opponent.
        better: Which way the metric is better.
        margin: Differences smaller than this do not matter: an interval within it, on both sides,
            is `equivalent`, whether or not it excludes 0. None: no verdict is `equivalent`.
    """
    verdicts = []
    for found, (p_holm, alpha) in zip(family, holm([d.p for d in family]), strict=True):
        ends = found.interval(alpha)
        verdicts.append(Verdict(p_holm, 1 - alpha, ends, _word(ends, better, margin)))
    return verdicts


def _word(
    ends: tuple[float, float] | None, better: Literal["max", "min"], margin: float | None
) -> Word:
    if ends is None:
        return TOO_FEW
    low, high = ends
    if margin is not None and -margin < low and high < margin:
        return "equivalent"
    if low <= 0 <= high:
        return "not distinguishable"
    return "better" if (low > 0) == (better == "max") else "worse"
