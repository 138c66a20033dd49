"""The dimensions of a search space: their kinds, conditions, and checks against the trainer."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from trainer.config import Section, TrainConfig
from trainer.configfile import ConfigError, did_you_mean, field_names

if TYPE_CHECKING:
    from search.study import StudyConfig

OWNED = {
    "data.store": "data.store of the study",
    "data.fold": "data.fold of the study",
    "epochs": "scheduler.max_t",
}
"""Trainer settings that the study file has elsewhere."""

FIDELITY = ("epoch_images", "validate_every")
"""Trainer settings that must be equal in all trials, or an epoch would not compare."""


Scalar = bool | int | float | str | None


class Dimension(Section):
    """One searched setting, in Optuna's words."""

    type: Literal["float", "int", "categorical"]
    low: int | float | None = None
    """Smallest value of a float or int, inclusive."""
    high: int | float | None = None
    """Largest value, inclusive."""
    step: int | float | None = Field(default=None, gt=0)
    """Distance between the possible values; None is 1 for an int and continuous for a float."""
    log: bool = False
    """Whether equal ratios, rather than equal differences, are equally likely."""
    choices: tuple[Scalar, ...] | None = None
    """Values of a categorical."""
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    """Searched only while each of these dimensions has one of these values."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.type == "categorical":
            self._check_categorical()
        else:
            self._check_number()
        return self

    def _check_categorical(self) -> None:
        for name in ("low", "high", "step", "log"):
            if getattr(self, name):
                raise ValueError(f"{name} is given, but a categorical has only choices")
        if not self.choices:
            raise ValueError("choices: required for a categorical, but not given")
        seen = [(isinstance(choice, bool), choice) for choice in self.choices]
        for choice in seen:
            if seen.count(choice) > 1:
                raise ValueError(f"choices has {choice[1]!r} twice")

    def _check_number(self) -> None:
        if self.choices is not None:
            raise ValueError(f"choices is given, but a {self.type} has low and high")
        if self.low is None or self.high is None:
            missing = "low" if self.low is None else "high"
            raise ValueError(f"{missing}: required for a {self.type}, but not given")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low}, but must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, but must be above 0 for log: true")
        if self.log and self.step is not None:
            raise ValueError(f"step is {self.step}, but log: true allows none")
        if self.type == "int":
            for name in ("low", "high", "step"):
                value = getattr(self, name)
                if isinstance(value, float):
                    raise ValueError(f"{name} is {value}, but must be a whole number for an int")
        if self.step is not None and _remainder(self.high - self.low, self.step):
            raise ValueError(
                f"step is {self.step}, but high - low ({self.high} - {self.low}) must be a multiple"
            )

    def values(self) -> list[Scalar]:
        """Return the values to check: all choices, or both ends and one between them."""
        if self.choices is not None:
            return list(self.choices)
        assert self.low is not None and self.high is not None
        # One between, since a float from 8 to 16 fits a whole-number setting at its ends only.
        step = self.step or (1 if self.type == "int" else (self.high - self.low) / 3)
        return [self.low, self.low + step, self.high]

    def contains(self, value: Scalar) -> bool:
        """Return whether the dimension can take a value."""
        if self.choices is not None:
            return (isinstance(value, bool), value) in [
                (isinstance(choice, bool), choice) for choice in self.choices
            ]
        assert self.low is not None and self.high is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.type == "int" and not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        return self.step is None or not _remainder(value - self.low, self.step)


def _remainder(value: float, step: float) -> bool:
    """Return whether value is no multiple of step, as written: 0.3 is one of 0.1."""
    ratio = Decimal(str(value)) / Decimal(str(step))
    return abs(ratio - round(ratio)) > Decimal("1e-9")


def active(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> list[str]:
    """Return the names that are searched under `when`, given the values chosen so far."""
    return [
        name
        for name, dimension in space.items()
        if all(
            parent in params and params[parent] in values
            for parent, values in dimension.when.items()
        )
    ]


def ordered(space: Mapping[str, Dimension]) -> Iterator[tuple[str, Dimension]]:
    """Yield the dimensions with every condition's dimension before those that depend on it."""
    return iter(sorted(space.items(), key=lambda item: bool(item[1].when)))


def params_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an enqueued entry."""
    return {name: value for name, value in entry.items() if name != "protected"}


def check(study: "StudyConfig", where: str, broken: Collection[str] = ()) -> list[str]:
    """Return a study's problems that no single section shows, one line each.

    TrainConfig is built for the control, for every enqueued entry, and for every dimension at its
    ends and in between with the others at their defaults.

    Args:
        study: The study.
        where: Its file.
        broken: Keys whose problems are known already and that have stand-ins here.
    """
    problems = []
    for name in study.train:
        problems += _check_owned(name, f"{where}: train.{name}")
    for name, dimension in study.space.items():
        problems += _check_dimension(study, name, dimension, where, broken)
    try:
        fixed = study.train_config({}, where)
    except ConfigError as error:
        return problems + _locate(error.lines, where, "train")
    if "scheduler" not in broken:
        problems += _check_validations(study, fixed, where)
    for name, dimension in study.space.items():
        if _is_setting(name):
            problems += _check_values(study, name, dimension, where)
    for index, entry in enumerate(study.enqueue):
        problems += _check_entry(study, entry, where, f"enqueue.{index}", broken)
    control = {**study.control_params, "protected": True}
    problems += _check_entry(study, control, where, "control", broken)
    return problems


def _locate(lines: Iterable[str], where: str, key: str) -> list[str]:
    """Name the study's key in the trainer's lines: `model.width: …` -> `train.model.width: …`."""
    located = []
    for line in lines:
        rest = line.removeprefix(f"{where}: ")
        setting = rest.split(": ")[0]
        if key.endswith(f".{setting}"):
            rest = rest.removeprefix(f"{setting}: ")
        joint = ": " if " " in setting or key.startswith("space.") else "."
        located.append(f"{where}: {key}{joint}{rest}")
    return located


def _check_owned(name: str, where: str) -> list[str]:
    if name in OWNED:
        return [f"{where}: cannot be set here; it is {OWNED[name]}"]
    return []


def _is_setting(name: str) -> bool:
    names = set(field_names(TrainConfig))
    return name in names and not any(other.startswith(f"{name}.") for other in names)


def _check_dimension(
    study: "StudyConfig", name: str, dimension: Dimension, where: str, broken: Collection[str]
) -> list[str]:
    """Check a dimension's name and conditions."""
    where = f"{where}: space.{name}"
    names = list(field_names(TrainConfig))
    problems = _check_owned(name, where)
    if name in FIDELITY:
        problems.append(f"{where}: must be equal in all trials; give it in train")
    if name not in names:
        problems.append(f"{where}: no such trainer setting{did_you_mean(name, names)}")
    elif not _is_setting(name):
        below = [other for other in names if other.startswith(f"{name}.")]
        problems.append(f"{where}: is a section; search its settings ({', '.join(below)})")
    if name in study.train:
        problems.append(f"{where}: is fixed in train too; give it in one place")
    for parent, values in dimension.when.items():
        if f"space.{parent}" in broken:
            continue
        if parent not in study.space or parent == name:
            others = [other for other in study.space if other != name]
            hint = did_you_mean(parent, others)
            problems.append(f"{where}.when: {parent}: no such dimension in space{hint}")
            continue
        if study.space[parent].when:
            problems.append(
                f"{where}.when: {parent}: has conditions itself; one level is supported"
            )
        if not values:
            problems.append(f"{where}.when: {parent}: needs at least one value")
        for value in values:
            if not study.space[parent].contains(value):
                choices = [str(choice) for choice in study.space[parent].choices or ()]
                hint = did_you_mean(str(value), choices)
                problems.append(f"{where}.when: {parent}: {value!r}: {parent} never has it{hint}")
    return problems


def _check_validations(study: "StudyConfig", fixed: TrainConfig, where: str) -> list[str]:
    problems = []
    for name in ("max_t", "grace_period") if study.scheduler.type == "asha" else ():
        epochs = getattr(study.scheduler, name)
        if epochs % fixed.validate_every:
            problems.append(
                f"{where}: scheduler.{name}: {epochs}: must be a multiple of "
                f"train.validate_every ({fixed.validate_every})"
            )
    return problems


def _check_values(study: "StudyConfig", name: str, dimension: Dimension, where: str) -> list[str]:
    context = {parent: values[0] for parent, values in dimension.when.items() if values}
    problems = []
    for value in dimension.values():
        try:
            study.train_config({**context, name: value}, where)
        except ConfigError as error:
            problems += _locate(error.lines, where, f"space.{name}")
    return problems


def _check_entry(
    study: "StudyConfig", entry: Mapping[str, Any], where: str, key: str, broken: Collection[str]
) -> list[str]:
    """Check one enqueued entry; only a protected one may leave the space."""
    protected = entry.get("protected", False)
    if not isinstance(protected, bool):
        return [f"{where}: {key}.protected: {protected!r}: must be true or false"]
    params = params_of(entry)
    problems: list[str] = []
    for name, value in params.items():
        here = f"{where}: {key}.{name}"
        problems += _check_owned(name, here)
        if name in FIDELITY:
            problems.append(f"{here}: must be equal in all trials; give it in train")
        if protected or f"space.{name}" in broken:
            continue
        if name not in study.space:
            hint = did_you_mean(name, study.space)
            problems.append(f"{here}: not searched, and the entry is not protected{hint}")
        elif not study.space[name].contains(value):
            problems.append(f"{here}: {value!r}: outside space.{name}")
        elif name not in active(study.space, params):
            when = " and ".join(
                f"{parent} in {list(values)}" for parent, values in study.space[name].when.items()
            )
            problems.append(f"{here}: searched only when the entry has {when}")
    if not problems:
        try:
            study.train_config(params, where)
        except ConfigError as error:
            problems += _locate(error.lines, where, key)
    return problems
