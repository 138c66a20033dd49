"""Intervals by the bootstrap over patients, for any statistic of an evaluation's cases.

All cases of a patient are drawn together. Percentiles cover less than they say with few patients,
so below `FEWEST` there is no interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
FEWEST = 10
"""Patients, below which a resample says too little of others."""
ENDS = (2.5, 97.5)
"""Percentiles: a 95 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A statistic of some cases."""

    value: float
    interval: tuple[float, float] | None
    """95 % over patients; None where there are too few of them."""


class Bootstrap:
    """The same resamples for every statistic of some cases.

    Args:
        patients: Of each case.
    """

    def __init__(self, patients: Sequence[str]):
        self.num_cases = len(patients)
        names = np.array(patients)
        groups = [np.flatnonzero(names == name) for name in dict.fromkeys(patients)]
        self._draws: list[NDArray[np.intp]] = []
        if len(groups) >= FEWEST:
            chosen = np.random.default_rng(0).integers(len(groups), size=(DRAWS, len(groups)))
            self._draws = [np.concatenate([groups[i] for i in draw]) for draw in chosen]

    def estimate(self, statistic: Callable[[NDArray[np.intp]], float]) -> Estimate:
        """Return a statistic and its interval.

        Args:
            statistic: Of cases by their number, some of them several times; NaN where they have
                none, and such a resample does not count.
        """
        value = statistic(np.arange(self.num_cases))
        drawn = np.array([statistic(draw) for draw in self._draws])
        drawn = drawn[~np.isnan(drawn)]
        if not drawn.size:
            return Estimate(value, None)
        low, high = np.percentile(drawn, ENDS)
        return Estimate(value, (float(low), float(high)))

    def mean(self, values: NDArray[np.float64]) -> Estimate:
        """Return the mean of (cases,), where it is not NaN, and its interval."""

        def of_some(draw: NDArray[np.intp]) -> float:
            some = values[draw]
            known = some[~np.isnan(some)]
            return float(known.mean()) if known.size else np.nan

        return self.estimate(of_some)
