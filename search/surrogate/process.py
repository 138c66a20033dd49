"""The Gaussian process: hyperparameters fitted to curves, and what is expected elsewhere."""

from collections.abc import Callable
from copy import copy
from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from search.surrogate.encoding import Array
from search.surrogate.kernel import (
    MEAN_VARIANCE,
    Ints,
    Kernel,
    Points,
    same_trial,
)

ITERATIONS = 25
REACH = 3.0
"""Standard deviations of their prior that hyperparameters may be away from its mean."""


class Rows(NamedTuple):
    """Observations, those of a trial beside each other and in the order of `points.configs`."""

    points: Points
    values: Array
    """(rows,), about of mean 0 and variance 1, larger is better."""
    counts: Array
    """(rows,): how many validations each is the average of."""


def objective(kernel: Kernel, rows: Rows) -> Callable[[Array], tuple[float, Array]]:
    """Return the negative log posterior of theta, less a constant, with its gradient.

    Sums over pairs of rows are first taken for each pair of trials, since most derivatives are the
    same for all of its rows.
    """
    points, n = rows.points, len(rows.values)
    _, starts = np.unique(points.of, return_index=True)
    assert (np.diff(points.of) >= 0).all() and len(starts) == len(points.configs)
    courses = points.phi @ points.phi.T
    same = same_trial(points.of, points.of)
    fixed = MEAN_VARIANCE * (1 + courses)
    between = [
        (column[:, None] != column[None]).astype(float)
        if is_choice
        else (column[:, None] - column[None]) ** 2
        for column, is_choice in zip(points.configs.T, kernel.is_choice, strict=True)
    ]
    spread = np.ix_(points.of, points.of)

    def by_trial(matrix: Array) -> Array:
        return np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)

    def value_and_gradient(theta: Array) -> tuple[float, Array]:
        a, per_column = kernel.amplitudes(theta), theta[: kernel.columns]
        squares, differ = np.zeros((2, len(starts), len(starts)))
        for distance, is_choice, log in zip(between, kernel.is_choice, per_column, strict=True):
            if is_choice:
                differ += np.exp(log) * distance
            else:
                squares += np.exp(-2 * log) * distance
        r = np.sqrt(5 * squares)
        decay = np.exp(-r - differ)
        alike = (1 + r + r * r / 3) * decay
        k = alike[spread] * (a.end + a.course * courses)
        k += same * (a.trial_end + a.trial_course * courses) + fixed
        k[np.diag_indices(n)] += kernel.noise(theta, points.phi, rows.counts)
        try:
            factor = np.linalg.cholesky(k)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        inverse = cho_solve((factor, True), np.eye(n), check_finite=False)
        weights = inverse @ rows.values
        away = (theta - kernel.prior_mean) / kernel.prior_sd
        found = 0.5 * (rows.values @ weights + away @ away) + np.log(np.diag(factor)).sum()

        half = 0.5 * (inverse - np.outer(weights, weights))  # d found / d k
        ends, courses_ = by_trial(half), by_trial(half * courses)
        both = a.end * ends + a.course * courses_
        slope = both * (5 / 3) * (1 + r) * decay
        by_columns = [
            -np.exp(log) * np.sum(both * alike * distance)
            if is_choice
            else np.exp(-2 * log) * np.sum(slope * distance)
            for distance, is_choice, log in zip(between, kernel.is_choice, per_column, strict=True)
        ]
        by_amplitudes = [
            2 * a.end * np.sum(ends * alike),
            2 * a.course * np.sum(courses_ * alike),
            2 * a.trial_end * np.trace(ends),
            2 * a.trial_course * np.trace(courses_),
            2 * a.noise * np.sum(np.diag(half) / rows.counts),
            2 * a.early_noise * np.sum(np.diag(half) / rows.counts * points.phi[:, 0] ** 2),
        ]
        return float(found), np.r_[by_columns, by_amplitudes] + away / kernel.prior_sd

    return value_and_gradient


def fit(kernel: Kernel, rows: Rows) -> Array:
    """Return the most likely theta, found from the mean of its prior: by the rows alone."""
    reach = REACH * kernel.prior_sd
    bounds = list(zip(kernel.prior_mean - reach, kernel.prior_mean + reach, strict=True))
    found = minimize(
        objective(kernel, rows),
        kernel.prior_mean,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": ITERATIONS},
    )
    return np.asarray(found.x)


class Posterior:
    """What is believed given rows.

    Args:
        kernel: The covariance.
        theta: Its hyperparameters.
        rows: What was observed, or is taken for observed.
    """

    def __init__(self, kernel: Kernel, theta: Array, rows: Rows):
        self.kernel, self.theta, self.rows = kernel, theta, rows
        self._factor = np.linalg.cholesky(self._covariance(rows))
        self._weights = cho_solve((self._factor, True), rows.values, check_finite=False)

    def _covariance(self, rows: Rows) -> Array:
        """Return the covariance (rows, rows) of observations."""
        of = rows.points.of
        k = self.kernel.covariance(self.theta, rows.points, rows.points, same_trial(of, of))
        k[np.diag_indices(len(of))] += self.kernel.noise(self.theta, rows.points.phi, rows.counts)
        return k

    def believing(self, points: Points, owners: Ints) -> Self:
        """Return the posterior if what is expected at points were observed, as `predict` has them.

        Each point is one validation. All means stay what they are.
        """
        mean, _ = self.predict(points, owners)
        old, count = self.rows.points, len(points.of)
        new = len(old.configs) + points.of
        owners = np.where(owners < 0, new, owners)
        same = same_trial(owners, old.of)
        cross = self.kernel.covariance(self.theta, points, old, same)
        added = Rows(Points(points.configs, points.of, points.phi), mean, np.ones(count))
        below = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        corner = np.linalg.cholesky(self._covariance(added) - below.T @ below)
        more = copy(self)
        more.rows = Rows(
            Points(
                np.concatenate([old.configs, points.configs]),
                np.r_[old.of, owners],
                np.concatenate([old.phi, points.phi]),
            ),
            np.r_[self.rows.values, mean],
            np.r_[self.rows.counts, added.counts],
        )
        more._factor = np.block([[self._factor, np.zeros_like(below)], [below.T, corner]])
        more._weights = np.r_[self._weights, np.zeros(count)]
        return more

    def predict(self, points: Points, owners: Ints) -> tuple[Array, Array]:
        """Return mean and standard deviation (rows,) of what points have, without noise.

        Args:
            points: Where.
            owners: (rows,) the configuration of the observed rows whose trial each is; -1 for none.
        """
        same = same_trial(owners, self.rows.points.of)
        cross = self.kernel.covariance(self.theta, points, self.rows.points, same)
        explained = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        left = self.kernel.variance(self.theta, points.phi)
        left -= np.einsum("ij,ij->j", explained, explained)
        return cross @ self._weights, np.sqrt(np.maximum(left, 1e-10))
