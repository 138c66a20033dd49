"""How often a proposal lacks memory: the project's sampler against Ray's stock OptunaSearch.

Memory is width times batch, of which half of the space needs too much; trials beyond the limit end
infeasible, as an error for Ray's searcher, which tells Optuna a failure that TPE does not see.
Three objectives, all with a best learning rate: one that rises with memory and saturates, one that
rises up to the limit, so that the best trials are next to those that fail, and one that does not
depend on memory. Shares after trial 20 of 80, the mean of 8 seeds.
"""

import math
from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from tests.bench.row import Row

Objective = Callable[[float], float]

SPACE: dict[str, dict[str, Any]] = {
    "model.width": {"type": "int", "low": 8, "high": 128},
    "batch.effective": {"type": "int", "low": 4, "high": 64},
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
}
LIMIT = 2048
"""Of width times batch."""

OBJECTIVES: dict[str, Objective] = {
    "saturates": lambda memory: 0.7 * (1 - math.exp(-8 * memory)),
    "rises": lambda memory: 0.3 + 0.4 * memory,
    "independent": lambda memory: 0.6,
}
"""Of the share of the limit that is used."""


def run(num_trials: int = 80, seeds: int = 8) -> Iterator[Row]:
    """Yield a row for each objective."""
    for name, objective in OBJECTIVES.items():
        ours = mean(share(segtune(objective, num_trials, seed)) for seed in range(seeds))
        theirs = mean(share(stock(objective, num_trials, seed)) for seed in range(seeds))
        yield Row(f"proposals out of memory, Dice {name}", "share", ours, theirs)


def share(values: list[float | None]) -> float:
    """Return how many of the trials after the 20th lacked memory."""
    return mean(value is None for value in values[20:])


def dice(params: dict[str, Any], objective: Objective) -> float | None:
    """Return a trial's result, None where the memory does not suffice."""
    memory = params["model.width"] * params["batch.effective"] / LIMIT
    if memory > 1:
        return None
    return objective(memory) - 0.1 * abs(math.log10(params["optimizer.lr"]) + 3)


def segtune(objective: Objective, num_trials: int, seed: int) -> list[float | None]:
    """Return the results of trials that the project's sampler proposes one by one."""
    study = StudyConfig.model_validate(
        {
            "study": "memory",
            "data": {"store": "."},
            "space": SPACE,
            "trials": {"num_trials": num_trials},
            "seed": seed,
        }
    )
    sampler, values = Sampler(study), []
    for number in range(num_trials):
        proposal = sampler.propose(number, given={})
        assert proposal is not None
        value = dice(proposal["params"], objective)
        about = {"trial": number}
        sampler.observe({"event": "proposed", **about, "protected": False, **proposal})
        if value is not None:
            sampler.observe(
                {"event": "reported", **about, "epoch": 1, "value": value, "metrics": {}}
            )
        ending = "infeasible" if value is None else "completed"
        sampler.observe({"event": "ended", **about, "ending": ending})
        values.append(value)
    return values


def stock(objective: Objective, num_trials: int, seed: int) -> list[float | None]:
    """Return the results of trials that Ray's searcher proposes, told as Tune tells it."""
    from optuna import Trial
    from ray.tune.search.optuna import OptunaSearch

    def space(trial: Trial) -> None:
        trial.suggest_int("width", 8, 128)
        trial.suggest_int("batch", 4, 64)
        trial.suggest_float("lr", 1e-5, 1e-1, log=True)

    search, values = OptunaSearch(space=space, metric="dice", mode="max", seed=seed), []
    for name in map(str, range(num_trials)):
        drawn = search.suggest(name)
        assert isinstance(drawn, dict)
        params = {key: drawn[key.rpartition(".")[2].replace("effective", "batch")] for key in SPACE}
        value = dice(params, objective)
        if value is None:
            search.on_trial_complete(name, error=True)
        else:
            search.on_trial_complete(name, {"dice": value, "training_iteration": 1})
        values.append(value)
    return values
