"""Does a short, noisy series of validations rise, fall, or swing around a level? No torch.

The slope is Theil and Sen's median of all pairwise slopes, its interval comes from the exact
distribution of Kendall's S under no trend (Sen 1968), which needs no normal noise. Neighbouring
validations share weights, so that their errors may be alike: S then scatters more than for
independent ones, and its quantile is stretched as for an AR(1) series (Hamed & Rao 1998, eq. 15 and
17).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEAST = 5
"""Validations from which a trend can be told: of 4, no order is rarer than 1 in 24."""
ALPHA = 0.05
"""Two-sided: one in 20 series without a trend is called one, at most."""

Word = Literal["rising", "falling", "flat", "oscillating", "too short"]


@dataclass(frozen=True)
class Trend:
    """The last part of a series. Slopes are per epoch, in the series' unit."""

    word: Word
    first: float
    """Epoch with which the part begins."""
    last: float
    num: int
    """Validations in it."""
    level: float
    """Median of the part."""
    slope: float
    low: float
    """Of the slope's 95 % interval."""
    high: float
    noise: float
    """Standard deviation around the fitted line."""
    autocorrelation: float
    """Of neighbours' residuals, lag 1; biased to below 0 in short series."""


def trend(epochs: Sequence[float], values: Sequence[float], *, expected: float = 0.0) -> Trend:
    """Judge the last part of a series: its second half, at least 8 values where there are so many.

    Args:
        epochs: (n,), rising.
        values: (n,), finite.
        expected: Standard deviation that single values have by chance alone, known from elsewhere;
            a flat series that scatters beyond it oscillates. 0 where it is not known.

    Returns:
        `rising` and `falling` where the slope's interval leaves out 0, else `oscillating` or
        `flat`.
    """
    start = len(values) - min(len(values), max(8, (len(values) + 1) // 2))
    x, y = np.array(epochs[start:], float), np.array(values[start:], float)
    if len(y) < LEAST:
        level = float(np.median(y)) if len(y) else math.nan
        ends = (float(x[0]), float(x[-1])) if len(x) else (math.nan, math.nan)
        nothing = (math.nan,) * 5
        return Trend("too short", *ends, len(y), level, *nothing)
    earlier, later = np.triu_indices(len(y), 1)
    slopes = np.sort((y[later] - y[earlier]) / (x[later] - x[earlier]))
    slope = float(np.median(slopes))
    residuals = y - slope * x
    residuals -= np.median(residuals)
    width = kendall_quantile(len(y), ALPHA) * stretch(residuals)
    # Sen 1968: the order statistics whose ranks are half of S's quantile from the middle.
    reach = math.ceil(min((len(slopes) + width) / 2, len(slopes) - 1))
    low, high = slopes[len(slopes) - 1 - reach], slopes[reach]
    noise = float(np.sqrt((residuals**2).sum() / max(len(y) - 2, 1)))
    word: Word = "rising" if low > 0 else "falling" if high < 0 else "flat"
    if word == "flat" and expected > 0 and swings(noise, expected, len(y)):
        word = "oscillating"
    return Trend(
        word=word,
        first=float(x[0]),
        last=float(x[-1]),
        num=len(y),
        level=float(np.median(y)),
        slope=slope,
        low=float(low),
        high=float(high),
        noise=noise,
        autocorrelation=_lag_one(residuals),
    )


@cache
def kendall_quantile(n: int, alpha: float) -> int:
    """Return the largest |S| of n values that chance without a trend exceeds by at most alpha.

    S counts the rising pairs less the falling ones. The number of orders with so many falling pairs
    is the coefficient of a product of 1 + x + ... + x^(k-1), k up to n.
    """
    orders: NDArray[np.floating] = np.ones(1)
    for k in range(2, n + 1):
        orders = np.convolve(orders, np.ones(k) / k)
    pairs = n * (n - 1) // 2
    s = pairs - 2 * np.arange(pairs + 1)
    for quantile in range(pairs % 2, pairs + 1, 2):
        if orders[np.abs(s) > quantile].sum() <= alpha:
            return quantile
    raise AssertionError("no |S| is above the number of pairs")


def stretch(residuals: NDArray[np.float64]) -> float:
    """Return by how much more S scatters than of independent values, at least 1."""
    n, r = len(residuals), _lag_one(residuals)
    if r <= 0:
        return 1.0
    lags = np.arange(1, n)
    weights = (n - lags) * (n - lags - 1) * (n - lags - 2)
    return math.sqrt(1 + 2 / (n * (n - 1) * (n - 2)) * float((weights * r**lags).sum()))


def swings(noise: float, expected: float, num: int) -> bool:
    """Say whether a series scatters more than expected: a chi-squared test at 1 %."""
    from scipy.stats import chi2

    return bool((num - 2) * (noise / expected) ** 2 > chi2.ppf(0.99, num - 2))


def chance(dice: NDArray[np.float64]) -> float:
    """Return how much the mean of cases scatters where each scatters by itself.

    Cases are predicted from fresh noise at each validation. As far as that alone moves them, they
    move independently, and their mean by less; what moves them together is the weights.

    Args:
        dice: (validations, cases), at least 3 validations.

    Returns:
        Standard deviation of the mean from one validation to the next: from the cases' second
        differences, which no common movement and no straight line has a part in.
    """
    own = dice - dice.mean(1, keepdims=True)
    cases = dice.shape[1]
    second = np.diff(own, n=2, axis=0)
    # A second difference of white noise has 6 times its variance; 1 / cases is in the mean.
    variance = (second**2).mean() / 6 * cases / max(cases - 1, 1)
    return float(np.sqrt(variance / cases))


def _lag_one(residuals: NDArray[np.float64]) -> float:
    total = float((residuals**2).sum())
    return float((residuals[1:] * residuals[:-1]).sum()) / total if total else 0.0
