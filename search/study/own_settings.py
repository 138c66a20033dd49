"""The settings that a trainer of one's own has: a pydantic model, a dataclass, a dict or a file.

Only `launch` and what trains import what a study file names, never a look at somebody's folder.
"""

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined, to_jsonable_python

from search.study.own_trainer import OwnTrainer
from trainer.configfile import ConfigError, did_you_mean, flatten, nest, quoted, read_yaml

OURS = ("search", "trainer", "spaces")
"""Packages that segtune installs."""
OF_A_STUDY = ("epochs", "seed", "data.store", "data.fold")
"""What the study file says, for a trainer whose settings have them."""


class OwnSettings:
    """What may be set, and how it is by default.

    Args:
        kind: A pydantic model or a dataclass (classes), a mapping of defaults, or None for
            anything.
        where: What to call it.
    """

    def __init__(self, kind: Any, where: str):
        self._kind = kind
        self._where = where
        self._names = {} if kind is None else dict(_names(kind))

    @property
    def takes_anything(self) -> bool:
        """Whether nothing is known of what may be set."""
        return self._kind is None

    @property
    def defaults(self) -> dict[str, Any]:
        """By dotted name, as JSON values; what has none is not in it."""
        found = flatten(_defaults(self._kind)) if self._kind is not None else {}
        return {name: value for name, value in found.items() if name not in ("epochs", "seed")}

    def takes(self, name: str) -> bool:
        """Return whether there is a setting of this dotted name."""
        if self._kind is None:
            return True
        if name in self._names:
            return True
        while name:
            name = name.rpartition(".")[0]
            if self._names.get(name) == "open":
                return True
        return False

    def problem(self, name: str) -> str:
        """Return why a name is none of a setting; empty where it is one."""
        if self.takes(name):
            return ""
        below = [other for other in self._names if other.startswith(f"{name}.")]
        if below:
            return f"is a section; its settings are {', '.join(below)}"
        return f"no such setting of {self._where}{did_you_mean(name, self._names)}"

    def check(self, settings: Mapping[str, Any], where: str | Path) -> None:
        """Check resolved settings.

        Args:
            settings: Nested, with what the study says.
            where: To name in errors.

        Raises:
            ConfigError: One line for each that is not taken.
        """
        flat = flatten(settings)
        lines = [
            f"{where}: {name}: {problem}"
            for name in flat
            if name not in OF_A_STUDY and (problem := self.problem(name))
        ]
        if isinstance(self._kind, Mapping):
            given = flatten(self._kind)
            lines += [
                f"{where}: {name}: {quoted(value)}: {rule}"
                for name, value in flat.items()
                if (rule := _unlike(given.get(name), value))
            ]
        if lines:
            raise ConfigError(lines)
        try:
            self.build(settings)
        except ValidationError as error:
            raise ConfigError(
                dict.fromkeys(_line(each, where) for each in error.errors())
            ) from error
        except Exception as error:  # whatever a person's class does when it is made
            raise ConfigError([f"{where}: {self._where}: {_told(error)}"]) from error

    def build(self, settings: Mapping[str, Any]) -> Any:
        """Return settings as the trainer wants them: an instance, or a dict.

        Raises:
            ValidationError: They are none.
        """
        if self._kind is None or isinstance(self._kind, Mapping):
            return dict(settings)
        flat = {
            name: value
            for name, value in flatten(settings).items()
            if name not in OF_A_STUDY or self.takes(name)
        }
        return TypeAdapter(self._kind).validate_python(nest(flat))


def own_settings(trainer: OwnTrainer) -> OwnSettings:
    """Import what a trainer's settings are; its function too, so that a wrong name is told.

    Raises:
        ConfigError: Something that is named is not there, or is none of these.
    """
    kind, where = None, trainer.settings or ""
    if trainer.python:
        function = imported(trainer, trainer.python, "trainer.python")
        _check_signature(function, trainer.python)
        kind = _annotated(function)
        where = where or f"{trainer.python}'s {getattr(kind, '__name__', 'config')}"
    if trainer.settings:
        key = "trainer.settings"
        if trainer.settings.endswith((".yaml", ".yml")):
            kind = read_yaml(Path(trainer.folder or ".") / trainer.settings)
        else:
            kind = imported(trainer, trainer.settings, key)
        if not (isinstance(kind, Mapping) or _is_section(kind)):
            raise ConfigError(
                [f"{key}: {trainer.settings}: must be a pydantic model, a dataclass (the classes) "
                 "or a dict of defaults"]
            )  # fmt: skip
    try:
        return OwnSettings(kind, where)
    except Exception as error:  # annotations that name nothing, say
        raise ConfigError([f"trainer.settings: {where}: {_told(error)}"]) from error


def imported(trainer: OwnTrainer, place: str, key: str) -> Any:
    """Import `module:name` from a trainer's folder, or from where Python finds it.

    Raises:
        ConfigError: It is not there.
    """
    module, _, name = place.partition(":")
    try:
        found = _import(module, trainer.folder)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            rule = f"no module {error.name} in {trainer.folder} or where Python finds any"
            way = "is trainer.folder right?"
            if module.partition(".")[0] in OURS:
                way = "segtune has a package of that name: call yours otherwise"
            raise ConfigError([f"{key}: {place}: {rule}; {way}"]) from error
        raise ConfigError([f"{key}: {place}: {error}"]) from error
    except Exception as error:  # whatever a person's module does when it is imported
        raise ConfigError([f"{key}: {place}: {_told(error)}"]) from error
    try:
        return reduce(getattr, name.split("."), found)
    except AttributeError as error:
        hint = did_you_mean(name, (each for each in vars(found) if not each.startswith("_")))
        raise ConfigError([f"{key}: {place}: {module} has no {name}{hint}"]) from error


def _import(module: str, folder: str | None) -> Any:
    """Import a module that lies in a folder perhaps, where the rest of its package is found later.

    The folder comes first only meanwhile: it may have packages of the names of segtune's.
    """
    if folder is None:
        return importlib.import_module(module)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _told(error: Exception) -> str:
    """Return in a line what a person's code raised."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _annotated(function: Any) -> Any:
    """Return what the first argument of a function is annotated with, if that is a section."""
    try:
        hints = get_type_hints(function)
        first = next(iter(inspect.signature(function).parameters), "")
    except (NameError, TypeError, ValueError):
        return None
    return hints.get(first) if _is_section(hints.get(first)) else None


def _check_signature(function: Any, place: str) -> None:
    if not callable(function):
        raise ConfigError([f"trainer.python: {place}: {quoted(function)}: must be a function"])
    try:
        inspect.signature(function).bind(None, None, received=-1)
    except TypeError as error:
        rule = "must be callable as fit(config, run_dir, received=-1)"
        raise ConfigError([f"trainer.python: {place}: {rule}: {error}"]) from error
    except ValueError:  # of what is not written in Python
        return


def _is_section(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)


def _fields(kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, annotation and default of each field; PydanticUndefined for none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            default = field.get_default(call_default_factory=False)
            if field.default_factory is not None and not field.default_factory_takes_validated_data:
                default = field.get_default(call_default_factory=True)
            yield field.alias or name, field.annotation, default
        return
    hints = get_type_hints(kind)
    for each in dataclasses.fields(kind):
        if each.init:
            default = PydanticUndefined if each.default is dataclasses.MISSING else each.default
            if each.default_factory is not dataclasses.MISSING:
                default = each.default_factory()
            yield each.name, hints.get(each.name, Any), default


def _names(kind: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each dotted name: `open` where any may stand below it, else `leaf`."""
    if isinstance(kind, Mapping):
        for name, value in flatten(kind, prefix).items():
            yield name, "open" if value == {} else "leaf"
        return
    if isinstance(kind, type) and issubclass(kind, BaseModel) and _takes_extra(kind):
        yield prefix.rstrip("."), "open"
    for name, annotation, _ in _fields(kind):
        section = next((each for each in _alternatives(annotation) if _is_section(each)), None)
        if section:
            yield from _names(section, f"{prefix}{name}.")
            continue
        free = any(
            each in (Any, object, dict) or get_origin(each) in (dict, Mapping)
            for each in _alternatives(annotation)
        )
        yield f"{prefix}{name}", "open" if free else "leaf"


def _takes_extra(kind: type[BaseModel]) -> bool:
    return kind.model_config.get("extra") == "allow"


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    inside = getattr(annotation, "__args__", ())
    union = get_origin(annotation) is not None and not isinstance(get_origin(annotation), type)
    is_union = type(annotation).__name__ == "UnionType" or union
    return (annotation, *inside) if is_union else (annotation,)


def _defaults(kind: Any) -> dict[str, Any]:
    if isinstance(kind, Mapping):
        return dict(to_jsonable_python(nest(flatten(kind))))
    found: dict[str, Any] = {}
    for name, annotation, default in _fields(kind):
        if default is not PydanticUndefined:
            found[name] = to_jsonable_python(default, fallback=str)
        elif _is_section(annotation):
            found[name] = _defaults(annotation)
    return found


def _unlike(default: Any, value: Any) -> str:
    """Return what a value of a plain dict must be, by its default; empty where it is that."""
    if default is None or value is None or default == {}:
        return ""
    if isinstance(default, bool) or isinstance(value, bool):
        return "" if isinstance(default, bool) and isinstance(value, bool) else (
            "must be true or false" if isinstance(default, bool) else f"must be like {default!r}"
        )  # fmt: skip
    if isinstance(default, int) and isinstance(value, float) and not value.is_integer():
        return f"must be a whole number, as its default {default} is; {float(default)} takes any"
    for kind, rule in (((int, float), "a number"), (str, "text"), ((list, tuple), "a list")):
        if isinstance(default, kind):
            return "" if isinstance(value, kind) else f"must be {rule}, as its default {default!r}"
    return ""


def _line(problem: Any, where: str | Path) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    rule = problem["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where}: {key}: required, but not given"
    if problem["type"] == "value_error":
        return f"{where}: {key}: {rule}" if key else f"{where}: {rule}"
    return f"{where}: {key}: {quoted(problem['input'])}: {rule}"
