"""A finding of `segtune explain`: a figure, what it is compared with, and what follows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Word = Literal["cause likely", "suspicious", "ok", "not measured"]
WORDS: tuple[Word, ...] = ("cause likely", "suspicious", "ok", "not measured")
"""In the order in which people read them."""

UPSTREAM = (
    "ending",
    "inputs",
    "foreground",
    "learning rate",
    "loss",
    "averaging",
    "timesteps",
    "threshold",
    "missed lesions",
    "trend",
    "neighbours",
)
"""Findings by name. What goes wrong in one shows in those after it, so that of two likely causes
the earlier one explains the later."""


@dataclass(frozen=True)
class Finding:
    """One answer to the question why a Dice is not higher."""

    name: str
    """One of UPSTREAM."""
    word: Word
    figure: str
    """What was measured, with its unit."""
    compared: str = ""
    """What it is compared with, and what that means."""
    next_step: str = ""
    """What to try, where the evidence is enough: KEY=VALUE, or a command."""
    values: dict[str, Any] = field(default_factory=dict)
    """The figures, as JSON values."""


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return the likely causes first, then what is suspicious; of equals what comes upstream."""
    return sorted(findings, key=lambda f: (WORDS.index(f.word), UPSTREAM.index(f.name)))
