"""Intervals over few cases, against scipy, closed forms and each other."""

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from search.analysis.case_scores import case_metric
from search.analysis.intervals import (
    Limits,
    Scale,
    difference_interval,
    interval,
    mean_interval,
    p_value,
    student_error,
    unseen_share,
)

DICE, ML = Scale(1, "max"), Scale(math.inf, "min")
RNG = np.random.default_rng(0)


def test_many_cases_have_students_interval_on_the_logit_scale() -> None:
    """By scipy's t and logit; with 200 cases unseen failures no longer matter."""
    values = RNG.beta(2, 3, size=200)
    mean, error = values.mean(), stats.sem(values)
    slope = 1 / (mean * (1 - mean))
    ends = stats.t.interval(0.95, 199, loc=special.logit(mean), scale=error * slope)
    assert mean_interval(values, DICE) == pytest.approx(special.expit(ends).tolist())
    student = stats.t.interval(0.95, 199, loc=mean, scale=error)
    assert mean_interval(values, DICE) == pytest.approx(student, abs=2e-3)


def test_without_bounds_a_difference_has_students_interval() -> None:
    mine, theirs = RNG.gamma(2, 5, size=300), RNG.gamma(2, 5, size=300)
    student = stats.ttest_rel(mine, theirs)
    found = interval(
        float((mine - theirs).mean()),
        student_error(mine - theirs),
        300,
        Limits(-math.inf, math.inf, None, None),
    )
    assert found == pytest.approx(tuple(student.confidence_interval(0.95)))


def test_five_cases_without_a_failure_allow_for_what_they_may_not_have_shown() -> None:
    """The share that shows in none of 5 cases once in 10 times, by scipy's binomial."""
    values = [0.79, 0.8, 0.8, 0.81, 0.8]
    share = optimize.brentq(lambda s: stats.binom.pmf(0, 5, s) - 0.1, 0, 1)
    assert unseen_share(5, 0.05) == pytest.approx(share)
    low, high = mean_interval(values, DICE) or (0, 0)
    assert low == pytest.approx(0.8 * (1 - share))
    assert 0.8 < high < 0.82, "no case of Dice fails upwards"
    low, high = mean_interval(np.multiply(values, 10), ML) or (0, 0)
    assert low > 7.8 and high == pytest.approx(8 + share * 0.1, abs=0.06), "the worst seen"


def test_a_difference_may_fail_on_either_side() -> None:
    """By as much as a case of the other has to lose: its mean, weighted by itself."""
    mine = np.array([0.8, 0.4, 0.8, 0.4, 0.8])
    theirs = mine - np.array([0.1, 0.1, 0.1, 0.1, 0.101])
    low, high = difference_interval(mine, theirs, DICE) or (0, 0)
    share, mean = unseen_share(5, 0.05), (mine - theirs).mean()
    lose = [np.average(values, weights=values) for values in (theirs, mine)]
    assert low == pytest.approx(mean - share * (lose[0] + mean))
    assert high == pytest.approx(mean + share * (lose[1] - mean))
    ml = Limits.of_difference(10 * mine, 10 * theirs, ML)
    assert (ml.unseen_low, ml.unseen_high) == pytest.approx(
        tuple(sign * np.average(8 - values, weights=8 - values)
              for sign, values in ((-1, 10 * mine), (1, 10 * theirs)))
    )  # fmt: skip


@pytest.mark.parametrize("scale", [DICE, ML])
@pytest.mark.parametrize("shift", [-0.3, -0.02, 0.01, 0.2])
def test_the_p_value_is_that_of_the_interval_that_ends_at_0(scale: Scale, shift: float) -> None:
    theirs = RNG.uniform(0.35, 0.6, size=12)
    mine = np.clip(theirs + shift + RNG.normal(0, 0.02, size=12), 0.01, 0.99)
    cases, limits = mine - theirs, Limits.of_difference(mine, theirs, scale)
    about = (float(cases.mean()), student_error(cases), 12, limits)
    p = p_value(*about)
    if p < 0.49:
        ends = interval(*about, alpha=p)
        assert ends is not None and min(map(abs, ends)) == pytest.approx(0, abs=1e-6)
    assert p <= 1 and (p < 0.05) == ((interval(*about) or (0, 0))[0] > 0 or
                                     (interval(*about) or (0, 0))[1] < 0)  # fmt: skip


@pytest.mark.parametrize("values", [[0.5], [0.0] * 5, [0.1 + 0.2, 0.3, 0.3], [1.0] * 60])
def test_equal_cases_tell_nothing(values: list[float]) -> None:
    assert mean_interval(values, DICE) is None
    assert difference_interval(values, [0.0] * len(values), DICE) is None


def test_the_ends_stay_within_the_bounds() -> None:
    for values in ([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.999], [0.0, 0.0, 1e-9]):
        low, high = mean_interval(values, DICE) or (-1, -1)
        assert 0 <= low < np.mean(values) < high <= 1
    low, high = difference_interval([1, 1, 0.999], [0, 0, 0], DICE) or (-2, 2)
    assert -1 <= low < high <= 1


def test_a_metric_of_which_nothing_is_known_has_no_bounds() -> None:
    """As a log-likelihood, which is negative: Student's interval, and a p-value."""
    scale = case_metric("log_likelihood").scale
    values = [-3.0, -2.0, -2.5, 1.0, -4.0]
    low, high = mean_interval(values, scale) or (0, 0)
    half = float(np.std(values, ddof=1)) / 5**0.5 * float(stats.t.ppf(0.975, 4))
    assert high == pytest.approx(np.mean(values) + half)
    assert low <= np.mean(values) - half  # a case that fails may not have been seen yet
    assert difference_interval(values, [0.5 * value for value in values], scale)
