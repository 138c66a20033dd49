"""Configuration from files and `KEY=VALUE`, with errors that a person can act on."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(ValueError):
    """Bad configuration: one line per problem, `where: key: value: rule; did you mean …?`."""

    def __init__(self, lines: Iterable[str]):
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number (YAML 1.2) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
# Resolvers are tried in order of registration: a plain integer must stay one.
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _resolvers.sort(key=lambda resolver: resolver[0] != "tag:yaml.org,2002:int")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, or is not a mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, _Loader)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: expected a mapping of keys to values"])
    return values


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` words, values as YAML: `["optimizer.lr=1e-4"] -> {"optimizer.lr": 0.0001}`.

    Raises:
        ConfigError: A word has no `=` or a value that is not YAML.
    """
    values: dict[str, Any] = {}
    problems = []
    for word in overrides:
        key, equals, text = word.partition("=")
        try:
            if not (equals and key):
                raise ValueError("expected KEY=VALUE")
            values[key] = yaml.load(text, _Loader)
        except (ValueError, yaml.YAMLError):
            problems.append(f"command line: {word}: expected KEY=VALUE")
    if problems:
        raise ConfigError(problems)
    return values


def nest(values: Mapping[str, Any], onto: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Turn dotted keys into nested ones, over a copy of `onto`: `{"a.b": 1} -> {"a": {"b": 1}}`."""
    nested = {
        key: nest(value) if isinstance(value, Mapping) else value
        for key, value in (onto or {}).items()
    }
    for key, value in values.items():
        head, dot, rest = key.partition(".")
        below = nested.get(head)
        if dot:
            nested[head] = nest({rest: value}, below if isinstance(below, Mapping) else None)
        elif isinstance(value, Mapping):
            nested[head] = nest(value, below if isinstance(below, Mapping) else None)
        else:
            nested[head] = value
    return nested


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted ones, the inverse of `nest`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def build(model: type[Model], values: Mapping[str, Any], where: str | Path) -> Model:
    """Validate nested `values` as `model`.

    Raises:
        ConfigError: One line per problem, with the nearest valid name for an unknown key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            line for problem in error.errors() for line in _lines(model, problem, where)
        ) from error


def _lines(model: type[BaseModel], problem: Any, where: str | Path) -> Iterator[str]:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        names = list(field_names(model))
        for unknown in flatten({key: problem["input"]}):
            yield f"{where}: {unknown}: no such key{did_you_mean(unknown, names)}"
    else:
        yield _line(key, problem, where)


def _line(key: str, problem: Any, where: str | Path) -> str:
    match problem["type"]:
        case "missing":
            return f"{where}: {key}: required, but not given"
        case "literal_error":
            hint = did_you_mean(
                str(problem["input"]), re.findall(r"'([^']+)'", problem["ctx"]["expected"])
            )
            return (
                f"{where}: {key}: {problem['input']!r}: must be {problem['ctx']['expected']}{hint}"
            )
        case "value_error":
            return f"{where}: {key + ': ' if key else ''}{problem['ctx']['error']}"
    rule = problem["msg"].replace("Input should be", "must be")
    return f"{where}: {key}: {problem['input']!r}: {rule}"


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean NAME?` for the nearest valid name, or nothing."""
    names = list(valid)
    leaf = name.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, names, 1, 0.6) or [
        full
        for full in names
        if difflib.get_close_matches(leaf, [full.rsplit(".", 1)[-1]], 1, 0.75)
    ]
    return f"; did you mean {near[0]}?" if near else ""


def field_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields of a configuration, sections and leaves."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from field_names(kind, f"{prefix}{name}.")
