"""Reports of many trials as the rows that the model learns from."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from search.surrogate.encoding import Array
from search.surrogate.kernel import Ints, Points, features
from search.surrogate.process import Rows

BINS = np.array([1, 3, 9, 18]) / 27
"""Shares of max_t at which a row ends and the next begins: a row is the average of reports."""
FENCE = 1.5
"""Interquartile ranges below the first quartile; what is worse than that is taken for that."""


class Scale(NamedTuple):
    """From the objective's units to the model's: larger is better, about of mean 0 and sd 1."""

    sign: float
    log: bool
    """Whether the model sees the logarithm: of a loss that is always above 0."""
    mean: float
    sd: float


class Observed(NamedTuple):
    """All that is known, as rows."""

    rows: Rows
    trials: Ints
    """(configurations,): the trial of each, ascending."""
    scale: Scale


class Reports:
    """What trials reported, in the order of events.

    Args:
        mode: Whether larger ("max") or smaller ("min") values are better.
        max_t: Epochs of a complete trial; 0 where each is validated once and not trained.
    """

    def __init__(self, *, mode: Literal["min", "max"], max_t: int):
        self.sign = 1.0 if mode == "max" else -1.0
        self.max_t = max_t
        self._entries: list[tuple[int, int, float]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, trial: int, epoch: int, value: float) -> None:
        """Take in a report; one that is not finite says that the trial cannot be trained."""
        self._entries.append((trial, epoch, value if math.isfinite(value) else math.nan))

    def share(self, epochs: Array) -> Array:
        """Return epochs as shares of a complete training."""
        return epochs / self.max_t if self.max_t else np.ones_like(epochs)

    def observed(self, configs: Mapping[int, Array], *, first: int | None = None) -> Observed:
        """Return the rows of all reports, or of the `first` so many.

        What cannot be trained is worth at the end what the worst report is. There must be a finite
        one.

        Args:
            configs: The point of each trial.
            first: How many reports.
        """
        trial, epoch, value = (
            np.array(column) for column in zip(*self._entries[:first], strict=True)
        )
        cannot = np.unique(trial[np.isnan(value)])
        finite = ~np.isnan(value)
        trial, share, value = trial[finite], self.share(epoch[finite].astype(float)), value[finite]
        log = self.sign < 0 and bool((value > 0).all())
        value = -np.log(value) if log else self.sign * value

        place = np.searchsorted(BINS, share - 1e-9)
        order = np.lexsort((place, trial))
        trial, share, value, place = trial[order], share[order], value[order], place[order]
        begins = np.r_[True, (np.diff(trial) != 0) | (np.diff(place) != 0)]
        starts = np.flatnonzero(begins)
        counts = np.diff(np.r_[starts, len(trial)]).astype(float)
        value = np.add.reduceat(value, starts) / counts
        phi = np.add.reduceat(features(share), starts) / counts[:, None]
        low, high = np.quantile(value, [0.25, 0.75])
        value = np.maximum(value, low - FENCE * max(high - low, 1e-9))

        owner = np.r_[trial[starts], cannot]
        value = np.r_[value, np.full(len(cannot), value.min())]
        phi = np.r_[phi, np.repeat(features(np.ones(1)), len(cannot), axis=0)]
        counts = np.r_[counts, np.ones(len(cannot))]
        order = np.argsort(owner, kind="stable")
        trials, of = np.unique(owner[order], return_inverse=True)
        scale = Scale(-1.0 if log else self.sign, log, value.mean(), max(value.std(), 1e-9))
        points = Points(np.array([configs[t] for t in trials.tolist()]), of, phi[order])
        values = (value[order] - scale.mean) / scale.sd
        return Observed(Rows(points, values, counts[order]), trials, scale)


def thinned(observed: Observed, limit: int) -> Observed:
    """Return at most about `limit` rows, of whole trials: half of them of the best, else of all.

    The best are those with the best last row.
    """
    rows = observed.rows
    of, configurations = rows.points.of, len(observed.trials)
    if len(of) <= limit:
        return observed
    lengths = np.bincount(of, minlength=configurations)
    best = np.argsort(-rows.values[np.cumsum(lengths) - 1], kind="stable")
    chosen = best[np.cumsum(lengths[best]) <= limit / 2]
    rest = np.setdiff1d(np.arange(configurations), chosen)
    stride = max(1, math.ceil(lengths[rest].sum() / (limit / 2)))
    keep = np.sort(np.r_[chosen, rest[::stride]])
    mask = np.isin(of, keep)
    points = Points(
        rows.points.configs[keep], np.searchsorted(keep, of[mask]), rows.points.phi[mask]
    )
    kept = Rows(points, rows.values[mask], rows.counts[mask])
    return Observed(kept, observed.trials[keep], observed.scale)
