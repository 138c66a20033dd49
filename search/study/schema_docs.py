"""The reference of all settings: `python -m search.study.schema_docs > spaces/README.md`."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from search.study.checks import FIDELITY, OWNED
from search.study.config import StudyConfig
from search.study.own_checks import METRICS
from search.study.shipped import SPACES
from trainer.config import TrainConfig

WORDS = ("question", "command", "cost", "found")
"""What a study's header says, in this order."""

BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
SIMPLE = {int: "integer", float: "number", str: "text", bool: "`true`, `false`", NoneType: "null"}

INTRO = """\
# Studies

<!-- Written by `python -m search.study.schema_docs > spaces/README.md`; do not edit. -->

A study is one YAML file: what is fixed (`train`), what is searched (`space`), by which sampler,
when a trial is stopped, and what it may cost. `segtune launch FILE --dry-run` checks it and shows
what it would do; any key can be changed on the command line, `trials.num_trials=12` or
`space.optimizer.lr.low=1e-5`. FILE is a path, or the name of a study below, such as `quickstart`.
"""


def header(path: Path) -> dict[str, str]:
    """Return what the comment at the top of a study's file says, by WORDS; lines stay lines."""
    said: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not (found := re.fullmatch(r"# (\w*) +(.*)", line)):
            break
        word, text = found.groups()
        if word:
            said[word] = text
        else:
            last = next(reversed(said))
            said[last] += f"\n{text}"
    return said


def reference(spaces: Path) -> str:
    """Return the reference as Markdown: the studies of a folder, and every key of their files."""
    studies = []
    for path in sorted(spaces.glob("*.yaml")):
        said = {word: " ".join(text.split()) for word, text in header(path).items()}
        studies.append((f"[{path.name}]({path.name})", said["question"], said["cost"]))
    metrics = [(f"`{name}`", f"`{mode}`") for name, mode in METRICS.items()]
    head = ("key", "values", "default", "")
    notes = {key: f"In a study it is {place}." for key, place in OWNED.items()}
    notes |= dict.fromkeys(FIDELITY, "In a study only in `train`: it is equal in all trials.")
    return "\n".join(
        [
            INTRO,
            *_table(("study", "question", "cost"), studies),
            "\nThe header of each also has its command and what was found.",
            "\n## A study's file\n",
            *_table(head, _rows(StudyConfig, {})),
            "\n## Metrics\n\nWhat every validation reports, and which way is better.\n",
            *_table(("metric", "mode"), metrics),
            "\n## Trainer settings\n\nFor `train`, `space`, `control`, `references` and `enqueue`, "
            "and for `segtune train`.\n",
            *_table(head, _rows(TrainConfig, notes)),
            "",
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(cell: str) -> str:
    return re.sub(r"([|*])", r"\\\1", cell)


def _rows(
    model: type[BaseModel], notes: Mapping[str, str], prefix: str = ""
) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row a key; of a section that has no docstring only those in it."""
    for name, field in model.model_fields.items():
        key, section = prefix + name, _section(field)
        if field.description or not section:
            text = f"{field.description or ''} {notes.get(key, '')}"
            yield f"`{key}`", _values(field), _default(field), " ".join(text.split())
        if section:
            inside, joint = section
            yield from _rows(inside, notes, f"{key}{joint}")


def _section(field: FieldInfo) -> tuple[type[BaseModel], str] | None:
    """Return the section that a field holds, and what stands between its key and those in it."""
    joints: dict[Any, str] = {dict: ".NAME.", tuple: ".0."}
    joint = joints.get(get_origin(field.annotation), ".")
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind, joint
    return None


def _values(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    first, *others = _kind(field.annotation).split(" or null")
    return " ".join([first, *bounds]) + "".join(f", or null{other}" for other in others)


def _kind(annotation: Any) -> str:
    """Return a type in words that a YAML file's author knows."""
    inside = get_args(annotation)
    match get_origin(annotation):
        case None if annotation in SIMPLE:
            return SIMPLE[annotation]
        case None:
            return "anything" if annotation is Any else "section"
        case origin if origin is Annotated:
            return _kind(inside[0])
        case origin if origin is Literal:
            return ", ".join(f"`{value}`" for value in inside)
        case origin if origin in (Union, UnionType):
            others = [_kind(kind) for kind in inside if kind not in SIMPLE]
            simple = [SIMPLE[kind] for kind in inside if kind in SIMPLE]
            if len(simple) == len(SIMPLE):
                return " or ".join(["value", *others])
            return " or ".join(sorted([*others, *simple], key="null".__eq__))
        case origin if origin is dict:
            return f"mapping to {_kind(inside[1])}"
        case origin if origin is tuple and inside[-1] is not Ellipsis:
            return f"[{', '.join(map(_kind, inside))}]"
    return f"list of {_bracketed(_kind(inside[0]))}"


def _bracketed(kind: str) -> str:
    return f"({kind})" if " or " in kind else kind


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory and field.default_factory_takes_validated_data:
        return "depends"
    value = field.get_default(call_default_factory=True)
    return "" if isinstance(value, BaseModel) else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    print(reference(SPACES), end="")
