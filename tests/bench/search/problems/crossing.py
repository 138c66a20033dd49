"""Curves that cross: what ends well begins slowly, and the noise falls with training.

In the manner of the prior of ifBO (Rakotoarison et al. 2024, arXiv 2404.16795): a random function
of the settings gives a curve's parameters. The formulas are ours, see `Crossing.loss`.
"""

import math
from functools import cached_property

import numpy as np

from search.study.space import Dimension
from tests.bench.search.problems.problem import EPOCHS, Curve, Params, categorical, rng_of
from tests.bench.search.problems.unit import best_and_median, place

WAVES = 12
"""Of the random function."""


class Crossing:
    """One random function.

    Its settings are floats, an int and categoricals, three of them searched only under a choice of
    the first.

    Args:
        name: After "crossing-"; its seed.
        against: How strongly a low end means a slow start, 0 to 1.
    """

    metric = "train/loss"

    def __init__(self, name: str, *, against: float):
        self.name, self._against = f"crossing-{name}", against
        self.space = {
            "kind": categorical("adam", "sgd", "lion"),
            "lr": Dimension(type="float", low=1e-4, high=1.0, log=True),
            "decay": Dimension(type="float", low=1e-6, high=1e-1, log=True),
            "layers": Dimension(type="int", low=1, high=6),
            "norm": categorical("batch", "layer"),
            "beta": Dimension(type="float", low=0.8, high=1.0, when={"kind": ("adam", "lion")}),
            "momentum": Dimension(type="float", low=0.0, high=1.0, when={"kind": ("sgd",)}),
            "nesterov": Dimension(
                type="categorical", choices=(False, True), when={"kind": ("sgd",)}
            ),
        }
        rng = np.random.default_rng(list(name.encode()))
        # Of each wave and encoded setting; the smoother, the more a search can learn of it.
        self._frequencies = rng.normal(0, 2.0, (WAVES, len(self.space) + 2))
        self._phases = rng.uniform(0, 2 * np.pi, WAVES)
        self._weights = rng.normal(0, math.sqrt(2 / WAVES), (4, WAVES))
        self.seconds = float(EPOCHS)

    @cached_property
    def _best_and_median(self) -> tuple[float, float]:
        return best_and_median(self.space, lambda params: self.loss(params, EPOCHS))

    def curve(self, params: Params, seed: int) -> Curve:
        """Return noisy losses.

        The logarithm's noise falls from 0.3 in the first epochs to 0.03, times another factor for
        each configuration, and a seed moves all of it by 0.03.
        """
        rng = rng_of(seed, params)
        offset, factor = rng.gauss(0, 0.03), math.exp(0.5 * self._traits(params)[3])
        values = []
        for epoch in range(1, EPOCHS + 1):
            noise = factor * (0.03 + 0.27 * (1 - epoch / EPOCHS) ** 2) * rng.gauss(0, 1)
            values.append(self.loss(params, epoch) * math.exp(offset + noise))
        step = rng.uniform(0.7, 1.3)
        return Curve(values, [step * epoch for epoch in range(1, EPOCHS + 1)])

    def regret(self, params: Params, epoch: int) -> float:
        best, median = self._best_and_median
        return (self.loss(params, epoch) - best) / (median - best)

    def loss(self, params: Params, epoch: int) -> float:
        """Return end + (1 - end) * left(t), with t the share of the epochs.

        Three traits of a configuration are random functions with mean 0 and variance 1: u, v and w.
        The end is exp(u / 2) / 4, at most 0.9. What is left is the mean of a power law,
        (1 + rate * t)^-1.5, and of a step at t = 0.5 / (1 + rate / 20). The rate is 10 exp(x), with
        x a mixture of u, by `against`, and v: what ends low is slow. From a median w on the curve
        turns upward, by up to 15 % at t = 1: it overfits.
        """
        ends, rates, turns, _ = self._traits(params)
        share = epoch / EPOCHS
        end = min(0.9, math.exp(ends / 2) / 4)
        a = self._against
        rate = 10 * math.exp(a * ends + math.sqrt(1 - a**2) * rates)
        power = (1 + rate * share) ** -1.5
        step = 1 / (1 + math.exp(12 * (share - 0.5 / (1 + rate / 20))))
        upward = 1 + 0.15 * min(1.0, max(0.0, turns)) * max(0.0, share - 0.4) / 0.6
        return (end + (1 - end) * (power + step) / 2) * upward

    def _traits(self, params: Params) -> np.ndarray:
        """Return the random functions' values; a setting that is not searched counts as 0."""
        point = []
        for name, dimension in self.space.items():
            if dimension.choices is not None and len(dimension.choices) > 2:
                point += [float(params[name] == choice) for choice in dimension.choices]
            else:
                point.append(place(dimension, params[name]) - 0.5 if name in params else 0.0)
        waves = np.cos(self._frequencies @ np.array(point) + self._phases)
        return np.asarray(self._weights @ waves)
