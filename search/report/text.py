"""What every text shares: aligned columns."""

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
