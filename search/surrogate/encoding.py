"""Configurations as points: what a model computes with, and back.

A number lies in [0, 1] on the scale on which it is drawn, in the middle of its cell where it has
steps; so do choices that are three or more ascending numbers. Other choices are their places. Where
the conditions of a dimension do not hold, a number lies in the middle and a choice is one of its
own, which equals no other: the dimension that decides says already how far two such points are.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.study.space import Dimension, active, among, ordered

Array = NDArray[np.float64]

INACTIVE_NUMBER = 0.5
INACTIVE_CHOICE = -1.0


class Encoding:
    """Maps the parameters of a space to points and back.

    Args:
        space: The dimensions of a study, in any order.

    Attributes:
        choices: For each column of a point, how many choices it has; 0 for a number.
    """

    def __init__(self, space: Mapping[str, Dimension]):
        self.space = dict(space)
        self._columns = {name: _Column(dimension) for name, dimension in ordered(space)}
        self.choices = [column.choices for column in self._columns.values()]
        self._conditions = [self._condition(dimension) for _, dimension in ordered(space)]

    def _condition(self, dimension: Dimension) -> list[tuple[int, Array]]:
        """Return the columns that decide on a dimension, and where they have to be."""
        names = list(self._columns)
        return [
            (
                names.index(parent),
                np.array([self._columns[parent].place(value) for value in values]),
            )
            for parent, values in dimension.when.items()
        ]

    def encode(self, params: Mapping[str, Any]) -> Array:
        """Return the point (columns,) of parameters, which may lack inactive ones."""
        return np.array(
            [
                column.place(params[name]) if name in params else column.inactive
                for name, column in self._columns.items()
            ]
        )

    def decode(self, point: Array) -> dict[str, Any]:
        """Return the parameters of a point, of the active dimensions and in the space's order."""
        values = {
            name: column.value(float(place))
            for (name, column), place in zip(self._columns.items(), point, strict=True)
        }
        return {name: values[name] for name in active(self.space, values)}

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Return random points (count, columns)."""
        return self._settle(rng.random((count, len(self._columns))))

    def vary(self, rng: np.random.Generator, points: Array, sd: float) -> Array:
        """Return points (count, columns) near given ones, each with one dimension moved or more.

        Args:
            rng: Gives the draws.
            points: Encoded ones.
            sd: Standard deviation of the move of a number; a choice is drawn anew.
        """
        count, columns = len(points), len(self._columns)
        moved = rng.random(points.shape) < max(1.5 / columns, 0.3)
        moved[np.arange(count), rng.integers(0, columns, count)] = True
        number = np.clip(points + sd * rng.standard_normal(points.shape), 0, 1)
        anew = rng.random(points.shape)
        for index, choices in enumerate(self.choices):
            inactive = points[:, index] == INACTIVE_CHOICE
            kept = np.where(inactive, anew[:, index], (points[:, index] + 0.5) / max(1, choices))
            where = moved[:, index]
            if choices:
                number[:, index] = np.where(where, anew[:, index], kept)
            else:
                number[:, index] = np.where(where, number[:, index], points[:, index])
        return self._settle(number)

    def _settle(self, shares: Array) -> Array:
        """Return the points of places in [0, 1], of which the inactive are set apart."""
        points = np.empty_like(shares)
        inactive = np.zeros(shares.shape, dtype=bool)
        for index, column in enumerate(self._columns.values()):
            points[:, index] = column.settle(shares[:, index])
            for parent, places in self._conditions[index]:
                near = abs(points[:, parent, None] - places) < 1e-9
                inactive[:, index] |= inactive[:, parent] | ~near.any(axis=1)
            points[inactive[:, index], index] = column.inactive
        return points


class _Column:
    """One dimension."""

    def __init__(self, dimension: Dimension):
        self.dimension = dimension
        self._listed = dimension.choices
        ascending = self._listed is not None and _ascending(self._listed)
        self.choices = len(self._listed) if self._listed is not None and not ascending else 0
        self.inactive = INACTIVE_CHOICE if self.choices else INACTIVE_NUMBER
        if self._listed is not None:
            low, high, step, self._log = 0.0, len(self._listed) - 1.0, 1.0, False
        else:
            assert dimension.low is not None and dimension.high is not None
            low, high, self._log = float(dimension.low), float(dimension.high), dimension.log
            step = float(dimension.step or (dimension.type == "int"))
        self._step, self._least = step, low
        self._cells = round((high - low) / step) + 1 if step and not self._log else 0
        ends = low - step / 2, high + step / 2
        self._low, self._high = map(math.log, ends) if self._log else ends

    def place(self, value: Any) -> float:
        """Return where a value lies."""
        if self._listed is not None:
            index = next(i for i, choice in enumerate(self._listed) if among(value, (choice,)))
            if self.choices:
                return float(index)
            value = index
        number = math.log(value) if self._log else value
        return float(min(max((number - self._low) / (self._high - self._low), 0.0), 1.0))

    def settle(self, shares: Array) -> Array:
        """Return the nearest places of a value to uniform draws from [0, 1], (count,)."""
        if self.choices:
            shares = np.floor(shares * self.choices)
            return np.minimum(shares, self.choices - 1, dtype=np.float64)
        if self._cells:
            cells = np.minimum(np.floor(shares * self._cells), self._cells - 1)
            return np.asarray((cells + 0.5) / self._cells)
        if self._step:  # whole numbers on a log scale
            whole = np.round(np.exp(self._low + shares * (self._high - self._low)))
            whole = np.clip(whole, self.dimension.low, self.dimension.high)
            return np.asarray((np.log(whole) - self._low) / (self._high - self._low))
        return shares

    def value(self, place: float) -> Any:
        """Return the value that lies at a place; of an inactive one, any."""
        dimension = self.dimension
        if self.choices:
            assert self._listed is not None
            return self._listed[int(place)]
        if self._cells:
            cell = min(int(place * self._cells), self._cells - 1)
            if self._listed is not None:
                return self._listed[cell]
            step = Decimal(str(dimension.step or 1))
            exact = Decimal(str(dimension.low)) + step * cell
            return int(exact) if dimension.type == "int" else float(exact)
        number = self._low + place * (self._high - self._low)
        number = math.exp(number) if self._log else number
        assert dimension.low is not None and dimension.high is not None
        number = min(max(number, dimension.low), dimension.high)
        return round(number) if dimension.type == "int" else number


def _ascending(choices: tuple[Any, ...]) -> bool:
    """Return whether choices are numbers in their order, so that the middle one lies between."""
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)
    return numbers and len(choices) > 2 and all(a < b for a, b in pairwise(choices))
