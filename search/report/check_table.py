"""What `segtune check` found, as text: a table for a terminal, aligned lines for a pipe."""

import io
from collections.abc import Sequence
from typing import Literal, NamedTuple

from search.report.text import align


class Row(NamedTuple):
    """What was looked at, and what was found."""

    what: str
    found: str
    state: Literal["ok", "wrong", "note"] = "note"
    remedy: str = ""


def table(rows: Sequence[Row], width: int | None) -> str:
    """Return rows as text: a table so many characters wide, or for None plain lines.

    The last line says how many are wrong.
    """
    wrong = sum(row.state == "wrong" for row in rows)
    end = f"{wrong} wrong" if wrong else "nothing is wrong"
    body = _plain(rows) if width is None else _rich(rows, width)
    return f"{body}\n\n{end}"


def _plain(rows: Sequence[Row]) -> str:
    return align((row.state, row.what, _with_remedy(row, "; ")) for row in rows)


def _with_remedy(row: Row, between: str) -> str:
    return between.join(filter(None, (row.found, row.remedy)))


def _rich(rows: Sequence[Row], width: int) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "wrong": "bold red", "note": "dim"}
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for name in ("state", "what", "found"):
        grid.add_column(name, overflow="fold", no_wrap=name != "found")
    for row in rows:
        grid.add_row(
            Text(row.state, styles[row.state]), Text(row.what), Text(_with_remedy(row, "\n"))
        )
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    console.print(grid)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip()
