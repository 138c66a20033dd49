"""A dimension in Optuna's words: its distribution, and values there and back."""

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from search.study.space import Dimension, among


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return a dimension as Optuna has it: of a categorical, the places of its choices."""
    low, high, step, log = dimension.low, dimension.high, dimension.step, dimension.log
    match dimension.type:
        case "categorical":
            assert dimension.choices is not None
            return CategoricalDistribution(range(len(dimension.choices)))
        case "int":
            assert isinstance(low, int) and isinstance(high, int)
            return IntDistribution(low, high, log=log, step=int(step or 1))
        case "float":
            assert low is not None and high is not None
            return FloatDistribution(low, high, log=log, step=step)


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """Return what Optuna draws of a dimension."""
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
    raise AssertionError(distribution)


def encode(dimension: Dimension, value: Any) -> Any:
    """Return a value as Optuna has it: a choice as its index, for it may be a list."""
    if dimension.choices is None:
        return value
    return next(i for i, choice in enumerate(dimension.choices) if among(value, (choice,)))


def decode(dimension: Dimension, value: Any) -> Any:
    """Return a value of Optuna's as a study has it."""
    return value if dimension.choices is None else dimension.choices[value]
