"""Intervals of means over few cases that hold what they say, and the p-values that go with them.

Student's interval covers less than it says for a score in [0, 1]: its ends pass the bounds, a mean
near a bound is skewed, and five cases without a failure say nothing of the sixth. So an interval is

- Student's on the logit scale of the bounds, by the delta method, as surveys have it for
  proportions (Korn & Graubard 1998, Survey Methodology 24:193); on the log scale where there is one
  bound, on the plain one without any;
- and as wide as what may not have been seen yet: a share s of cases that fail shows in none of n
  with probability (1 - s)^n, so a lower end allows for the largest s for which that is 2 alpha (the
  rule of three, Hanley & Lippman-Hand 1983, JAMA 249:1743, at another level). The same reasoning
  makes Gaffke's bound of a bounded mean (Learned-Miller & Thomas 2019, arXiv 1905.06208), which is
  this one where all cases are equal. A case of Dice fails at 0. A difference fails where one of the
  two does, by what a case of the other has to lose: the mean of its scores, weighted by themselves.

Equal values on all cases do not say how much cases vary: there is no interval (TOO_FEW).

Covered of 20,000 draws each, with 4, 5, 6, 8, 16 and 60 cases (tests/search/analysis/
test_coverage.py): at least 93 % for Beta, uniform, U-shaped and two-point Dice and for those with
2 to 60 % of failures, at 0.8 to 1.45 times Student's width with 5 cases where Dice varies by 0.12
or more from case to case. It is less where nearly all cases are close to 0 and few are not (89 to
93 % for Dice with a mean below 0.12); with many cases that are much alike and few that fail (92 %
with 60 cases); and for a difference of which one side alone fails in a fifth of 16 cases (89 %).
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Probability of an interval, or of a family of comparisons of equals, to be wrong."""
TOO_FEW: Literal["cases too few or too alike to tell"] = "cases too few or too alike to tell"
"""What every surface says where there is no interval; older ledgers word it otherwise."""
UNSEEN = 2.0
"""So many times alpha is the chance at which failures may have gone unseen."""
EQUAL = 1e-12
"""A standard error below it is rounding."""

Values = NDArray[np.float64]
Errors = Sequence[tuple[float, float]]
"""Standard errors of one mean, each with its degrees of freedom; the widest interval counts."""


class Scale(NamedTuple):
    """What values a metric can have."""

    most: float
    """Infinite where nothing bounds it."""
    better: Literal["max", "min"]
    least: float = 0.0
    """0, or minus infinity where nothing bounds it; it has no other bound then."""

    def allows(self, value: float) -> bool:
        return self.least <= value <= self.most

    def worst(self, *seen: Values) -> float:
        """Return what a case has that fails: the worst possible, or the worst that was seen."""
        if self.better == "max":
            least = min(float(values.min()) for values in seen)
            return least if math.isinf(self.least) else self.least
        return max(float(values.max()) for values in seen) if math.isinf(self.most) else self.most


class Limits(NamedTuple):
    """What a mean is at the ends of what may be."""

    low: float
    high: float
    """No mean lies outside."""
    unseen_low: float | None
    unseen_high: float | None
    """The mean over cases that fail, None where failing does not move it that way."""

    @classmethod
    def of_mean(cls, values: Values, scale: Scale) -> "Limits":
        """Return those of the mean of some cases."""
        worst = scale.worst(values)
        fails = (worst, None) if scale.better == "max" else (None, worst)
        return cls(scale.least, scale.most, *fails)

    @classmethod
    def of_difference(cls, mine: Values, theirs: Values, scale: Scale) -> "Limits":
        """Return those of the mean of `mine - theirs`, case by case."""
        worst = scale.worst(mine, theirs)
        i_lose, they_lose = (_loss(np.abs(values - worst)) for values in (mine, theirs))
        down, up = (they_lose, i_lose) if scale.better == "max" else (i_lose, they_lose)
        return cls(-scale.most, scale.most, -down, up)


def _loss(losses: Values) -> float:
    """Return what a case with something to lose would lose: the mean weighted by itself."""
    total = float(losses.sum())
    return float((losses**2).sum()) / total if total else 0.0


def interval(
    mean: float, errors: Errors, num_cases: int, limits: Limits, alpha: float = ALPHA
) -> tuple[float, float] | None:
    """Return the interval that covers a true mean with probability 1 - alpha, or None (TOO_FEW).

    Args:
        mean: Of the sample.
        errors: Of the mean.
        num_cases: How many different cases it is over.
        limits: Of the mean.
        alpha: Probability of being wrong.
    """
    if not (errors := _varying(errors)):
        return None
    ends = [
        _ends(mean, student_quantile(df, alpha / 2) * error, limits.low, limits.high)
        for error, df in errors
    ]
    low, high = min(end for end, _ in ends), max(end for _, end in ends)
    unseen = unseen_share(num_cases, alpha)
    if limits.unseen_low is not None:
        low = min(low, mean + unseen * (limits.unseen_low - mean))
    if limits.unseen_high is not None:
        high = max(high, mean + unseen * (limits.unseen_high - mean))
    return low, high


@cache
def student_quantile(df: float, alpha: float) -> float:
    """Return what Student's t with so many degrees of freedom is above with probability alpha."""
    from scipy import special

    return -float(special.stdtrit(df, alpha))


def p_value(mean: float, errors: Errors, num_cases: int, limits: Limits) -> float:
    """Return the two-sided p-value of a true mean of 0: the least alpha whose interval leaves it.

    1 where there is no interval.
    """
    from scipy import special

    if not (errors := _varying(errors)) or mean == 0:
        return 1.0
    distance, slope = _logit(mean, limits) - _logit(0.0, limits), _slope(mean, limits)
    ps = [2 * float(special.stdtr(df, -abs(distance) / (slope * error))) for error, df in errors]
    unseen = limits.unseen_low if mean > 0 else limits.unseen_high
    if unseen is not None:
        ps.append((abs(unseen) / (abs(unseen) + abs(mean))) ** num_cases / UNSEEN)
    return max(ps)


def unseen_share(num_cases: int, alpha: float) -> float:
    """Return the largest share of cases that may fail and show in none of some."""
    return 1 - math.pow(min(1.0, UNSEEN * alpha), 1 / num_cases)


def mean_interval(values: Sequence[float], scale: Scale) -> list[float] | None:
    """Return the 95 % interval of the mean of some cases, (n,); None: TOO_FEW."""
    cases = np.asarray(values, dtype=float)
    limits = Limits.of_mean(cases, scale)
    found = interval(float(cases.mean()), student_error(cases), len(cases), limits)
    return found and list(found)


def difference_interval(
    mine: Sequence[float], theirs: Sequence[float], scale: Scale
) -> list[float] | None:
    """Return the 95 % interval of the mean of `mine - theirs`, (n,) each; None: TOO_FEW."""
    one, other = np.asarray(mine, dtype=float), np.asarray(theirs, dtype=float)
    limits = Limits.of_difference(one, other, scale)
    cases = one - other
    found = interval(float(cases.mean()), student_error(cases), len(cases), limits)
    return found and list(found)


def student_error(values: Values) -> Errors:
    """Return the standard error of a mean and its degrees of freedom; nothing of one value."""
    df = len(values) - 1
    return [(float(values.std(ddof=1)) / math.sqrt(len(values)), df)] if df else []


def _varying(errors: Errors) -> Errors:
    """Return the errors that are more than rounding."""
    return [(error, df) for error, df in errors if error > EQUAL]


def _ends(mean: float, half: float, low: float, high: float) -> tuple[float, float]:
    """Return an interval's ends, each as far on the logit scale as `half` is at the mean."""
    below, above = mean - low, high - mean
    if math.isinf(below):
        return mean - half, mean + half
    assert below > 0 and above > 0, "a mean at its bound, of values that vary"
    factor = math.exp(min(half * (1 / below + 1 / above), 700.0))
    if math.isinf(above):
        return low + below / factor, low + below * factor
    return (
        low + (high - low) * below / (below + above * factor),
        low + (high - low) * below / (below + above / factor),
    )


def _logit(value: float, limits: Limits) -> float:
    """Return a difference on the scale of its bounds."""
    if math.isinf(limits.high):
        return value
    return math.log(value - limits.low) - math.log(limits.high - value)


def _slope(mean: float, limits: Limits) -> float:
    if math.isinf(limits.high):
        return 1.0
    return 1 / (mean - limits.low) + 1 / (limits.high - mean)
