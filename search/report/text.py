"""What every text shares: aligned columns, and ages in words."""

import re
from collections.abc import Iterable, Sequence

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, and what moves the cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links and the like
    r"|\x1b[ -/]*[0-~]?",
    re.S | re.M,
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def align(rows: Iterable[Sequence[str]], indent: int = 0) -> str:
    """Return rows of cells as lines, each column as wide as its widest cell."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        " " * indent
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def age(seconds: float) -> str:
    """Return an age in the largest unit of which there are two, or in seconds."""
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def plain(text: str) -> str:
    """Return other people's text as a terminal may get it: without what does more than print.

    Of a line that was printed over itself, as progress bars are, the last version stays.
    """
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROLS.sub("", "\n".join(lines))
