"""A table of real learning curves on scikit-learn's digits (tests/bench/search/record_digits.py).

Curves, seeds, seconds and what is chosen by 300 validation cases against the truth in 1,247 others
are real. A continuous learning rate takes the curve of the nearest recorded one.
"""

import gzip
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from search.study.space import Dimension
from tests.bench.search.problems.problem import (
    EPOCHS,
    Curve,
    Params,
    categorical,
    nearest_rate,
    rates_around,
    rng_of,
)

TABLE = Path(__file__).parent / "digits_table.json.gz"
NUM_VALIDATION, NUM_TRUTH = 300, 1247


class Digits:
    """The recorded table; sgd has a momentum, adam has none."""

    name = "digits"
    metric = "val/dice"

    def __init__(self, path: Path = TABLE):
        table = json.loads(gzip.decompress(path.read_bytes()))
        self.grid: dict[str, list[Any]] = table["grid"]
        self._runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for run in table["runs"]:
            self._runs.setdefault(self._key(run["params"]), []).append(run)
        self.space = {name: categorical(*values) for name, values in self.grid.items()}
        self.space["lr"] = rates_around(self.grid["lr"])
        self.space["momentum"] = Dimension(
            type="categorical", choices=tuple(self.grid["momentum"]), when={"solver": ("sgd",)}
        )
        finals = sorted(self._accuracy(key, EPOCHS) for key in self._runs)
        self.best, self.median = finals[-1], finals[len(finals) // 2]

    @cached_property
    def seconds(self) -> float:
        return float(np.mean([run["seconds"] for runs in self._runs.values() for run in runs]))

    def curve(self, params: Params, seed: int) -> Curve:
        key = self._key(params)
        run = rng_of(seed, key).choice(self._runs[key])
        values = [correct / NUM_VALIDATION for correct in run["validation"]]
        step = run["seconds"] / EPOCHS
        return Curve(values, [step * epoch for epoch in range(1, EPOCHS + 1)])

    def regret(self, params: Params, epoch: int) -> float:
        return (self.best - self._accuracy(self._key(params), epoch)) / (self.best - self.median)

    def _key(self, params: Params) -> tuple[Any, ...]:
        nearest = nearest_rate(self.grid["lr"], params["lr"])
        return tuple(nearest if name == "lr" else params.get(name) for name in self.grid)

    def _accuracy(self, key: tuple[Any, ...], epoch: int) -> float:
        """Return the mean over both seeds of the true accuracy."""
        correct = [run["truth"][epoch - 1] for run in self._runs[key]]
        return float(np.mean(correct)) / NUM_TRUTH
