"""The statistics of a verdict, against closed forms and against what simulated equals get."""

import math

import numpy as np
import pytest
from scipy import stats

from search.analysis.significance import (
    ALPHA,
    Difference,
    decide,
    difference,
    holm,
)

RNG = np.random.default_rng(0)


def test_one_seed_is_the_paired_bootstrap():
    """The standard error is scipy's bootstrap's, unbiased; the interval Student's of the cases."""
    values = RNG.beta(2, 3, size=30) - 0.3
    found = difference([values], num_resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=1).standard_error
    assert found.std_error == pytest.approx(theirs * math.sqrt(30 / 29), rel=0.02)
    student = stats.ttest_1samp(values, 0)
    assert (found.mean, found.df) == (pytest.approx(values.mean()), pytest.approx(29))
    assert found.p == pytest.approx(student.pvalue, rel=0.1)
    assert found.interval(0.05) == pytest.approx(student.confidence_interval(0.95), abs=2e-3)


def test_where_cases_do_not_vary_it_is_students_t_of_the_seeds():
    means = [0.02, 0.05, -0.01, 0.04]
    student = stats.ttest_1samp(means, 0)
    for same_cases in (False, True):
        found = difference(
            [np.full(7, mean) for mean in means], same_cases=same_cases, num_resamples=50_000
        )
        assert found.df == pytest.approx(3)
        assert found.p == pytest.approx(student.pvalue, rel=0.02)
        assert found.interval(0.05) == pytest.approx(student.confidence_interval(0.95), abs=1e-3)


def test_the_standard_error_has_both_levels():
    """Between the seeds' means, plus within the seeds; with equal cases, seeds plus cases."""
    pairs = [RNG.normal(mean, 0.1, n) for mean, n in ((0.0, 12), (0.1, 20), (-0.05, 8))]
    found = difference(pairs, num_resamples=50_000)
    between = np.var([p.mean() for p in pairs], ddof=1) / 3
    within = sum(p.var(ddof=1) / len(p) for p in pairs) / 9
    assert found.std_error == pytest.approx(math.sqrt(between + within), rel=0.02)
    assert found.mean == pytest.approx(np.mean([p.mean() for p in pairs]))
    assert found.num_cases == [12, 20, 8]

    seeds, cases = RNG.normal(0, 0.05, (4, 1)), RNG.normal(0, 0.1, (1, 15))
    found = difference(list(seeds + cases), same_cases=True, num_resamples=50_000)
    expected = seeds.var(ddof=1) / 4 + cases.var(ddof=1) / 15
    assert found.std_error == pytest.approx(math.sqrt(expected), rel=0.02)


def test_the_bootstrap_follows_its_seed():
    pairs = [RNG.normal(0, 0.1, 20) for _ in range(3)]
    assert difference(pairs) == difference(pairs)
    assert difference(pairs) != difference(pairs, seed=1)


def test_identical_models_are_not_distinguishable():
    same = difference([np.zeros(5)] * 3)
    assert same.p == 1 and same.interval(0.05) == (0, 0)
    assert decide([same])[0].word == "not distinguishable"
    shifted = difference([np.full(5, 0.25)] * 3)
    assert shifted.p == 0 and decide([shifted])[0].word == "better"


def test_holm_by_hand():
    """Holm's own steps; after the first failure nothing is found, and no interval is narrower."""
    corrected = holm([0.04, 0.01, 0.03])
    assert [p for p, _ in corrected] == pytest.approx([0.06, 0.03, 0.06])
    assert [alpha for _, alpha in corrected] == pytest.approx([ALPHA / 2, ALPHA / 3, ALPHA / 2])
    assert holm([]) == [] and holm([0.2]) == [(0.2, ALPHA)]


@pytest.mark.parametrize("repeat", range(20))
def test_the_interval_decides_as_holm_does(repeat):
    rng = np.random.default_rng(repeat)
    family = [
        difference([rng.normal(shift, 0.05, 10) for _ in range(4)], num_resamples=500)
        for shift in rng.normal(0, 0.06, 5)
    ]
    for found, verdict in zip(family, decide(family), strict=True):
        assert (verdict.p_holm < ALPHA) == (verdict.word != "not distinguishable")
        low, high = verdict.interval
        assert (low <= 0 <= high) == (verdict.word == "not distinguishable")
        assert low < found.mean < high
        assert (verdict.word == "better") == (low > 0)


def test_equivalent_only_with_a_margin():
    found = difference([RNG.normal(0.004, 0.002, 20) for _ in range(5)])
    assert decide([found])[0].word == "better"
    assert decide([found], margin=0.02)[0].word == "equivalent"
    assert decide([found], margin=0.001)[0].word == "better"
    noisy = difference([RNG.normal(0, 0.2, 20) for _ in range(3)])
    assert decide([noisy], margin=0.02)[0].word == "not distinguishable"


def studies(
    num_seeds: int, seed_sd: float, *, same_cases: bool, num: int, num_candidates: int = 1
) -> list[list[Difference]]:
    """Simulate studies whose candidates equal their control, 20 cases a seed."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(num):
        shape = (num_candidates + 1, num_seeds)
        dice = rng.normal(0, seed_sd / math.sqrt(2), (*shape, 1)) + 0.085 * rng.normal(
            size=(*shape, 20)
        )
        found.append(
            [
                difference(list(dice[k] - dice[0]), same_cases=same_cases, num_resamples=200)
                for k in range(1, num_candidates + 1)
            ]
        )
    return found


@pytest.mark.parametrize("same_cases", [False, True])
@pytest.mark.parametrize("seed_sd", [0.0, 0.04, 0.2])
@pytest.mark.parametrize("num_seeds", [3, 5])
def test_equals_are_rarely_called_different(num_seeds, seed_sd, same_cases):
    """At most 5 % of 600 studies; 7.7 % is three standard errors above it."""
    wrong = [
        decide(family)[0].word != "not distinguishable"
        for family in studies(num_seeds, seed_sd, same_cases=same_cases, num=600)
    ]
    assert np.mean(wrong) < 0.077


def test_a_family_of_three_is_rarely_wrong_at_all():
    """Three candidates share one control, with as much seed noise as makes Holm's step hardest."""
    wrong = [
        any(verdict.word != "not distinguishable" for verdict in decide(family))
        for family in studies(3, 0.1, same_cases=False, num=500, num_candidates=3)
    ]
    assert np.mean(wrong) < 0.08


def test_a_real_difference_is_found():
    rng = np.random.default_rng(3)
    found = [
        decide([difference([rng.normal(0.1, 0.12, 20) for _ in range(5)], num_resamples=200)])
        for _ in range(100)
    ]
    assert np.mean([verdict.word == "better" for (verdict,) in found]) > 0.95
