"""Syne Tune's BOHB: its asynchronous successive halving, and kernel densities as the searcher.

    python -m venv ENV && ENV/bin/pip install syne-tune==0.16
    SEGTUNE_BENCH_PEERS=ENV/bin/python python -m tests.bench.search

With all defaults. A stated configuration is the first of `points_to_evaluate`. A trial that
diverges fails. The best is that of `ExperimentResult.best_config`: the trial of the best report.

Its ASHABORE and ASHACQR, which fit a model for every proposal, are left out for their cost: 0.16 s
of CPU a proposal, and more than that, where BOHB takes 0.02.
"""

import datetime
import logging
import math
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import BOHB

from tests.bench.search.peers.serve import serve

RUNGS = (1, 3, 9, 27)
CREATED = datetime.datetime(2026, 1, 1)


class Search:
    """One search; see `serve`."""

    def __init__(
        self,
        space: dict[str, dict[str, Any]],
        mode: str,
        seed: int,
        max_t: int,
        stated: dict[str, Any] | None,
    ):
        self._sign = 1 if mode == "max" else -1
        self._scheduler = BOHB(
            {name: _domain(**dimension) for name, dimension in space.items()},
            metric="value",
            time_attr="epoch",
            max_t=max_t,
            do_minimize=mode == "min",
            random_seed=seed,
            points_to_evaluate=[stated] if stated else None,
        )
        self._trials: dict[int, Trial] = {}
        self._best: tuple[float, int] | None = None

    def next(self) -> tuple[int, dict[str, Any]] | None:
        suggestion = self._scheduler.suggest()
        if suggestion is None:
            return None
        number = len(self._trials)
        trial = Trial(trial_id=number, config=suggestion.config, creation_time=CREATED)
        self._trials[number] = trial
        self._scheduler.on_trial_add(trial)
        return number, suggestion.config

    def report(self, trial: int, epoch: int, value: float) -> bool:
        known = self._trials[trial]
        if not math.isfinite(value):
            self._scheduler.on_trial_error(known)
            return False
        self._best = max(self._best or (-math.inf, trial), (self._sign * value, trial))
        decision = self._scheduler.on_trial_result(known, {"value": value, "epoch": epoch})
        if decision == "STOP":
            self._scheduler.on_trial_remove(known)
        return decision != "STOP"

    def incumbent(self) -> int | None:
        return self._best[1] if self._best else None


def _domain(
    type: str,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    choices: list[Any] | None = None,
) -> Any:
    """Return a dimension in Syne Tune's words."""
    if choices is not None:
        return choice(choices)
    if type == "int":
        return (lograndint if log else randint)(low, high)
    return (loguniform if log else uniform)(low, high)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve(Search, RUNGS)
