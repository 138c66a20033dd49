"""The scores of a validation's cases as the ledger keeps them: so few, so short, in one order.

A report has the objective of its cases as numbers of DIGITS digits, in the order of a list that an
event `cases` has written once. Of more than MAX_CASES it has those whose names have the smallest
CRC-32, which are the same in every trial: so a report grows by 3 kB at most (12 bytes a case), and
one of 20 cases by 140 bytes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from search.ledger.journal import Event

MAX_CASES = 256
"""Scores that a report keeps."""
DIGITS = 5
"""Of a score; of a Dice that is an error of 0.000005 at most."""


class CaseList(NamedTuple):
    """Which cases some reports have scores of."""

    names: tuple[str, ...]
    """Sorted."""
    of: int
    """How many cases the validation had, these among them."""

    @property
    def is_whole(self) -> bool:
        """Whether no case is left out."""
        return len(self.names) == self.of


def kept_cases(scores: Mapping[str, float]) -> tuple[CaseList, list[float]] | None:
    """Return what a report keeps of its cases: which, and their scores in that order.

    None where there is none, or a score is not finite: then they are not comparable.

    Args:
        scores: Of each case, by its name.
    """
    if not scores or not all(map(math.isfinite, scores.values())):
        return None
    names = sorted(scores)
    if len(names) > MAX_CASES:
        names = sorted(sorted(names, key=lambda name: (crc32(name.encode()), name))[:MAX_CASES])
    kept = CaseList(tuple(names), len(scores))
    return kept, [float(f"{scores[name]:.{DIGITS}g}") for name in names]


def with_cases(
    reported: Event, cases: tuple[CaseList, list[float]] | None, known: Sequence[CaseList]
) -> list[Event]:
    """Return the events of a report and its cases; first that of their list, if it is a new one.

    Args:
        reported: The event without them.
        cases: As `kept_cases` returns them.
        known: The lists of the ledger, in order.
    """
    if cases is None:
        return [reported]
    found, scores = cases
    return listed(reported | {"case_scores": scores}, found, known)


def listed(event: Event, cases: CaseList, known: Sequence[CaseList]) -> list[Event]:
    """Return an event with the number of its list of cases; first that list, if it is a new one."""
    new = cases not in known
    number = len(known) if new else known.index(cases)
    written: Event = {"event": "cases", "case_list": number, "names": cases.names, "of": cases.of}
    return [written] * new + [event | {"case_list": number}]
