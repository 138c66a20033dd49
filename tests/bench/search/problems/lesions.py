"""Segmentation of tiny lesions: a Dice that is flat near 0 for long, then takes off, or diverges.

Settings of this trainer, mixed and conditional; the formulas are ours, see `Lesions.shape`.
"""

import math
from functools import cached_property
from typing import NamedTuple

from search.study.space import Dimension
from tests.bench.search.problems.problem import EPOCHS, Curve, Params, categorical, rng_of
from tests.bench.search.problems.unit import best_and_median

FLOOR = 0.03
"""Dice before the take-off."""


class Shape(NamedTuple):
    """What a configuration does, without noise."""

    peak: float
    """Dice that it goes to."""
    start: float
    """Epoch of the take-off."""
    rise: float
    """Epochs in which the way that is left falls by 1/e."""
    excess: float
    """Log10 of the learning rate over the highest at which it does not diverge."""


class Lesions:
    """One set of images.

    Args:
        name: After "lesions-".
        lr: The best learning rate for predicting x_start with batches of 16.
        late: Epoch of the take-off at that rate.
        target: Factor on the peak, by diffusion.target.
    """

    metric = "val/dice"

    def __init__(self, name: str, *, lr: float, late: float, target: dict[str, float]):
        self.name = f"lesions-{name}"
        self._lr, self._late, self._target = lr, late, target
        self.space = {
            "optimizer.lr": Dimension(type="float", low=1e-5, high=1e-1, log=True),
            "batch.effective": Dimension(type="int", low=4, high=64, log=True),
            "diffusion.target": categorical("x_start", "v", "eps"),
            "model.width": Dimension(type="int", low=16, high=64),
            "loss.dice": Dimension(type="float", low=0.0, high=1.0),
            "loss.weighting": categorical("fixed", "warm_in"),
            "loss.warm_in_fraction": Dimension(
                type="float", low=0.05, high=0.8, when={"loss.weighting": ("warm_in",)}
            ),
        }
        self.seconds = float(EPOCHS) * 1.25  # the mean of `_pace`

    @cached_property
    def _best_and_median(self) -> tuple[float, float]:
        return best_and_median(self.space, lambda params: -self.dice(params, EPOCHS))

    def curve(self, params: Params, seed: int) -> Curve:
        """Return noisy validations; from its second third on, a diverged trial has NaN.

        A seed moves the take-off by an epoch and the peak by 3 % (standard deviations). A
        validation's noise is that of few small lesions: nearly none at the floor.
        """
        rng, shape = rng_of(seed, params), self.shape(params)
        shape = shape._replace(
            start=shape.start + rng.gauss(0, 1), peak=shape.peak * math.exp(rng.gauss(0, 0.03))
        )
        last = EPOCHS if shape.excess <= 0 else int(9 * rng.uniform(0.2, 1))
        values = []
        for epoch in range(1, EPOCHS + 1):
            dice = _dice(shape, epoch)
            noisy = dice + 0.06 * math.sqrt(max(0.0, dice - 0.5 * FLOOR)) * rng.gauss(0, 1)
            values.append(min(1.0, max(0.0, noisy)) if epoch <= last else math.nan)
        step = self._pace(params)
        return Curve(values, [step * epoch for epoch in range(1, EPOCHS + 1)])

    def regret(self, params: Params, epoch: int) -> float:
        best, median = self._best_and_median
        return (-self.dice(params, epoch) - best) / (median - best)

    def dice(self, params: Params, epoch: int) -> float:
        """Return the Dice after an epoch, 0 if the trial diverges."""
        shape = self.shape(params)
        return 0.0 if shape.excess > 0 else _dice(shape, epoch)

    def shape(self, params: Params) -> Shape:
        """Return what a configuration does.

        The best learning rate grows with the root of the batch and is a third for eps. The peak
        falls to 1/e two thirds of a decade from it, and grows with the width; a share of Dice in
        the loss of 0.6 is best, and a warm-in adds up to a tenth if it ends at 0.3. The take-off
        comes later with small rates (doubled a decade below), without Dice, with a long warm-in,
        and for wide models. Trials diverge at rates ten times the best one.
        """
        target, dice = params["diffusion.target"], params["loss.dice"]
        warm_in = params.get("loss.warm_in_fraction", 0.0)
        best = self._lr * math.sqrt(params["batch.effective"] / 16) * (1 / 3, 1)[target != "eps"]
        decades = math.log10(params["optimizer.lr"] / best)
        wide = math.log2(params["model.width"] / 16) / 2
        peak = 0.6 * self._target[target] * math.exp(-((decades / 0.67) ** 2))
        peak *= (0.8 + 0.2 * wide) * (1 - 0.5 * (dice - 0.6) ** 2)
        peak *= 1 + (0.1 if warm_in else 0) * (1 - ((warm_in - 0.3) / 0.3) ** 2)
        start = self._late * 2**-decades * (1.3 - 0.4 * dice) * (1 + 0.4 * warm_in)
        start *= 0.85 + 0.3 * wide
        return Shape(FLOOR + max(0.0, peak), start, 0.35 * start + 2, decades - 1)

    def _pace(self, params: Params) -> float:
        """Return the seconds of an epoch."""
        return float(0.5 + 1.5 * (params["model.width"] - 16) / 48)


def _dice(shape: Shape, epoch: int) -> float:
    way = 1 - math.exp(-max(0.0, epoch - shape.start) / shape.rise)
    return FLOOR + (shape.peak - FLOOR) * way


def lesions(name: str) -> Lesions:
    """Return one of two sets."""
    if name == "a":
        return Lesions("a", lr=1e-3, late=6, target={"x_start": 1.0, "v": 0.9, "eps": 0.75})
    return Lesions("b", lr=3e-4, late=9, target={"x_start": 0.85, "v": 0.95, "eps": 1.0})
