"""What every text shares: aligned columns, and times in words."""

from collections.abc import Iterable, Sequence

from trainer.terminal import printable


def align(rows: Iterable[Sequence[str]], indent: int = 0) -> str:
    """Return rows of cells as lines, each column as wide as its widest cell, each row a line."""
    rows = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
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


def duration(seconds: float) -> str:
    """Return a time as people say it, with two units at most: `40 s`, `5 h 20 min`, `2 d 3 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    large, unit, small, rest = minutes // 60, "h", minutes % 60, "min"
    if minutes >= 48 * 60:
        large, unit, small, rest = hours // 24, "d", hours % 24, "h"
    parts = [f"{large} {unit}"] * (large > 0) + [f"{small} {rest}"] * (small > 0)
    return " ".join(parts)


def in_bytes(size: int) -> str:
    """Return a size for people."""
    for unit, divisor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def hours_of(hours: float) -> str:
    """Return what was spent of several machines at once, which is no time of a clock: in hours."""
    return duration(3600 * hours) if hours < 47.9 else f"{hours:.0f} h"


def as_printed(output: str) -> str:
    """Return a program's output as printable text.

    Of a line that was printed over itself, as progress bars are, the last version stays.
    """
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in output.split("\n"))
    return printable("\n".join(lines))
