"""What every text shares: aligned columns, and ages in words."""

from collections.abc import Iterable, Sequence


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
