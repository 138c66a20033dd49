"""What a person should know about a data set before training: notes, one line a kind."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

NAMED = 3
"""Cases that a line names."""


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
    first = ", ".join(named[:NAMED])
    if len(named) == 1:
        return first
    more = ", ..." if len(named) > NAMED else ""
    return f"{len(named)} of {total} cases: {first}{more}"
