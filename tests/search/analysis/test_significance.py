"""The statistics of a verdict, against closed forms and against what simulated equals get."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from search.analysis.intervals import TOO_FEW, Scale
from search.analysis.verdicts.significance import ALPHA, Difference, decide, difference, holm

RNG = np.random.default_rng(0)
UNBOUNDED, DICE = Scale(math.inf, "max"), Scale(1, "max")


def compare(units: Sequence[np.ndarray], level: float = 10.0, **about: Any) -> Difference:
    """Compare two whose scores differ by these, (seeds, cases) or (cases,) for each unit.

    Of one that scores `level` on every case, which is what may be lost on unseen ones.
    """
    units = [np.atleast_2d(unit) for unit in units]
    others = [np.full_like(unit, level) for unit in units]
    mine = [unit + other for unit, other in zip(units, others, strict=True)]
    return difference(mine, others, UNBOUNDED, **about)


def plain(found: Difference) -> Difference:
    """Return it as if all cases were seen."""
    unseen = {"unseen_low": None, "unseen_high": None}
    return dataclasses.replace(found, limits=found.limits._replace(**unseen))


def test_one_seed_is_students_t_of_its_cases() -> None:
    values = RNG.beta(2, 3, size=30) - 0.3
    found = plain(compare([values]))
    student = stats.ttest_1samp(values, 0)
    assert (found.mean, found.df) == (pytest.approx(values.mean()), pytest.approx(29))
    assert found.p == pytest.approx(student.pvalue)
    assert found.interval(0.05) == pytest.approx(student.confidence_interval(0.95))


def test_where_cases_do_not_vary_it_is_students_t_of_the_seeds() -> None:
    means = [0.02, 0.05, -0.01, 0.04]
    student = stats.ttest_1samp(means, 0)
    for same_cases in (False, True):
        found = plain(compare([np.full(7, mean) for mean in means], same_cases=same_cases))
        assert found.df == pytest.approx(3)
        assert found.p == pytest.approx(student.pvalue)
        assert found.interval(0.05) == pytest.approx(student.confidence_interval(0.95))


def test_the_standard_error_has_both_levels() -> None:
    """That of scipy's bootstrap, hierarchical: folds first, then the cases of each."""
    pairs = [RNG.normal(mean, 0.1, n) for mean, n in ((0.0, 12), (0.1, 20), (-0.05, 8))]
    found = compare(pairs)
    between = np.var([p.mean() for p in pairs], ddof=1) / 3
    within = sum(stats.sem(p) ** 2 for p in pairs) / 9
    assert found.std_error == pytest.approx(math.sqrt(between + within))
    assert found.mean == pytest.approx(np.mean([p.mean() for p in pairs]))
    assert found.num_cases == [12, 20, 8] and found.num_different == 40
    drawn = []
    for _ in range(4000):  # without the stretch that makes small samples unbiased
        folds = [pairs[i] for i in RNG.integers(3, size=3)]
        drawn.append(np.mean([RNG.choice(fold, len(fold)).mean() for fold in folds]))
    assert np.std(drawn) == pytest.approx(math.sqrt(between * 2 / 3 + within), rel=0.1)

    seeds, cases = RNG.normal(0, 0.05, (4, 1)), RNG.normal(0, 0.1, (1, 15))
    found = compare(list(seeds + cases), same_cases=True)
    expected = seeds.var(ddof=1) / 4 + cases.var(ddof=1) / 15
    assert found.std_error == pytest.approx(math.sqrt(expected))
    assert found.num_different == 15


def test_seeds_crossed_with_folds_tell_seeds_from_folds() -> None:
    """Three sources, each by its own analysis of variance; folds add what the others leave."""
    far = RNG.normal(0, 0.3, (4, 1, 1))
    for folds in (far, 0 * far):
        units = folds + RNG.normal(0, 0.05, (4, 3, 1)) + RNG.normal(0, 0.1, (4, 1, 6))
        found = compare(list(units))
        cases = sum(stats.sem(unit.mean(0)) ** 2 for unit in units) / 16
        seeds = np.mean([unit.mean(1).var(ddof=1) for unit in units]) / 12
        between = units.mean((1, 2)).var(ddof=1) / 4
        assert found.case_error == pytest.approx(math.sqrt(cases))
        assert found.seed_sd == pytest.approx(math.sqrt(12 * seeds))
        assert found.std_error**2 == pytest.approx(max(cases + seeds, between))
        assert found.num_seeds == 12
        assert (found.df < 4) == (folds is far), "the folds have 3 degrees of freedom"
    one_each = plain(compare([unit[:1] for unit in units]))
    assert one_each.half_width(12, 4, same_cases=False) < one_each.half_width(
        4, 4, same_cases=False
    )


def test_what_more_seeds_would_bring() -> None:
    """On average as wide as it then is."""
    foreseen, seen = [], []
    for _ in range(200):
        cases = RNG.normal(0, 0.1, (4, 1, 6))
        units = cases + RNG.normal(0, 0.08, (4, 3, 1))
        before = plain(compare([unit[:1] for unit in units]))
        foreseen.append(before.half_width(12, 4, same_cases=False))
        low, high = plain(compare(list(units))).interval(ALPHA) or (0, 0)
        seen.append((high - low) / 2)
    assert np.mean(foreseen) == pytest.approx(np.mean(seen), rel=0.25)


def test_identical_models_tell_nothing() -> None:
    same = compare([np.zeros(5)] * 3)
    assert same.p == 1 and same.interval(0.05) is None
    assert decide([same], "max")[0].word == TOO_FEW
    assert decide([compare([np.full(5, 0.25)] * 3)], "max")[0].word == TOO_FEW


def test_smaller_may_be_better() -> None:
    found = plain(compare([RNG.normal(0.3, 0.05, 10) for _ in range(4)]))
    assert decide([found], "max")[0].word == "better"
    assert decide([found], "min")[0].word == "worse"


def test_a_failure_that_few_cases_may_not_show_takes_a_difference_back() -> None:
    """By 0.05 in each of 9 cases at a Dice of 0.5; of 60 cases it is one."""
    for num_cases, word in ((3, "not distinguishable"), (20, "better")):
        theirs = [RNG.uniform(0.4, 0.6, (1, num_cases)) for _ in range(3)]
        mine = [values + 0.05 + RNG.normal(0, 0.003, values.shape) for values in theirs]
        assert decide([difference(mine, theirs, DICE)], "max")[0].word == word


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
        compare([rng.normal(shift, 0.05, 10) for _ in range(4)], level=0.3)
        for shift in rng.normal(0, 0.06, 5)
    ]
    for found, verdict in zip(family, decide(family, "max"), strict=True):
        assert (verdict.p_holm < ALPHA) == (verdict.word != "not distinguishable")
        low, high = verdict.interval
        assert (low <= 0 <= high) == (verdict.word == "not distinguishable")
        assert low < found.mean < high
        assert (verdict.word == "better") == (low > 0)


def test_equivalent_only_with_a_margin():
    found = plain(compare([RNG.normal(0.004, 0.002, 20) for _ in range(5)]))
    assert decide([found], "max")[0].word == "better"
    assert decide([found], "min", margin=0.02)[0].word == "equivalent"
    assert decide([found], "max", margin=0.001)[0].word == "better"
    noisy = plain(compare([RNG.normal(0, 0.2, 20) for _ in range(3)]))
    assert decide([noisy], "max", margin=0.02)[0].word == "not distinguishable"


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
                plain(compare(list(dice[k] - dice[0]), same_cases=same_cases))
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
        decide(family, "max")[0].word != "not distinguishable"
        for family in studies(num_seeds, seed_sd, same_cases=same_cases, num=600)
    ]
    assert np.mean(wrong) < 0.077


def test_a_family_of_three_is_rarely_wrong_at_all():
    """Three candidates share one control, with as much seed noise as makes Holm's step hardest."""
    wrong = [
        any(verdict.word != "not distinguishable" for verdict in decide(family, "max"))
        for family in studies(3, 0.1, same_cases=False, num=500, num_candidates=3)
    ]
    assert np.mean(wrong) < 0.08


def test_a_real_difference_is_found():
    rng = np.random.default_rng(3)
    found = [
        decide([plain(compare([rng.normal(0.1, 0.12, 20) for _ in range(5)]))], "max")
        for _ in range(100)
    ]
    assert np.mean([verdict.word == "better" for (verdict,) in found]) > 0.95
