"""Problems that are formulas: the unit cube of a space, and the best point of it."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import differential_evolution

from search.study.space import Dimension, active, draw, ordered
from tests.bench.search.problems.problem import Params

Space = dict[str, Dimension]


def place(dimension: Dimension, value: Any) -> float:
    """Return where a value lies in its range, from 0 to 1; of a choice, the middle of its part."""
    if dimension.choices is not None:
        return (dimension.choices.index(value) + 0.5) / len(dimension.choices)
    assert dimension.low is not None and dimension.high is not None
    low, high, value = (
        np.log(v) if dimension.log else v for v in (dimension.low, dimension.high, value)
    )
    return float((value - low) / (high - low))


def parameters(space: Space, point: np.ndarray) -> dict[str, Any]:
    """Return the parameters at a point of the unit cube, of dimensions whose conditions hold."""
    coordinates = dict(zip(space, point, strict=True))
    params: dict[str, Any] = {}
    for name, dimension in ordered(space):
        if name in active(space, params):
            params[name] = _value(dimension, float(coordinates[name]))
    return params


def _value(dimension: Dimension, at: float) -> Any:
    if dimension.choices is not None:
        return dimension.choices[min(int(at * len(dimension.choices)), len(dimension.choices) - 1)]
    assert dimension.low is not None and dimension.high is not None
    if dimension.log:
        value = float(np.exp(np.log(dimension.low) + at * np.log(dimension.high / dimension.low)))
        value = min(max(value, dimension.low), dimension.high)
    else:
        value = dimension.low + at * (dimension.high - dimension.low)
    return round(value) if dimension.type == "int" else value


def best_and_median(space: Space, loss: Callable[[Params], float]) -> tuple[float, float]:
    """Return the least loss of a space and that of its median configuration.

    The median is that of 1,001 random ones; the least is found by differential evolution.
    """
    rng = random.Random(0)
    drawn = [loss(draw(space, rng, given={})) for _ in range(1001)]
    found = differential_evolution(
        lambda point: loss(parameters(space, point)),
        bounds=[(0.0, 1.0)] * len(space),
        rng=np.random.default_rng(0),
        popsize=8,
        maxiter=60,
        polish=False,
    )
    return min(float(found.fun), *drawn), float(np.median(drawn))
