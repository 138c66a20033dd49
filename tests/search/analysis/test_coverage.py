"""What intervals cover and verdicts call different, simulated: `make nightly`, 4 minutes."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import stats

from search.analysis.intervals import Scale, difference_interval, mean_interval
from search.analysis.verdicts.significance import Difference, decide, difference

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

DICE = Scale(1, "max")
DRAWS = 2000
COVERED = 0.93 - 3 * math.sqrt(0.93 * 0.07 / DRAWS)
"""Three standard errors below what is promised."""
SHAPES = [(2, 2), (2, 3), (5, 2), (2, 5), (2, 8), (8, 2), (1, 1), (0.5, 0.5), (0.3, 0.3), (0.5, 2)]
FAILING = [0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6]
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, float]]


def beta(a: float, b: float, failing: float = 0.0) -> Draw:
    """Dice that is Beta-like but for a share of cases with none."""

    def draw(rng: np.random.Generator, num_cases: int) -> tuple[np.ndarray, float]:
        dice = rng.beta(a, b, (DRAWS, num_cases))
        dice[rng.random(dice.shape) < failing] = 0
        return dice, (1 - failing) * a / (a + b)

    return draw


def two_points(failing: float) -> Draw:
    def draw(rng: np.random.Generator, num_cases: int) -> tuple[np.ndarray, float]:
        return np.where(rng.random((DRAWS, num_cases)) < failing, 0, 0.8), (1 - failing) * 0.8

    return draw


def kinds(num_cases: int) -> Iterator[tuple[str, Draw]]:
    """Return what Dice may be like; few cases also where those that do not fail are much alike."""
    alike = [(20, 5)] if num_cases <= 8 else []
    for shape in SHAPES:
        yield f"beta{shape}", beta(*shape)
    for failing in FAILING:
        for shape in [(2, 2), (5, 2), (8, 2), *alike]:
            yield f"beta{shape}, {failing:.0%} fail", beta(*shape, failing)
        yield f"0.8, {failing:.0%} fail", two_points(failing)


@pytest.mark.parametrize("num_cases", [4, 5, 6, 8, 16, 60])
def test_the_interval_of_a_mean_covers_it(num_cases: int) -> None:
    """Where one is given; of unequal cases it always is."""
    rng, low = np.random.default_rng(0), {}
    for name, draw in kinds(num_cases):
        draws, truth = draw(rng, num_cases)
        found = [mean_interval(values, DICE) for values in draws]
        missed = sum(ends is not None and not ends[0] <= truth <= ends[1] for ends in found)
        assert all(ends or len(set(v)) == 1 for ends, v in zip(found, draws, strict=True))
        if missed > (1 - COVERED) * DRAWS:
            low[name] = 1 - missed / DRAWS
    assert not low


@pytest.mark.parametrize("shape", SHAPES)
def test_with_five_cases_it_is_at_most_half_as_wide_again_as_students(
    shape: tuple[float, float],
) -> None:
    draws, _ = beta(*shape)(np.random.default_rng(0), 5)
    found = [mean_interval(values, DICE) for values in draws]
    student = 2 * stats.t.isf(0.025, 4) * stats.sem(draws, axis=1)
    assert np.mean([ends is not None for ends in found]) > 0.99
    assert np.mean([ends[1] - ends[0] for ends in found if ends]) < 1.5 * student.mean()


def pairs(
    rng: np.random.Generator, num_cases: int, shape: tuple[float, float], rank: float, fail: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Two configurations of the same distribution, of which one fails on a share of the cases."""
    size = (DRAWS, num_cases)
    shared = rng.normal(size=size)
    one, other = (
        stats.beta.ppf(stats.norm.cdf(math.sqrt(rank) * shared + math.sqrt(1 - rank) * own), *shape)
        for own in (rng.normal(size=size), rng.normal(size=size))
    )
    one[rng.random(size) < fail] = 0
    return one, other, -fail * shape[0] / sum(shape)


@pytest.mark.parametrize("num_cases", [4, 5, 6])
def test_the_interval_of_a_difference_covers_it(num_cases: int) -> None:
    rng, low = np.random.default_rng(0), {}
    for shape in ((2, 3), (5, 2), (8, 2), (0.5, 0.5)):
        for rank in (0.5, 0.8, 0.98):
            for fail in (0.0, 0.1, 0.2, 0.3, 0.36, 0.5):
                mine, theirs, truth = pairs(rng, num_cases, shape, rank, fail)
                found = [difference_interval(a, b, DICE) for a, b in zip(mine, theirs, strict=True)]
                covered = np.mean([e is None or e[0] <= truth <= e[1] for e in found])
                if covered < 0.93 - 3 * math.sqrt(0.93 * 0.07 / len(found)):
                    low[shape, rank, fail] = covered
    assert not low


def study(
    rng: np.random.Generator, num_seeds: int, sds: tuple[float, float, float], shift: float = 0.0
) -> Difference:
    """Simulate a comparison: seeds over 4 folds of 5 cases, whose differences have these sds.

    Args:
        rng: Of the draws.
        num_seeds: In all.
        sds: Of training sets, seeds and cases.
        shift: The true difference.
    """
    fold_sd, seed_sd, case_sd = sds
    folds = min(4, num_seeds)
    mine, theirs = [], []
    for fold in range(folds):
        seeds = len(range(fold, num_seeds, folds))
        own = rng.normal(0, fold_sd) + rng.normal(0, seed_sd, (seeds, 1))
        own = own + rng.normal(0, case_sd, 5) + rng.normal(0, case_sd / 2, (seeds, 5))
        theirs.append(np.clip(rng.normal(0.5, 0.1, 5), 0.2, 0.8) + 0 * own)
        mine.append(theirs[-1] + shift + own)
    return difference(mine, theirs, Scale(math.inf, "max"))


@pytest.mark.parametrize("num_seeds", [3, 4, 6, 8, 12])
@pytest.mark.parametrize("fold_sd", [0.0, 0.02, 0.04])
def test_verdicts_seldom_call_equals_different(num_seeds: int, fold_sd: float) -> None:
    """At most 5 % of 2,000 studies; 6.5 % is three standard errors above."""
    rng = np.random.default_rng(1)
    found = [study(rng, num_seeds, (fold_sd, 0.04, 0.1)) for _ in range(2000)]
    words = [decide([each], "max")[0].word for each in found]
    assert np.mean([word != "not distinguishable" for word in words]) < 0.065


def test_more_seeds_find_more_as_the_help_says() -> None:
    rng, found = np.random.default_rng(2), {}
    for num_seeds in (3, 4, 8, 12):
        family = [study(rng, num_seeds, (0.0, 0.04, 0.1), 0.08) for _ in range(1500)]
        found[num_seeds] = np.mean([decide([each], "max")[0].word == "better" for each in family])
    assert found == pytest.approx({3: 0.20, 4: 0.40, 8: 0.61, 12: 0.70}, abs=0.04)


@pytest.mark.parametrize("fail", [0.05, 0.1, 0.2, 0.3, 0.42])
def test_a_verdict_on_two_points_seldom_errs(fail: float) -> None:
    """Equal means: one fails on a share of the cases, the other has less on all."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(2000):
        mine = [np.where(rng.random((1, 2)) < fail, 0, 0.8) for _ in range(3)]
        theirs = [np.full((1, 2), 0.8 * (1 - fail)) for _ in range(3)]
        word = decide([difference(mine, theirs, DICE)], "max")[0].word
        wrong += word in ("better", "worse")
    assert wrong / 2000 < 0.07 + 3 * math.sqrt(0.07 * 0.93 / 2000)
