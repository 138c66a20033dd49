"""The dimensions of a search space: their kinds and conditions. Imports neither ray nor optuna."""

import math
import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from trainer.configfile import Section, did_you_mean, quoted

MAX_CHOICES = 1000
MAX_STEPS = 10**9
"""Between low and high."""

Scalar = bool | int | float | str | None


def _plain(value: Any) -> Any:
    """Return a choice as plain JSON values.

    Raises:
        ValueError: It is neither a value nor a list of values.
    """
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, Scalar) for item in items):
        raise ValueError(f"{quoted(value)}: must be a value or a list of values")
    return items if isinstance(value, list | tuple) else value


Choice = Annotated[Scalar | list[Scalar], BeforeValidator(_plain)]
Confidence = Literal["low", "medium", "high"]


class Dimension(Section):
    """One searched setting, in Optuna's words."""

    type: Literal["float", "int", "categorical"]
    """A float or int has a range, a categorical has choices."""
    low: int | float | None = None
    """Smallest value of a float or int, inclusive."""
    high: int | float | None = None
    """Largest value, inclusive."""
    step: int | float | None = Field(default=None, gt=0)
    """Distance between the possible values; None is 1 for an int and continuous for a float."""
    log: bool = False
    """Whether equal ratios, rather than equal differences, are equally likely."""
    choices: tuple[Choice, ...] | None = None
    """Values of a categorical; a value may be a list, as for data.modalities."""
    when: dict[str, tuple[Choice, ...]] = Field(default_factory=dict)
    """Searched only while each of these dimensions is searched too and has one of these values."""
    prior: Choice = None
    """Value that is thought to be good: tpe, curve_gp and random begin with it, and draw a falling
    share of the trials around it. null is one only where it is among the choices."""
    confidence: Confidence = "medium"
    """How near to the prior the good values are thought to be: of a number they spread by 0.3, 0.15
    or 0.075 of the range, and a choice is kept with a probability of 0.4, 0.6 or 0.8."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dump a dimension without a prior as versions did that knew of none."""
        values: dict[str, Any] = dump(self)
        if not self.has_prior:
            values = {key: values[key] for key in values if key not in ("prior", "confidence")}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.type == "categorical":
            self._check_categorical()
        else:
            self._check_number()
        self._check_prior()
        return self

    @property
    def has_prior(self) -> bool:
        """Whether a value of it is stated as a prior."""
        null = "prior" in self.model_fields_set and among(None, self.choices or ())
        return self.prior is not None or null

    def _check_prior(self) -> None:
        if self.has_prior and not self.contains(self.prior):
            hint = did_you_mean(str(self.prior), [str(choice) for choice in self.choices or ()])
            raise ValueError(f"prior is {quoted(self.prior)}, but {self.rule()}{hint}")
        if "confidence" in self.model_fields_set and not self.has_prior:
            raise ValueError(f"confidence is {self.confidence}, but there is no prior")

    def _check_categorical(self) -> None:
        for name in ("low", "high", "step", "log"):
            if getattr(self, name):
                raise ValueError(f"{name} is given, but a categorical has only choices")
        if not self.choices:
            raise ValueError("choices: required for a categorical, but not given")
        if len(self.choices) > MAX_CHOICES:
            raise ValueError(f"choices has {len(self.choices)} values, but may have {MAX_CHOICES}")
        for index, choice in enumerate(self.choices):
            if among(choice, self.choices[:index]):
                raise ValueError(f"choices has {quoted(choice)} twice")

    def _check_number(self) -> None:
        if self.choices is not None:
            raise ValueError(f"choices is given, but a {self.type} has low and high")
        if self.low is None or self.high is None:
            missing = "low" if self.low is None else "high"
            raise ValueError(f"{missing}: required for a {self.type}, but not given")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low}, but must be below high ({self.high})")
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"high - low ({self.high} - {self.low}) must be finite")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, but must be above 0 for log: true")
        if self.log and self.step is not None:
            raise ValueError(f"step is {self.step}, but log: true allows none")
        if self.type == "int":
            for name in ("low", "high", "step"):
                value = getattr(self, name)
                if isinstance(value, float):
                    raise ValueError(f"{name} is {value}, but must be a whole number for an int")
        if self.step is not None and self.step * MAX_STEPS < self.high - self.low:
            raise ValueError(f"step is {self.step}, but low to high may have {MAX_STEPS:g} steps")
        if self.step is not None and _remainder(self.high - self.low, self.step):
            raise ValueError(
                f"step is {self.step}, but high - low ({self.high} - {self.low}) must be a multiple"
            )

    def values(self) -> list[Any]:
        """Return the values to check: all choices, or both ends and one between them."""
        if self.choices is not None:
            return list(self.choices)
        assert self.low is not None and self.high is not None
        # One between, since a float from 8 to 16 fits a whole-number setting at its ends only: it
        # must not be a whole number by chance.
        step = self.step or (1 if self.type == "int" else (self.high - self.low) / math.pi)
        return [self.low, self.low + step, self.high]

    def draw(self, rng: random.Random) -> Any:
        """Return a random value."""
        if self.choices is not None:
            return rng.choice(self.choices)
        assert self.low is not None and self.high is not None
        if self.step is not None or (self.type == "int" and not self.log):
            step = Decimal(str(self.step or 1))
            low, high = Decimal(str(self.low)), Decimal(str(self.high))
            value: float = float(low + step * rng.randint(0, int((high - low) / step)))
        elif self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            value = min(max(value, self.low), self.high)
        else:
            value = rng.uniform(self.low, self.high)
        return round(value) if self.type == "int" else value

    def contains(self, value: Any) -> bool:
        """Return whether the dimension can take a value."""
        if self.choices is not None:
            return among(value, self.choices)
        assert self.low is not None and self.high is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.type == "int" and not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        return self.step is None or not _remainder(value - self.low, self.step)

    def rule(self) -> str:
        """Return what a value must be, in words."""
        if self.choices is not None:
            return f"must be one of {', '.join(map(str, self.choices))}"
        step = f" in steps of {self.step}" if self.step else ""
        kind = "a whole number " if self.type == "int" else ""
        return f"must be {kind}from {self.low} to {self.high}{step}"


def _remainder(value: float, step: float) -> bool:
    """Return whether value is no multiple of step, as written: 0.3 is one of 0.1."""
    ratio = Decimal(str(value)) / Decimal(str(step))
    return abs(ratio - round(ratio)) > Decimal("1e-9")


def among(value: Any, values: tuple[Any, ...]) -> bool:
    """Return whether a value is one of several: 1 is 1.0 but not True, a list may be a tuple."""
    return any(_same(value, other) for other in values)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def stated(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return the values that a space states as priors, by dimension."""
    return {name: dimension.prior for name, dimension in space.items() if dimension.has_prior}


def active(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> list[str]:
    """Return the names that are searched under `when`, given the values chosen so far.

    A dimension whose condition's dimension is itself not searched is not either.
    """
    found = set()
    for name, dimension in ordered(space):
        if all(
            parent in found and parent in params and among(params[parent], values)
            for parent, values in dimension.when.items()
        ):
            found.add(name)
    return [name for name in space if name in found]


def draw(
    space: Mapping[str, Dimension], rng: random.Random, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return random parameters beside given ones, of dimensions whose conditions hold."""
    params: dict[str, Any] = {}
    for name, dimension in ordered(space):
        if name in active(space, params):
            params[name] = given[name] if name in given else dimension.draw(rng)
    return params


def placed(
    space: Mapping[str, Dimension], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return what a trial's settings are in a space, and a line for each that is outside it."""
    here: dict[str, Any] = {}
    outside = []
    for name, dimension in ordered(space):
        if name in active(space, here):
            value = here[name] = _as_drawn(dimension, settings.get(name))
            if not dimension.contains(value):
                outside.append(f"{name}: {value!r}: {dimension.rule()}")
    return here, outside


def _as_drawn(dimension: Dimension, value: Any) -> Any:
    """Return a value with the type that the dimension's own have: 8.0 is the choice 8."""
    if dimension.choices is not None:
        return next((choice for choice in dimension.choices if among(value, (choice,))), value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if dimension.type == "float":
        return float(value)
    return int(value) if value == int(value) else value


def ordered(space: Mapping[str, Dimension]) -> Iterator[tuple[str, Dimension]]:
    """Yield the dimensions with every condition's dimension before those that depend on it.

    Those in a circle of conditions are left out; no study has one (search/study/checks.py).
    """
    levels = _levels(space)
    for name in sorted(levels, key=lambda name: levels[name]):
        yield name, space[name]


def _levels(space: Mapping[str, Dimension]) -> dict[str, int]:
    """Return how many conditions stand above each dimension that is in no circle of them."""
    levels: dict[str, int] = {}
    while True:
        found = {
            name: 1 + max((levels.get(parent, 0) for parent in dimension.when), default=-1)
            for name, dimension in space.items()
            if name not in levels
            and all(parent in levels or parent not in space for parent in dimension.when)
        }
        if not found:
            return {name: levels[name] for name in space if name in levels}
        levels |= found


def circle(space: Mapping[str, Dimension]) -> list[str]:
    """Return dimensions of which each has the next as a condition, the last the first; or none."""
    entangled = space.keys() - _levels(space).keys()
    path = [name for name in space if name in entangled][:1]
    while path:
        above = next(parent for parent in space[path[-1]].when if parent in entangled)
        if above in path:
            return path[path.index(above) :]
        path.append(above)
    return []


def context(space: Mapping[str, Dimension], name: str) -> dict[str, Any] | None:
    """Return values under which a dimension is searched: its conditions' and in turn theirs.

    None if they exclude each other, so that it never is.
    """
    allowed: dict[str, tuple[Any, ...]] = {}
    above = [name]
    while above:
        for parent, values in space[above.pop()].when.items():
            if parent not in allowed and parent in space:
                above.append(parent)
            before = allowed.get(parent, values)
            allowed[parent] = tuple(value for value in values if among(value, before))
    if not all(allowed.values()):
        return None
    return {parent: values[0] for parent, values in allowed.items()}
