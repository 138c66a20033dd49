"""How alike two trainings are: by their configurations, and by how far each has come.

The objective of configuration x in its trial i at epoch t is modelled as

    constant + phi(t) . w  +  f(x) + phi(t) . g(x)  +  e_i + phi(t) . h_i  +  noise

where phi(t) are features that fall to 0 at max_t, so that what is left there is the end itself. f
and each g are Gaussian processes over configurations, alike but for their amplitude; e_i and h_i
are of one training alone (its seed); noise is of one validation, and there is more of it early. The
sum is one Gaussian process over (x, i, t). Of Swersky et al. 2014 (arXiv 1406.3896) it has the
idea, not the form.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from search.surrogate.encoding import Array

Ints = NDArray[np.intp]

RATES = np.array([0.01, 3.0, 10.0, 40.0])
"""Of the features' fall, in trainings: a straight line, and falls that end ever earlier."""
MEAN_VARIANCE = 4.0
"""Of the constant and of its features, where the objective has variance 1."""
JITTER = 1e-6


def features(share: Array) -> Array:
    """Return phi (count, 4) of shares of max_t (count,): 1 at 0, 0 at 1."""
    end = np.exp(-RATES)
    return np.asarray((np.exp(-RATES * share[:, None]) - end) / (1 - end))


class Amplitudes(NamedTuple):
    """Variances, from the hyperparameters."""

    end: float
    """Of f."""
    course: float
    """Of each g."""
    trial_end: float
    """Of e."""
    trial_course: float
    """Of each h."""
    noise: float
    """Of one validation at max_t."""
    early_noise: float
    """Of one validation, beside it: all of it before the first epoch, none of it at max_t."""


class Points(NamedTuple):
    """Where the model is asked or told: one row a validation, or an average of some."""

    configs: Array
    """(configurations, columns), as `Encoding` has them."""
    of: Ints
    """(rows,): each row's configuration; rows of one configuration are of one trial."""
    phi: Array
    """(rows, 4): features of the epoch, or their average."""


class Kernel:
    """The covariance, by hyperparameters `theta`, all logarithms.

    theta has, for each column of a point, the length scale of a number or the weight of a choice;
    then the standard deviations of `Amplitudes`.

    Args:
        choices: For each column, how many choices it has; 0 for a number.

    Attributes:
        prior_mean, prior_sd: Of theta, independent normal distributions.
    """

    def __init__(self, choices: Sequence[int]):
        self.choices = np.array(choices, dtype=int)
        self.is_choice = self.choices > 0
        self.columns = len(choices)
        scale = np.log(0.4 * np.sqrt(max(1, self.columns)))
        per_column = np.where(self.is_choice, np.log(0.5), scale)
        self.prior_mean = np.r_[per_column, np.log([0.7, 0.8, 0.15, 0.2, 0.07, 0.15])]
        self.prior_sd = np.r_[np.full(self.columns, 0.8), 0.8, 0.7, 0.8, 0.8, 0.8, 0.8]

    def amplitudes(self, theta: Array) -> Amplitudes:
        """Return the variances that theta says."""
        return Amplitudes(*np.exp(2 * theta[self.columns :]).tolist())

    def alike(self, theta: Array, one: Array, other: Array) -> Array:
        """Return how alike configurations (m, columns) and (n, columns) are, (m, n), 1 for equal.

        A Matern-5/2 of the numbers, times exp(-weight) for each choice that differs.
        """
        numbers, scale = ~self.is_choice, np.exp(-theta[: self.columns][~self.is_choice])
        r = np.sqrt(5) * cdist(one[:, numbers] * scale, other[:, numbers] * scale)
        differ = 0.0
        if self.is_choice.any():
            weights = np.exp(theta[: self.columns][self.is_choice])
            spread = np.repeat(weights, self.choices[self.is_choice] + 1)
            differ = weights.sum() - (self._one_hot(one) * spread) @ self._one_hot(other).T
        found: Array = (1 + r + r * r / 3) * np.exp(-r - differ)
        return found

    def _one_hot(self, configs: Array) -> Array:
        """Return each choice, and the inactive, as a column of zeros and ones."""
        blocks = [
            configs[:, [column]] == np.arange(-1, self.choices[column])
            for column in np.flatnonzero(self.is_choice)
        ]
        found: Array = np.concatenate(blocks, axis=1).astype(np.float64)
        return found

    def covariance(self, theta: Array, one: Points, other: Points, same: Array) -> Array:
        """Return the covariance (rows, rows) between what two sets of points have without noise.

        Args:
            theta: The hyperparameters.
            one: Some points.
            other: Some points.
            same: 1 where rows are of one trial, else 0.
        """
        a = self.amplitudes(theta)
        alike: Array = self.alike(theta, one.configs, other.configs)[one.of][:, other.of]
        if not one.phi.any():  # at the end, where the model is asked most
            return alike * a.end + same * a.trial_end + MEAN_VARIANCE
        courses = one.phi @ other.phi.T
        alike *= a.end + a.course * courses
        alike += same * (a.trial_end + a.trial_course * courses)
        alike += MEAN_VARIANCE * (1 + courses)
        return alike

    def noise(self, theta: Array, phi: Array, counts: Array) -> Array:
        """Return the variance (rows,) of averages of so many validations, at features (rows, 4).

        It falls with the square of the way that is left, as where a learning rate falls to 0.
        """
        a = self.amplitudes(theta)
        found: Array = (a.noise + a.early_noise * phi[:, 0] ** 2) / counts + JITTER
        return found

    def variance(self, theta: Array, phi: Array) -> Array:
        """Return the variance (rows,), without noise, at features (rows, 4)."""
        a, course = self.amplitudes(theta), (phi**2).sum(axis=-1)
        both = a.end + a.trial_end + MEAN_VARIANCE
        found: Array = both + (a.course + a.trial_course + MEAN_VARIANCE) * course
        return found


def same_trial(one: Ints, other: Ints) -> Array:
    """Return 1 where rows are of one trial, by their owners (rows,); a negative one is nobody's."""
    same: Array = ((one[:, None] == other[None]) & (one[:, None] >= 0)).astype(np.float64)
    return same
