"""TPE beside a prior: the more it counts, the nearer are the candidates that are taken."""

from typing import Any

import optuna
import pytest
from optuna.samplers import TPESampler

from search.sampler.distributions import distribution
from search.sampler.guided_tpe import GuidedTPE
from search.sampler.prior import Prior
from search.sampler.quick_tpe import Encoded
from search.study.space import Dimension, stated

SPACE = {
    name: Dimension.model_validate(values)
    for name, values in {
        "rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True, "prior": 1e-4},
        "width": {"type": "int", "low": 8, "high": 64, "step": 8, "prior": 56},
        "kind": {"type": "categorical", "choices": ["a", ["b", "c"], None], "prior": ["b", "c"]},
        "free": {"type": "float", "low": 0, "high": 1},
    }.items()
}
DISTRIBUTIONS = {name: distribution(dimension) for name, dimension in SPACE.items()}
PRIOR = Prior(SPACE, [stated(SPACE)])


def proposals(sampler: Any, directions: int) -> list[dict[str, Any]]:
    """Return what a sampler asks for after trials of which the middle of all ranges is the best."""
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(0), directions=directions * ["maximize"]
    )
    for _ in range(20):
        trial = study.ask(DISTRIBUTIONS)
        study.tell(trial, directions * [-abs(trial.params["free"] - 0.5)])
    study.sampler = sampler
    asked = [study.ask(DISTRIBUTIONS).params for _ in range(8)]
    return [each | {"kind": SPACE["kind"].choices[each["kind"]]} for each in asked]  # type: ignore[index]


def nearness(params: list[dict[str, Any]]) -> float:
    return sum(map(PRIOR.log_density, params)) / len(params)


@pytest.mark.parametrize("directions", [1, 2], ids=["together", "each setting alone"])
def test_the_more_the_prior_counts_the_nearer_is_what_is_taken(directions: int) -> None:
    settings: dict[str, Any] = {"n_startup_trials": 4, "seed": 3}
    plain = proposals(TPESampler(**settings), directions)

    def guided(power: float) -> list[dict[str, Any]]:
        sampler = GuidedTPE(Encoded(DISTRIBUTIONS), SPACE, PRIOR, power, **settings)
        return proposals(sampler, directions)

    assert guided(0.0) == plain
    near = guided(100.0)
    assert nearness(near) > nearness(plain) + 1
