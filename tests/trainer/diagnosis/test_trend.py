"""Trend or noise: how often a series is called a trend that has none, and one that has."""

import numpy as np
import pytest
from scipy import stats

from trainer.diagnosis.trend import chance, kendall_quantile, trend

SERIES = 500


def noise(rng: np.random.Generator, n: int, correlation: float = 0.0) -> np.ndarray:
    """An AR(1) series of standard deviation 1."""
    values = rng.standard_normal(n + 50)
    for i in range(1, len(values)):
        values[i] += correlation * values[i - 1]
    return values[50:] * np.sqrt(1 - correlation**2)


def share_of(words: set[str], series: list[np.ndarray], expected: float = 0.0) -> float:
    return float(
        np.mean([trend(range(len(y)), y, expected=expected).word in words for y in series])
    )


@pytest.mark.parametrize("n", [5, 6, 9, 14, 27])
def test_noise_is_seldom_called_a_trend(n: int) -> None:
    rng = np.random.default_rng(n)
    moving = {"rising", "falling"}
    white = share_of(moving, [noise(rng, n) for _ in range(SERIES)])
    correlated = share_of(moving, [noise(rng, n, 0.3) for _ in range(SERIES)])
    # Nominal 5 %; the standard error of a share of 500 is 1 %. Few orders of few values exist, so
    # that a short series is called one more seldom.
    assert white <= 0.06
    assert correlated <= 0.11


@pytest.mark.parametrize(("n", "least"), [(9, 0.5), (27, 0.9)])
def test_a_rise_beyond_the_noise_is_seen(n: int, least: float) -> None:
    """Four standard deviations over the judged part (the last 8 of 9, 14 of 27)."""
    rng = np.random.default_rng(n)
    rise = 4 * np.arange(n) / (max(8, (n + 1) // 2) - 1)
    assert share_of({"rising"}, [noise(rng, n) + rise for _ in range(200)]) >= least
    assert share_of({"falling"}, [noise(rng, n) - rise for _ in range(200)]) >= least
    assert share_of({"falling"}, [noise(rng, n) + rise for _ in range(200)]) == 0


def test_oscillating_means_more_scatter_than_chance() -> None:
    rng = np.random.default_rng(0)
    series = [noise(rng, 12) for _ in range(SERIES)]
    assert share_of({"oscillating"}, series, expected=1.0) <= 0.03
    assert share_of({"oscillating"}, series, expected=0.4) >= 0.75


def test_slope_and_interval_are_theils_and_sens() -> None:
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.uniform(0.5, 1.5, 40))
    y = 0.1 * x + noise(rng, 40)
    found = trend(x, y)
    slope, _, low, high = stats.theilslopes(y[-20:], x[-20:], 0.95)
    assert found.slope == pytest.approx(slope)
    # scipy's quantile is the normal one; ours is exact, and stretched where neighbours are alike.
    assert found.low <= low + 0.01
    assert found.high >= high - 0.01


@pytest.mark.parametrize("n", [5, 8, 12])
def test_the_quantile_is_kendalls(n: int) -> None:
    pairs = n * (n - 1) // 2
    quantile = kendall_quantile(n, 0.05)

    def p(s: int) -> float:
        """P(|S| >= s), from a permutation that has it."""
        order, falling = list(range(n)), (pairs - s) // 2
        i = 0
        while falling:  # bubble upwards: each swap makes one pair fall
            for j in range(n - 1 - i):
                if not falling:
                    break
                order[j], order[j + 1] = order[j + 1], order[j]
                falling -= 1
            i += 1
        return float(stats.kendalltau(range(n), order, method="exact").pvalue)

    assert p(quantile + 2) <= 0.05 < p(quantile)


def test_few_validations_say_nothing() -> None:
    assert trend([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]).word == "too short"
    assert trend([], []).word == "too short"


def test_chance_leaves_out_what_moves_all_cases() -> None:
    rng = np.random.default_rng(2)
    own, common = rng.standard_normal((400, 5)), 3 * rng.standard_normal((400, 1))
    by_case = 7 * rng.standard_normal(5)
    assert chance(own + common + by_case) == pytest.approx(1 / np.sqrt(5), rel=0.1)
