"""Who competes, by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.search.methods import OneEpoch, Segtune, Stock
from tests.bench.search.optuna_methods import Oracle, TPEHyperband
from tests.bench.search.peers.client import Peer
from tests.bench.search.problems import EPOCHS, Params, Problem
from tests.bench.search.simulate import Method

BUDGET = 40
"""GPU-seconds of a search, in complete trials of random parameters."""
ASHA = {"type": "asha", "grace_period": 3, "max_t": EPOCHS, "reduction_factor": 3, "smoothing": 3}
CURVE_GP = {"type": "curve_gp"}
NONE = {"type": "none", "max_t": EPOCHS, "smoothing": 3}
RANDOM = {"type": "random"}

Make = Callable[[Problem, int, Params | None], Method]
"""Makes a method for a problem, a seed, and a configuration that is stated or None."""


def _segtune(*, as_prior: bool = False, **sections: dict[str, Any]) -> Make:
    return lambda problem, seed, stated: Segtune(
        problem, seed, stated, as_prior=as_prior, **sections
    )


METHODS: dict[str, Make] = {
    "random": _segtune(sampler=RANDOM, scheduler=NONE),
    "random + ASHA": _segtune(sampler=RANDOM, scheduler=ASHA),
    # A third of the budget for the first epochs.
    "1-epoch": lambda problem, seed, stated: OneEpoch(
        problem, seed, num_trials=BUDGET * EPOCHS // 3
    ),
    "Ray OptunaSearch + ASHA": Stock,
    "Optuna TPE + Hyperband": TPEHyperband,
    "Syne Tune BOHB": partial(Peer, "syne_tune_bohb"),
    "NePS PriorBand + ASHA": partial(Peer, "neps_priorband"),
    "segtune": _segtune(scheduler=ASHA),
    "curve_gp + ASHA": _segtune(sampler=CURVE_GP, scheduler=ASHA),
    "oracle": Oracle,
}
WITH_PRIOR: dict[str, Make] = {
    "random + prior": _segtune(as_prior=True, sampler=RANDOM, scheduler=NONE),
    "segtune + prior": _segtune(as_prior=True, scheduler=ASHA),
    "curve_gp + ASHA + prior": _segtune(as_prior=True, sampler=CURVE_GP, scheduler=ASHA),
}
"""To whom what is stated is a prior, and not tried first alone."""
