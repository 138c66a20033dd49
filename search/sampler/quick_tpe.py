"""Optuna's TPE, with what it asks of all trials at each proposal kept from one to the next.

A new sampler proposes each trial (sampler.py), so that nothing it remembers leads to another draw.
So Optuna's compares the dimensions of all ended trials, and takes all their parameters for numbers,
again for each: of 20,000 trials, that was two thirds of a proposal. The draws are the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState


class Encoded:
    """The parameters of ended trials as Optuna's samplers count with them, each encoded once.

    Args:
        distributions: Of all dimensions, in the order in which they are drawn; a trial has each
            with this very distribution, or not at all.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]):
        self.distributions = dict(distributions)
        self._columns = {name: column for column, name in enumerate(distributions)}
        self._rows = np.zeros((0, len(self._columns)))
        """By number of the trial; NaN where it lacks a dimension."""
        self._known = np.zeros(0, dtype=bool)

    def rows(self, trials: Sequence[FrozenTrial]) -> NDArray[np.float64]:
        """Return a row for each of the trials, which have all ended.

        Returns:
            Of shape (trials, dimensions), float; NaN where a trial lacks a dimension.
        """
        numbers = np.fromiter((trial.number for trial in trials), dtype=np.intp, count=len(trials))
        self._grow(int(numbers.max(initial=-1)) + 1)
        for place in np.flatnonzero(~self._known[numbers]):
            trial = trials[place]
            for name, value in trial.params.items():
                encoded = self.distributions[name].to_internal_repr(value)
                self._rows[trial.number, self._columns[name]] = encoded
            self._known[trial.number] = True
        return self._rows[numbers]

    def columns(self, names: Sequence[str]) -> list[int]:
        """Return the columns of dimensions."""
        return [self._columns[name] for name in names]

    def _grow(self, size: int) -> None:
        if size > len(self._known):
            more = max(size, 2 * len(self._known)) - len(self._known)
            self._rows = np.vstack([self._rows, np.full((more, len(self._columns)), np.nan)])
            self._known = np.concatenate([self._known, np.zeros(more, dtype=bool)])


class _Common(IntersectionSearchSpace):
    """The dimensions that all ended trials have, by their rows."""

    def __init__(self, encoded: Encoded):
        super().__init__(include_pruned=True)
        self._encoded = encoded

    def calculate(self, study: Study, use_cache: bool = False) -> dict[str, BaseDistribution]:
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = study._get_trials(deepcopy=False, states=states, use_cache=use_cache)
        if not trials:
            return {}
        columns = self._encoded.rows(trials).T
        found = zip(self._encoded.distributions.items(), columns, strict=True)
        return dict(sorted(pair for pair, column in found if not np.isnan(column).any()))


class QuickTPE(TPESampler):
    """TPE of a study whose trials are encoded once.

    Args:
        encoded: Of the study, for all its samplers.
        settings: Optuna's.
    """

    def __init__(self, encoded: Encoded, **settings: Any):
        super().__init__(**settings)
        self._encoded = encoded
        self._search_space = _Common(encoded)

    def _get_internal_repr(
        self,
        trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
        study: Study,
    ) -> dict[str, NDArray[Any]]:
        names = [*search_space]
        rows = np.full((len(trials), len(names)), np.nan)
        columns = self._encoded.columns(names)
        is_ended = np.array([trial.state.is_finished() for trial in trials], dtype=bool)
        ended = [trial for trial, it_is in zip(trials, is_ended, strict=True) if it_is]
        rows[is_ended] = self._encoded.rows(ended)[:, columns]
        for place in np.flatnonzero(~is_ended):  # it may have parameters that only it knows of yet
            params = self._get_params(trials[place], study)
            if search_space.keys() <= params.keys():
                rows[place] = [d.to_internal_repr(params[n]) for n, d in search_space.items()]
        rows = rows[~np.isnan(rows).any(axis=1)]
        return {
            name: rows[:, column].astype(np.int64)
            if isinstance(search_space[name], CategoricalDistribution)
            else rows[:, column].copy()
            for column, name in enumerate(names)
        }
