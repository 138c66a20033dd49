"""Configuration from files and `KEY=VALUE`, with errors that a person can act on."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from trainer.hints.other_names import meant_by
from trainer.hints.written_numbers import number_meant
from trainer.terminal import in_one_line

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A frozen group of settings; a misspelt key is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true for 1: pydantic would take it."""
        if isinstance(value, bool) and info.field_name:
            kind = cls.model_fields[info.field_name].annotation
            kinds = {kind, *get_args(kind)}
            if kinds & {int, float} and bool not in kinds:
                raise ValueError(f"{str(value).lower()}: must be a number")
        return value


class ConfigError(ValueError):
    """Bad configuration: one line per problem, `where: key: value: rule; did you mean …?`."""

    def __init__(self, lines: Iterable[str]):
        self.lines = [in_one_line(line) for line in lines]
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[str]]]:
        """Reach other processes as it is: by itself, an exception is made again of its text."""
        return type(self), (self.lines,)


_PLAIN = {str, int, float, bool, type(None)}
"""Types of nearly all values of settings."""

MAX_BYTES = 1 << 20
MAX_NODES = 10_000
"""Keys and values of a file, those that an alias repeats counted again."""
MAX_DEPTH = 50
MAX_KEY = 200
"""Characters of a key."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number (YAML 1.2) and refuses what no configuration has.

    That is a key given twice or that is no text, numbers that YAML 1.1 reads as few people do (010,
    1:30) or that do not fit in 64 bits, and files that are too large once aliases are followed.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _check_size(node)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"
        keys = Counter(self._key(key) for key, _ in node.value if key.tag != merge)
        for key, times in keys.items():
            if times > 1:
                raise _refusal(f"key {key!r} is given twice", node)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        self.construct_scalar(node)  # refuses `!!int [1]`
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", node.value):
            rule = "must be decimal, or hexadecimal after 0x"
            raise _refusal(f"{quoted(node.value)}: {rule}{_after_a_comma(node)}", node)
        if (
            len(node.value) > 25
            or not -(2**63) <= (value := super().construct_yaml_int(node)) < 2**63
        ):
            raise _refusal(f"{quoted(node.value)}: must be a number below 2**63", node)
        return value

    def _key(self, node: yaml.Node) -> str:
        if node.tag.endswith(":bool") and node.value in ("on", "off", "yes", "no"):
            node.tag = "tag:yaml.org,2002:str"  # as in YAML 1.2
        key = self.construct_object(node, deep=True)
        if not isinstance(key, str) or not key.isprintable():
            raise _refusal(f"key {quoted(key)}: must be text{_after_a_comma(node)}", node)
        if len(key) > MAX_KEY:
            raise _refusal(f"key {quoted(key)}: must have at most {MAX_KEY} characters", node)
        return key


def _after_a_comma(node: yaml.Node) -> str:
    """Return a remedy where a number's decimal comma has made two values of it."""
    mark = node.start_mark
    before = re.search(r"[-+]?\d+,$", mark.buffer[: mark.pointer]) if mark.buffer else None
    return f"; did you mean {before[0][:-1]}.{node.value}?" if before else ""


def _refusal(rule: str, node: yaml.Node) -> ValueError:
    return ValueError(f"line {node.start_mark.line + 1}: {rule}")


def _check_size(root: yaml.Node) -> None:
    """Refuse what is too large or too deep to be meant, and what holds itself."""
    sizes: dict[yaml.Node, int] = {}

    def size(node: yaml.Node, above: tuple[yaml.Node, ...]) -> int:
        if node in above:
            raise _refusal("holds itself", node)
        if len(above) > MAX_DEPTH:
            raise _refusal(f"is nested more than {MAX_DEPTH} deep", node)
        if node not in sizes:
            below = node.value if isinstance(node, yaml.CollectionNode) else []
            nodes = chain.from_iterable(below) if isinstance(node, yaml.MappingNode) else below
            sizes[node] = 1 + sum(size(each, (*above, node)) for each in nodes)
        return sizes[node]

    if (count := size(root, ())) > MAX_NODES:
        raise _refusal(f"has {quoted(count)} keys and values, but may have {MAX_NODES}", root)


def _parse(text: str) -> Any:
    """Read YAML.

    Raises:
        ValueError: It is not YAML, or not what a configuration can be; one line.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"has {len(text)} characters, but may have {MAX_BYTES}")
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problem = ", ".join(filter(None, (error.context, error.problem)))
        begun = text.splitlines()[error.context_mark.line] if error.context_mark else ""
        hint = "; ` #` begins a comment: quote the text" if re.search(r"[{\[].* #", begun) else ""
        raise ValueError(f"not YAML: {where}{_one_line(problem)}{hint}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {_one_line(error)}") from error


def _one_line(error: Exception | str) -> str:
    """Return an error without its line breaks and control characters, and not endless."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(str(error).split()))
    return text if len(text) <= MAX_SHOWN * 4 else f"{text[: MAX_SHOWN * 4]}…"


MAX_SHOWN = 80


def quoted(value: Any) -> str:
    """Return a value for an error's line, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _refusing(construct: Callable[[_Loader, yaml.Node], Any], kind: str) -> Callable[..., Any]:
    """Return PyYAML's constructor, which by itself says of a wrong `!!float x` neither line nor x.

    Raises:
        ValueError: The text is no such value.
    """

    def constructed(loader: _Loader, node: yaml.Node) -> Any:
        try:
            return construct(loader, node)
        except (ValueError, AttributeError, KeyError) as error:
            raise _refusal(f"{quoted(node.value)}: must be {kind}", node) from error

    return constructed


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _type, _kind in {"float": "a number", "bool": "true or false", "timestamp": "a date"}.items():
    _tag = f"tag:yaml.org,2002:{_type}"
    _Loader.add_constructor(_tag, _refusing(yaml.SafeLoader.yaml_constructors[_tag], _kind))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
# Resolvers are tried in order of registration: a plain integer must stay one. A date is text.
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _resolvers.sort(key=lambda resolver: resolver[0] != "tag:yaml.org,2002:int")
    _resolvers[:] = [each for each in _resolvers if each[0] != "tag:yaml.org,2002:timestamp"]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, is not a mapping, or contradicts itself.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            values = _parse(file.read(MAX_BYTES + 1))
        if not isinstance(values, dict):
            raise ValueError("expected a mapping of keys to values")
        _check_once(values)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        known = "UTF-16" if error.object.startswith((b"\xff\xfe", b"\xfe\xff")) else "CP1252"
        rule = f"must be UTF-8: iconv -f {known} -t UTF-8"
        raise ConfigError([f"{path}: not YAML: {_one_line(error)}: {rule}"]) from error
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    return values


def _check_once(values: Mapping[str, Any]) -> None:
    """Refuse a setting that is given both dotted and nested: one would silently win."""
    flat = flatten(values)
    for name in flat:
        above = name
        while above := above.rpartition(".")[0]:
            if flat.get(above, {}) != {}:
                raise ValueError(f"{above}: {quoted(flat[above])}: but {name} is given too")


YAML = re.compile(r"""\s*([\[{"'!&*|>]|- |.*\n|([-+]?[.\w~][-+.\w]*|[\d:]+|)\s*$)""")
"""What begins like a list, a mapping or quoted text, has lines, or may be a number or a word."""


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` words, values as YAML: `["optimizer.lr=1e-4"] -> {"optimizer.lr": 0.0001}`.

    A value is a list, a mapping or quoted only where it begins like one. Else it is plain to its
    end: a path may have ` #`, `: ` or any other sign in it.

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
            if len(key) > MAX_KEY or not key.isprintable():
                raise ValueError(f"expected KEY=VALUE, the key of at most {MAX_KEY} characters")
            values[key] = _parse(text) if YAML.match(text) else text.strip()
        except ValueError as error:
            problems.append(f"command line: {_cut(word)}: {error}")
    if problems:
        raise ConfigError(problems)
    return values


def _cut(word: str) -> str:
    return word if len(word) <= MAX_SHOWN and word.isprintable() else quoted(word)


def nest(values: Mapping[str, Any], onto: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Turn dotted keys into nested ones, over a copy of `onto`: `{"a.b": 1} -> {"a": {"b": 1}}`."""
    nested: dict[str, Any] = {
        key: nest(value) if _is_mapping(value) else value for key, value in (onto or {}).items()
    }
    for key, value in values.items():
        *heads, last = key.split(".")
        at = nested
        for head in heads:
            if not isinstance(at.get(head), dict):
                at[head] = {}
            at = at[head]
        if _is_mapping(value):
            below = at.get(last)
            at[last] = nest(value, below if isinstance(below, dict) else None)
        else:
            at[last] = value
    return nested


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    # To ask a number whether it is a Mapping takes longer than all else here.
    return type(value) not in _PLAIN and isinstance(value, Mapping)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted ones, the inverse of `nest`.

    Raises:
        ValueError: A key is given twice, nested and dotted.
    """
    flat: dict[str, Any] = {}
    _flatten(values, prefix, flat)
    return flat


def _flatten(values: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    """Add nested values to flat ones."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if _is_mapping(value) and value:
            _flatten(value, f"{name}.", flat)
        elif name in flat:
            raise ValueError(f"{name}: is given twice")
        else:
            flat[name] = value


def build(
    model: type[Model], values: Mapping[str, Any], where: str | Path, also: Iterable[str] = ()
) -> Model:
    """Validate nested `values` as `model`.

    Args:
        model: What they are to be.
        values: The settings.
        where: To name in errors.
        also: Names beside the model's own that an unknown key may be meant to be.

    Raises:
        ConfigError: One line per problem, with the nearest valid name for an unknown key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        names = [*field_names(model), *also]
        # A default that goes by another setting is no problem beside that one.
        found = [e for e in error.errors() if e["type"] != "default_factory_not_called"]
        lines = [line for each in found for line in _lines(names, each, where)]
        raise ConfigError(dict.fromkeys(lines)) from error


def _lines(names: list[str], problem: Any, where: str | Path) -> Iterator[str]:
    *above, last = problem["loc"] or ("",)
    if last in ("int", "float"):  # one line for a number that may be either, pydantic has two
        no_number = not problem["type"].startswith("finite")
        problem = {**problem, "loc": above}
        problem |= {"type": "number", "msg": "must be a number"} if no_number else {}
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        for unknown in flatten({key: problem["input"]}):
            yield f"{where}: {unknown}: no such key{did_you_mean(unknown, names)}"
    else:
        yield _line(names, key, problem, where)


def _line(names: list[str], key: str, problem: Any, where: str | Path) -> str:
    value = problem["input"]
    rule = problem["msg"].replace("Input should be", "must be")
    match problem["type"]:
        case "missing":
            return f"{where}: {key}: required, but not given"
        case "literal_error":
            valid = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
            rule = f"must be {problem['ctx']['expected']}{did_you_mean(str(value), valid)}"
        case "value_error":
            return f"{where}: {key + ': ' if key else ''}{problem['ctx']['error']}"
        case "tuple_type" | "list_type":
            scalar = isinstance(value, str | bool | int | float)
            rule = f"must be a list{f': [{value}]' if scalar else ''}"
        case "dict_type" | "model_type" | "model_attributes_type":
            below = [name for name in names if key and name.rpartition(".")[0] == key]
            rule = "must be a valid dictionary"
            rule += f" with {', '.join(below)}" if 0 < len(below) < 7 else ""
        case _ if isinstance(value, str):
            meant = number_meant(value)
            rule = rule.partition(", unable to parse")[0] + meant if meant else rule
    return f"{where}: {key}: {quoted(value)}: {rule}"


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean NAME?` for the nearest valid name, or nothing.

    A section is only near where it is all but spelt: what is meant otherwise is a setting.
    """
    names = list(valid)
    sections = {each.rpartition(".")[0] for each in names}
    leaves = [each for each in names if each not in sections]
    leaf = name.rsplit(".", 1)[-1]
    near = (
        meant_by(name, names)
        or [each for each in leaves if each.rsplit(".", 1)[-1] == leaf]
        or difflib.get_close_matches(name, names, 1, 0.8)
        or difflib.get_close_matches(name, leaves, 1, 0.6)
        or [
            full
            for full in leaves
            if difflib.get_close_matches(leaf, [full.rsplit(".", 1)[-1]], 1, 0.75)
        ]
    )
    return f"; did you mean {near[0]}?" if near else ""


def field_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields of a configuration, sections and leaves."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from field_names(kind, f"{prefix}{name}.")
