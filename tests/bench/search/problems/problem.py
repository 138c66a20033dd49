"""A search that costs nothing: what a trial would report, and when, from a table or a formula.

Whatever is random belongs to (seed, parameters): proposed twice, a configuration does the same
twice, as in a study, where all trials share one seed.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from search.study.space import Dimension

EPOCHS = 27
"""Of a complete trial, in every problem."""
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


def rng_of(*what: Any) -> random.Random:
    """Return draws that belong to values, parameters among them."""
    parts = [sorted(p.items()) if isinstance(p, Mapping) else p for p in what]
    return random.Random("/".join(map(str, parts)))


def categorical(*choices: Any) -> Dimension:
    """Return a dimension of choices."""
    return Dimension(type="categorical", choices=choices)


def rates_around(recorded: Sequence[float]) -> Dimension:
    """Return a dimension of learning rates that all have a recorded one nearest equally often.

    Args:
        recorded: In equal steps of the logarithm.
    """
    half = (recorded[1] / recorded[0]) ** 0.5
    return Dimension(type="float", low=recorded[0] / half, high=recorded[-1] * half, log=True)


def nearest_rate(recorded: Sequence[float], rate: float) -> float:
    """Return the recorded learning rate that is nearest by its logarithm."""
    return min(recorded, key=lambda each: abs(math.log(each) - math.log(rate)))
