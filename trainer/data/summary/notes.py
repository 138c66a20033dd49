"""What a person should know about a data set before training: notes, one line a kind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NAMED = 3
"""Names in a line."""


@dataclass(frozen=True)
class Note:
    """Something suspicious about one case."""

    kind: str
    """What it is, alike in all cases that have it."""
    detail: str = ""
    """What is another thing in each case."""

    def record(self) -> dict[str, str]:
        """Return what stands in a case's part of the manifest."""
        return asdict(self)


def first_names(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def note_lines(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line a kind, from the cases' parts of a manifest.

    A note of an earlier version is its text.
    """
    by_kind: dict[str, list[str]] = {}
    cases = list(cases)
    for case in cases:
        for note in case["notes"]:
            note = Note(note) if isinstance(note, str) else Note(**note)
            named = f"{case['case_id']} ({note.detail})" if note.detail else case["case_id"]
            by_kind.setdefault(note.kind, []).append(named)
    return [f"{kind}: {_cases(named, len(cases))}" for kind, named in by_kind.items()]


def _cases(named: list[str], total: int) -> str:
    count = f"{len(named)} of {total} cases: " if len(named) > 1 else ""
    return count + first_names(named)
