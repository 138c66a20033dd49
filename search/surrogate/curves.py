"""The model of a study's learning curves, fed event by event.

What it says depends on the events alone, neither on when it was asked nor on what before: its
hyperparameters are fitted anew, from their prior, to the first 4, 5, 7, 9, ... reports.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from search.study.space import Dimension
from search.surrogate.encoding import Array, Encoding
from search.surrogate.kernel import Ints, Kernel, Points, features
from search.surrogate.observations import Observed, Reports, thinned
from search.surrogate.process import Posterior, fit
from search.surrogate.proposals import Candidates, expected_improvement

MIN_TRIALS = 4
"""With a finite report, before anything is said."""
REFIT = 1.25
"""The hyperparameters are fitted anew with so many times the reports."""
FIT_ROWS, ROWS = 200, 400
"""That the hyperparameters are fitted to, and that is conditioned on; of more, some are chosen."""
BELIEVED = 30
"""Of the best incomplete trials: how many are thought to end as expected when another is sought,
so that it is sought elsewhere."""


class _Knowledge(NamedTuple):
    """All that some reports say."""

    reports: int
    """How many."""
    posterior: Posterior
    kept: Observed
    """The rows that the posterior has."""


class CurveModel:
    """What is expected of trials, and the next configuration.

    Args:
        space: Of the study.
        mode: Whether larger ("max") or smaller ("min") values are better.
        max_t: Epochs of a complete trial.
    """

    def __init__(
        self,
        space: Mapping[str, Dimension],
        *,
        mode: Literal["min", "max"],
        max_t: int,
    ):
        self.max_t = max_t
        self._encoding = Encoding(space)
        self._kernel = Kernel(self._encoding.choices)
        self._reports = Reports(mode=mode, max_t=max_t)
        self._configs: dict[int, Array] = {}
        self._epoch: dict[int, int] = {}
        """The last with a finite report."""
        self._untrainable: set[int] = set()
        self._pending: dict[int, None] = {}
        """Trials that run and have not reported, in their order."""
        self._fitted: tuple[int, Array] = (0, self._kernel.prior_mean)
        """To how many reports, and what."""
        self._known: _Knowledge | None = None

    def observe(self, trial: int, params: Mapping[str, Any]) -> None:
        """Take in a trial, which runs."""
        self._configs[trial] = self._encoding.encode(params)
        self._pending[trial] = None

    def report(self, trial: int, epoch: int, value: float) -> None:
        """Take in a report; of a resumed trial those beyond max_t say nothing new."""
        if epoch > self.max_t:
            return
        self._pending.pop(trial, None)
        self._reports.add(trial, epoch, value)
        if math.isfinite(value):
            self._epoch[trial] = epoch
        else:
            self._untrainable.add(trial)

    def ended(self, trial: int, ending: str) -> None:
        """Take in an end; one that is diverged or infeasible tells what cannot be trained."""
        self._pending.pop(trial, None)
        if ending in ("diverged", "infeasible") and trial not in self._untrainable:
            self._untrainable.add(trial)
            self._reports.add(trial, self.max_t, math.nan)

    def propose(
        self,
        seed: int,
        taken: Iterable[Mapping[str, Any]] = (),
        weigh: Callable[[Mapping[str, Any]], float] | None = None,
    ) -> dict[str, Any] | None:
        """Return the most promising new configuration; None while there is too little data.

        Args:
            seed: Of the draw of candidates.
            taken: Parameters that are not proposed, beside those of all trials.
            weigh: Returns the logarithm of what the gain of parameters is multiplied by; None
                where nothing is known of them.
        """
        if (known := self._knowledge()) is None:
            return None
        posterior, kept = known.posterior, known.kept
        seen = [trial for trial in kept.trials.tolist() if self._seen(trial)]
        ends, _ = posterior.predict(*self._points(known, dict.fromkeys(seen, self.max_t)))
        best = np.argsort(-ends, kind="stable")
        candidates = Candidates(self._encoding, np.random.default_rng(seed)).draw(
            np.array([self._configs[seen[index]] for index in best]),
            without=[*self._configs.values(), *map(self._encoding.encode, taken)],
        )
        if not len(candidates):
            return None
        incomplete = [seen[i] for i in best if self._epoch[seen[i]] < self.max_t]
        if believed := [*incomplete[:BELIEVED], *self._pending]:
            at_end = dict.fromkeys(believed, self.max_t)
            posterior = posterior.believing(*self._points(known, at_end))
        rows = np.arange(len(candidates))
        phi = self._phi([self.max_t] * len(candidates))
        mean, sd = posterior.predict(Points(candidates, rows, phi), np.full(len(rows), -1))
        gain = expected_improvement(mean, sd, float(ends.max()))
        if weigh is None:
            return self._encoding.decode(candidates[int(np.argmax(gain))])
        worth = np.log(np.maximum(gain, np.finfo(float).tiny))
        found = [self._encoding.decode(candidate) for candidate in candidates]
        return found[int(np.argmax(worth + np.array([weigh(params) for params in found])))]

    def _seen(self, trial: int) -> bool:
        return trial in self._epoch and trial not in self._untrainable

    def _phi(self, epochs: Iterable[int]) -> Array:
        return features(self._reports.share(np.array(list(epochs), dtype=float)))

    def _knowledge(self) -> _Knowledge | None:
        """Return what is known given all reports; None while there is too little data."""
        if sum(map(self._seen, self._epoch)) < MIN_TRIALS:
            return None
        count = len(self._reports)
        if self._known is None or self._known.reports != count:
            kept = thinned(self._reports.observed(self._configs), ROWS)
            posterior = Posterior(self._kernel, self._theta(count), kept.rows)
            self._known = _Knowledge(count, posterior, kept)
        return self._known

    def _theta(self, count: int) -> Array:
        """Return the hyperparameters with which so many reports are seen."""
        first = following = MIN_TRIALS
        while following <= count:
            first, following = following, math.ceil(following * REFIT)
        if self._fitted[0] != first:
            observed = self._reports.observed(self._configs, first=first)
            self._fitted = first, fit(self._kernel, thinned(observed, FIT_ROWS).rows)
        return self._fitted[1]

    def _points(self, known: _Knowledge, epochs: Mapping[int, int]) -> tuple[Points, Ints]:
        """Return where trials are at epochs, and the configuration of each among the rows."""
        place = {trial: index for index, trial in enumerate(known.kept.trials.tolist())}
        owners = np.array([place.get(trial, -1) for trial in epochs], dtype=np.intp)
        configs = np.array([self._configs[trial] for trial in epochs])
        return Points(configs, np.arange(len(epochs)), self._phi(epochs.values())), owners
