"""Keys of the study file as version 0.1 spelt them, which are still read.

`trials.silence_s` is `trials.hang_timeout_s`, and an entry of `enqueue` with `protected: true` is
one of `references`. Settings of the trainer that are gone are left out, and those
that moved are read.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from trainer.old_names import in_new_names

HANG_TIMEOUT = ("silence_s", "hang_timeout_s")
"""The old key and the new one."""


def in_new_keys(values: Any) -> Any:
    """Return a study's raw values in today's keys; what is no study comes back as it is.

    What is wrong in an old key stays there, to be refused by its name.
    """
    if not isinstance(values, Mapping):
        return values
    new = dict(values)
    for section in () if values.get("trainer") else ("train", "control"):
        if isinstance(settings := values.get(section), Mapping):
            new[section] = in_new_names(settings)
    if isinstance(trials := values.get("trials"), Mapping):
        new["trials"] = renamed(trials, *HANG_TIMEOUT)
    entries, references = _lists(values)
    if any(_is_marked(entry) for entry in entries):
        new["enqueue"] = [
            _settings(entry) if _is_marked(entry) else entry
            for entry in entries
            if not _is_reference(entry)
        ]
        old = [_settings(entry) for entry in entries if _is_reference(entry)]
        names = _names({each["name"] for each in references if _has_name(each)})
        new["references"] = [
            *references,
            *({"name": name, "settings": each} for each, name in zip(old, names, strict=False)),
        ]
    return new


def origins(values: Mapping[str, Any]) -> dict[str, str]:
    """Return for each reference that stands in `enqueue` its key today, and the one it has there.

    For lines about it: `{"references.0.settings": "enqueue.2"}`.
    """
    entries, references = _lists(values)
    old = [f"enqueue.{index}" for index, entry in enumerate(entries) if _is_reference(entry)]
    return {f"references.{number}.settings": key for number, key in enumerate(old, len(references))}


def renamed(values: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return values with a key renamed, unless both are given."""
    if new in values:
        return dict(values)
    return {new if key == old else key: value for key, value in values.items()}


def _lists(values: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return `enqueue` and `references`, both empty where one of them is no list."""
    both = values.get("enqueue", ()), values.get("references", ())
    return both if all(isinstance(each, list | tuple) for each in both) else ((), ())


def _is_marked(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("protected"), bool)


def _is_reference(entry: Any) -> bool:
    return _is_marked(entry) and entry["protected"]


def _settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "protected"}


def _has_name(reference: Any) -> bool:
    return isinstance(reference, Mapping) and isinstance(reference.get("name"), str)


def _names(taken: Collection[str]) -> Iterator[str]:
    """Yield `reference`, `reference-2`, … without those that are taken."""
    names = ("reference" if number == 1 else f"reference-{number}" for number in count(1))
    return (name for name in names if name not in taken)
