"""The Gaussian process against finite differences, a slow twin, and scikit-learn's."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from search.surrogate.kernel import JITTER, MEAN_VARIANCE, Kernel, Points, features
from search.surrogate.process import Posterior, Rows, fit, objective

CHOICES = [0, 3, 0, 2]


def some_rows(seed: int = 0, trials: int = 9, choices: list[int] = CHOICES) -> Rows:
    """Return curves of random configurations, one of whose choices is inactive."""
    rng = np.random.default_rng(seed)
    configs = np.array(
        [[rng.integers(-1, k) if k else rng.random() for k in choices] for _ in range(trials)]
    )
    of = np.sort(np.r_[np.arange(trials), rng.integers(0, trials, 2 * trials)])
    share = rng.random(len(of))
    values = 2 * configs[of, 0] - share + 0.1 * rng.standard_normal(len(of))
    counts = rng.integers(1, 4, len(of)).astype(float)
    return Rows(Points(configs, of, features(share)), values - values.mean(), counts)


def some_theta(kernel: Kernel, seed: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(len(kernel.prior_mean))
    return kernel.prior_mean + 0.7 * kernel.prior_sd * drawn


def by_hand(theta: np.ndarray, rows: Rows, i: int, j: int) -> float:
    """Return what the docstring says of two observations, number by number."""
    x, y = rows.points.configs[rows.points.of[[i, j]]]
    squares = differ = 0.0
    for one, other, log, k in zip(x, y, theta, CHOICES, strict=False):
        if k:
            differ += np.exp(log) * (one != other)
        else:
            squares += (one - other) ** 2 / np.exp(log) ** 2
    r = (5 * squares) ** 0.5
    alike = (1 + r + r**2 / 3) * np.exp(-r) * np.exp(-differ)
    end, course, trial_end, trial_course, noise, early = np.exp(theta[len(CHOICES) :]) ** 2
    noise += early * rows.points.phi[i, 0] ** 2
    dot = float(rows.points.phi[i] @ rows.points.phi[j])
    found = MEAN_VARIANCE + MEAN_VARIANCE * dot + alike * (end + course * dot)
    if rows.points.of[i] == rows.points.of[j]:
        found += trial_end + trial_course * dot
    return found + (noise / rows.counts[i] + JITTER if i == j else 0.0)


def test_the_gradient_is_the_slope() -> None:
    kernel, rows = Kernel(CHOICES), some_rows()
    found = objective(kernel, rows)
    for seed in range(3):
        theta = some_theta(kernel, seed)
        numeric = approx_fprime(theta, lambda t: found(t)[0], 1e-6)
        assert found(theta)[1] == pytest.approx(numeric, rel=2e-4, abs=2e-4)


def test_likelihood_and_predictions_are_those_of_the_covariance_written_by_hand() -> None:
    kernel, rows = Kernel(CHOICES), some_rows()
    theta, n = some_theta(kernel), len(rows.values)
    k = np.array([[by_hand(theta, rows, i, j) for j in range(n)] for i in range(n)])
    away = (theta - kernel.prior_mean) / kernel.prior_sd
    twin = -multivariate_normal(np.zeros(n), k).logpdf(rows.values) + 0.5 * away @ away
    assert objective(kernel, rows)(theta)[0] == pytest.approx(twin - 0.5 * n * np.log(2 * np.pi))

    known, asked = np.arange(n) % 3 != 0, np.arange(n) % 3 == 0
    points, of = rows.points, rows.points.of
    part = Rows(Points(points.configs, of[known], points.phi[known]), rows.values[known],
                rows.counts[known])  # fmt: skip
    mean, sd = Posterior(kernel, theta, part).predict(
        Points(points.configs, of[asked], points.phi[asked]), of[asked]
    )
    cross, inside = k[np.ix_(asked, known)], k[np.ix_(known, known)]
    noise = kernel.noise(theta, points.phi[asked], rows.counts[asked])
    left = np.diag(k)[asked] - noise - np.diag(cross @ np.linalg.inv(inside) @ cross.T)
    assert mean == pytest.approx(cross @ np.linalg.inv(inside) @ rows.values[known])
    assert sd == pytest.approx(left**0.5)


def test_what_is_believed_is_as_if_it_were_observed() -> None:
    kernel, rows = Kernel(CHOICES), some_rows()
    theta, points = some_theta(kernel), rows.points
    before = Posterior(kernel, theta, rows)
    # The ends of a trial with rows and of one without.
    ends = Points(np.array([points.configs[4], [0.5, 1, 0.5, 0]]), np.arange(2), np.zeros((2, 4)))
    mean, _ = before.predict(ends, np.array([4, -1]))
    slow = Posterior(
        kernel,
        theta,
        Rows(
            Points(
                np.vstack([points.configs, ends.configs[1]]),
                np.r_[points.of, 4, len(points.configs)],
                np.vstack([points.phi, ends.phi]),
            ),
            np.r_[rows.values, mean],
            np.r_[rows.counts, 1, 1],
        ),
    )
    asked = Points(np.random.default_rng(5).random((6, 4)), np.arange(6), np.zeros((6, 4)))
    nobody = np.full(6, -1)
    believing = before.believing(ends, np.array([4, -1]))
    assert believing.predict(asked, nobody)[0] == pytest.approx(before.predict(asked, nobody)[0])
    for ours, theirs in zip(
        believing.predict(asked, nobody), slow.predict(asked, nobody), strict=True
    ):
        assert ours == pytest.approx(theirs)


def test_complete_trials_are_those_of_scikit_learn() -> None:
    """Of numbers, each trial once and at max_t, all that is left is a Matern, a constant, noise."""
    kernel, rng = Kernel([0, 0]), np.random.default_rng(0)
    configs, new = rng.random((12, 2)), rng.random((5, 2))
    values = np.sin(5 * configs[:, 0]) + configs[:, 1]
    theta = some_theta(kernel)
    end, _, trial_end, _, noise, _ = np.exp(2 * theta[2:])
    theirs = GaussianProcessRegressor(
        ConstantKernel(end) * Matern(np.exp(theta[:2]), nu=2.5)
        + ConstantKernel(MEAN_VARIANCE)
        + WhiteKernel(trial_end),
        alpha=noise + JITTER,
        optimizer=None,
    ).fit(configs, values)
    mean, sd = theirs.predict(new, return_std=True)

    at_end = np.zeros((12, 4))
    rows = Rows(Points(configs, np.arange(12), at_end), values, np.ones(12))
    ours = Posterior(kernel, theta, rows).predict(
        Points(new, np.arange(5), at_end[:5]), np.full(5, -1)
    )
    assert ours[0] == pytest.approx(mean) and ours[1] == pytest.approx(sd)


def test_a_fit_is_better_than_its_prior_and_the_same_again() -> None:
    kernel, rows = Kernel(CHOICES), some_rows(trials=30)
    found = fit(kernel, rows)
    value, slope = objective(kernel, rows)(found)
    assert value < objective(kernel, rows)(kernel.prior_mean)[0] - 5
    assert abs(slope).max() < 0.5
    assert (found == fit(kernel, rows)).all()
    # The first number decides, the other says nothing: it is soon unlike itself, or never.
    assert found[0] < found[2]
