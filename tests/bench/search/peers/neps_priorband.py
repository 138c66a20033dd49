"""NePS' PriorBand on its ASHA, which promotes trials that wait at a rung.

    python -m venv ENV && ENV/bin/pip install torch==2.13.0 neural-pipeline-search==0.17
    SEGTUNE_BENCH_PEERS=ENV/bin/python python -m tests.bench.search

With all defaults, and eta 3 as the others. A stated configuration is its prior, with medium
confidence, and tried first; without one, it samples uniformly or around the best so far. A trial
that diverges crashes. The best is that with the best evaluation at any rung, as in NePS' summary.
"""

import logging
import math
from typing import Any

import numpy as np
import torch
from neps import AskAndTell, Categorical, Float, Integer, IntegerFidelity, PipelineSpace
from neps.optimizers.algorithms import priorband

from tests.bench.search.peers.serve import serve

RUNGS = (1, 3, 9, 27)


class PriorBand:
    """One search; see `serve`."""

    def __init__(
        self,
        space: dict[str, dict[str, Any]],
        mode: str,
        seed: int,
        max_t: int,
        stated: dict[str, Any] | None,
    ):
        torch.manual_seed(seed)
        np.random.seed(seed)
        self._sign = -1 if mode == "max" else 1
        self._names = {f"x{index}": name for index, name in enumerate(space)}
        self._choices = {name: dimension.get("choices") for name, dimension in space.items()}
        members = {
            key: _member(stated.get(name, None) if stated else None, **space[name])
            for key, name in self._names.items()
        }
        members["epochs"] = IntegerFidelity(1, max_t)
        pipeline = type("Space", (PipelineSpace,), members)()
        first = stated is not None
        self._ask = AskAndTell(priorband(pipeline, base="asha", sample_prior_first=first))
        self._goals: dict[int, list[tuple[str, int]]] = {}
        """Of every trial, what it trains for: NePS' names of its rungs, and their epochs."""
        self._diverged: set[int] = set()
        self._best: tuple[float, int] | None = None

    def next(self) -> tuple[int, dict[str, Any]] | None:
        while True:
            trial = self._ask.ask()
            number = int(trial.id.partition("_")[0])
            goals = self._goals.setdefault(number, [])
            goals.append((trial.id, trial.config["epochs"]))
            if number in self._diverged:
                self._ask.tell(trial.id, {"exception": ValueError("diverged")})
            elif len(goals) == 1:
                return number, {name: trial.config[key] for key, name in self._names.items()}
            # Else it promotes a trial that has not come to its rung yet, which then trains on.

    def report(self, trial: int, epoch: int, value: float) -> bool:
        goals = self._goals[trial]
        if not math.isfinite(value):
            self._diverged.add(trial)
            for name, _ in goals:
                self._ask.tell(name, {"exception": ValueError("diverged")})
            return False
        if epoch == goals[0][1]:
            name, _ = goals.pop(0)
            loss = self._sign * value
            self._best = min(self._best or (math.inf, trial), (loss, trial))
            self._ask.tell(name, loss)
        return bool(goals)

    def incumbent(self) -> int | None:
        return self._best[1] if self._best else None


def _member(
    stated: Any,
    type: str,
    low: Any = None,
    high: Any = None,
    log: bool = False,
    choices: list[Any] | None = None,
) -> Any:
    """Return a dimension in NePS' words."""
    prior = {} if stated is None else {"prior": stated, "prior_confidence": "medium"}
    if choices is not None:
        if prior:
            prior["prior"] = choices.index(stated)
        return Categorical(tuple(choices), **prior)
    return (Integer if type == "int" else Float)(low, high, log=log, **prior)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve(PriorBand, RUNGS)
