"""What a person knows before a search: where in the space good settings are likely.

The unit scale of a number is the one on which it is drawn: of its logarithm where the dimension is
log, in equal cells where it has steps. There a stated value is the centre of a normal distribution,
cut off at the ends of the range; a stated choice has a part of the probability to itself and shares
the rest with all others. Every density is relative to the uniform one: a dimension of which nothing
is stated counts 1, and one whose conditions do not hold does not count.
"""

import math
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from statistics import NormalDist
from typing import Any, NamedTuple

from search.study.space import Confidence, Dimension, active, among, ordered


class Width(NamedTuple):
    """How sure a prior is."""

    sd: float
    """Standard deviation of a number, in unit ranges."""
    kept: float
    """Probability with which a stated choice is taken, beside its share of the rest."""


WIDTHS: Mapping[Confidence, Width] = {
    "low": Width(0.3, 0.4),
    "medium": Width(0.15, 0.6),
    "high": Width(0.075, 0.8),
}

ANYWHERE = 0.05
"""Probability with which a number is drawn from the whole range, however sure its prior is."""


class Prior:
    """A distribution over a space: a mixture in equal parts of what is likely around each centre.

    Args:
        space: The study's.
        centres: Values that are thought to be good, by dimension; of a dimension that a centre
            leaves out it says nothing.
    """

    def __init__(self, space: Mapping[str, Dimension], centres: Sequence[Mapping[str, Any]]):
        assert centres
        self.centres = centres
        self._space = space
        self._around = [
            {name: _Around(space[name], value) for name, value in centre.items()}
            for centre in centres
        ]

    def log_density(self, params: Mapping[str, Any]) -> float:
        """Return the logarithm of how much likelier parameters are than under a uniform draw.

        Args:
            params: Of a trial, or some of them.
        """
        logs = [
            sum(math.log(around[name].density(params[name])) for name in params if name in around)
            for around in self._around
        ]
        highest = max(logs)
        return highest + math.log(sum(math.exp(log - highest) for log in logs) / len(logs))

    def sample(self, rng: random.Random, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return a draw: parameters of all dimensions whose conditions hold, in the space's order.

        Args:
            rng: Gives the draw.
            given: Parameters that are not drawn.
        """
        around = rng.choice(self._around)
        return self._fill(rng, given or {}, {n: a.draw for n, a in around.items()})

    def centre(
        self, index: int, rng: random.Random, given: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return a centre itself, with random values of what it leaves out; arguments as `sample`.

        Args:
            index: Of the centre.
            rng: Gives the draw.
            given: Parameters that win over the centre's.
        """
        return self._fill(rng, {**self.centres[index], **(given or {})}, {})

    def _fill(
        self, rng: random.Random, given: Mapping[str, Any], draws: Mapping[str, Any]
    ) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, dimension in ordered(self._space):
            if name in active(self._space, params):
                draw = draws.get(name, dimension.draw)
                params[name] = given[name] if name in given else draw(rng)
        return {name: params[name] for name in self._space if name in params}


class _Around:
    """The distribution of one dimension around a value."""

    def __init__(self, dimension: Dimension, value: Any):
        self._dimension, self._value = dimension, value
        self._width = WIDTHS[dimension.confidence]

    def density(self, value: Any) -> float:
        """Return how many times likelier a value is than under a uniform draw; above 0."""
        if (choices := self._dimension.choices) is not None:
            kept = self._width.kept * len(choices) if among(value, (self._value,)) else 0.0
            return 1 - self._width.kept + kept
        begin, end = self._cell(value)
        normal, (below, above) = self._normal, self._ends
        if begin == end:
            near = normal.pdf(begin)
        else:
            near = (normal.cdf(end) - normal.cdf(begin)) / (end - begin)
        return ANYWHERE + (1 - ANYWHERE) * near / (above - below)

    def draw(self, rng: random.Random) -> Any:
        """Return a random value."""
        if self._dimension.choices is not None:
            kept = rng.random() < self._width.kept
            return self._value if kept else self._dimension.draw(rng)
        if rng.random() < ANYWHERE:
            return self._dimension.draw(rng)
        below, above = self._ends
        return self._at(self._normal.inv_cdf(below + rng.random() * (above - below)))

    @cached_property
    def _normal(self) -> NormalDist:
        begin, end = self._cell(self._value)
        return NormalDist((begin + end) / 2, self._width.sd)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """What of the normal distribution is below the range, and below its end."""
        return self._normal.cdf(0), self._normal.cdf(1)

    def _cell(self, value: float) -> tuple[float, float]:
        """Return the ends of a value's cell on the unit scale; both are one where none has any."""
        low, high, cells = self._scale
        if cells:
            index = round((value - low) / (high - low) * (cells - 1))
            return index / cells, (index + 1) / cells
        half = 0.5 if self._dimension.type == "int" else 0.0
        ends = value - half, value + half
        begin, end = map(math.log, ends) if self._dimension.log else ends
        return (begin - low) / (high - low), (end - low) / (high - low)

    def _at(self, place: float) -> Any:
        """Return the value at a place of the unit scale."""
        dimension, (low, high, cells) = self._dimension, self._scale
        assert dimension.low is not None and dimension.high is not None
        if cells:
            step = Decimal(str(dimension.step or 1))
            value = float(Decimal(str(low)) + step * min(max(int(place * cells), 0), cells - 1))
        else:
            value = low + place * (high - low)
            value = math.exp(value) if dimension.log else value
        value = min(max(value, dimension.low), dimension.high)
        return round(value) if dimension.type == "int" else value

    @cached_property
    def _scale(self) -> tuple[float, float, int]:
        """What 0 and 1 stand for, in logarithms where the dimension is log, and the cells if any.

        As Optuna draws it: of an int on a log scale, from half below the least to half above.
        """
        low, high, step = self._dimension.low, self._dimension.high, self._dimension.step
        assert low is not None and high is not None
        whole = self._dimension.type == "int"
        if self._dimension.log:
            half = 0.5 if whole else 0.0
            return math.log(low - half), math.log(high + half), 0
        step = step or (1 if whole else None)
        return low, high, 0 if step is None else round((high - low) / step) + 1
