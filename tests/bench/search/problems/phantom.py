"""A table recorded from this trainer (tests/bench/search/record.py).

Curves, noise between seeds and validations, and seconds are real. A continuous learning rate takes
the curve of the nearest recorded one.
"""

import gzip
import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.search.problems.problem import (
    EPOCHS,
    Curve,
    Params,
    categorical,
    nearest_rate,
    rates_around,
    rng_of,
)

TABLE = Path(__file__).parent / "phantom_table.json.gz"


class Phantom:
    """The recorded table."""

    name = "phantom"
    metric = "val/dice"

    def __init__(self, path: Path = TABLE):
        table = json.loads(gzip.decompress(path.read_bytes()))
        self.grid: dict[str, list[Any]] = table["grid"]
        self._runs: dict[tuple[Any, ...], list[Curve]] = {}
        for run in table["runs"].values():
            curves = self._runs.setdefault(tuple(run["params"].values()), [])
            missing = EPOCHS - len(run["dice"])  # where it diverged
            last = run["seconds"][-1:] or [1.0]
            curves.append(
                Curve(run["dice"] + [math.nan] * missing, run["seconds"] + last * missing)
            )
        self.space = {
            name: rates_around(values) if name == "optimizer.lr" else categorical(*values)
            for name, values in self.grid.items()
        }
        finals = sorted(self._dice(key, EPOCHS) for key in self._runs)
        self.best, self.median = finals[-1], finals[len(finals) // 2]

    @cached_property
    def seconds(self) -> float:
        return float(np.mean([c.seconds[-1] for curves in self._runs.values() for c in curves]))

    def curve(self, params: Params, seed: int) -> Curve:
        key = self._key(params)
        return rng_of(seed, key).choice(self._runs[key])

    def regret(self, params: Params, epoch: int) -> float:
        return (self.best - self._dice(self._key(params), epoch)) / (self.best - self.median)

    def _key(self, params: Params) -> tuple[Any, ...]:
        nearest = nearest_rate(self.grid["optimizer.lr"], params["optimizer.lr"])
        return tuple(nearest if n == "optimizer.lr" else params[n] for n in self.grid)

    def _dice(self, key: tuple[Any, ...], epoch: int) -> float:
        """Return the mean over both seeds and the last three validations."""
        recent = [v for curve in self._runs[key] for v in curve.values[max(0, epoch - 3) : epoch]]
        return float(np.nan_to_num(np.mean(recent)))
