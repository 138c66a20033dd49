"""A study's trials as the columns of a table, as many as its width allows."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.analysis.intervals import TOO_FEW
from search.analysis.ranking import epochs_in_words
from search.ledger.budget import HEADS
from search.report.settings_text import param, settings_words, short_names
from search.report.text import align
from trainer.terminal import printable

Cells = list[list[str]]

GAP = 2
"""Between two columns."""
INDENT = 2
"""Of settings below a trial."""
NOTED = "†"
"""Beside the number of a trial of which people have said something."""
LINES = 2
"""Of a trial's settings at most."""


class LeaderboardColumns:
    """The ranking, and beside it the control, the references and the threshold.

    Args:
        result: As `search.analysis.results.compare` returns it.
    """

    def __init__(self, result: Mapping[str, Any]):
        self.result = result
        self.ranked: list[Mapping[str, Any]] = result["trials"]
        self.beside: list[Mapping[str, Any]] = [*result["references"], *result["masks"]]
        self.rows = [*self.ranked, *self.beside]

    def plain(self) -> str:
        """Return all columns as aligned lines."""
        columns = self._always() | self._further() | self._params(full=True)
        rows = _rows(columns)
        lines = align(rows).splitlines()
        cut = 1 + len(self.ranked)
        return "\n".join(
            [*lines[:cut], *(["", "not ranked:"] if self.beside else []), *lines[cut:]]
        )

    def rich(self, width: int) -> tuple[str, list[str]]:
        """Return the columns that fit as a table, and the names of those that do not.

        The settings that differ come before all that may be left out: as columns, or where these
        do not fit, below each trial.

        Args:
            width: Of the terminal, in characters.
        """
        columns, left_out = self._always(), list[str]()
        narrow = ["Dice"] * self.has_means + ["95 % interval", "status"]
        while _width(columns) - GAP > width and narrow:
            if columns.pop(name := narrow.pop(0), None):
                left_out.append(name)
        params, below = self._params(full=False), [list[str]()] * len(self.rows)
        if _width(columns | params) - GAP <= width:
            columns |= params
        else:
            below, without = self._below(width)
            left_out += without
        for name, cells in self._further().items():
            if _width(columns | {name: cells}) - GAP <= width:
                columns[name] = cells
            else:
                left_out.append(name)
        return _table(columns, below, len(self.ranked), width), left_out

    def _always(self) -> dict[str, list[str]]:
        """Return the columns that always stand, with the threshold's row last."""
        result, rows = self.result, self.rows
        ranks = [
            f"{row['rank'] or '-'}{'*' * (row['trial'] in result['pareto'])}" for row in self.ranked
        ]
        metric = result["objective"]["metric"]
        columns = {
            "rank": ranks + [_role(row) for row in self.beside],
            "trial": [trial_text(row) for row in rows],
            "status": [row["status"] for row in rows],
            "epochs": [epochs_text(row) for row in rows],
        }
        if self.has_means:
            columns["mean (epochs)"] = [mean_text(row) for row in rows]
        if self.has_dice:
            columns["Dice"] = [number(row["dice"]) for row in rows]
            columns["95 % interval"] = [
                interval(row["dice_interval"], measured=row["num_cases"]) for row in rows
            ]
        if metric != "val/dice":
            columns[metric] = [number(row["last_value"]) for row in rows]
        if self.has_equal_epoch:
            columns[f"at epoch {result['equal_epoch']}"] = [_ranked_number(row) for row in rows]
        for objective in result["further_objectives"]:
            name = objective["metric"]
            columns[name] = [number(row["metrics"].get(name)) for row in rows]
        if threshold := result["threshold"]:
            last = {"rank": "threshold", "Dice": number(threshold["dice"])}
            for name, cells in columns.items():
                cells.append(last.get(name, ""))
        return columns

    def _further(self) -> dict[str, list[str]]:
        """Return the columns that stand where there is room, the most wanted first."""
        cost = self.result["cost"]
        columns = {
            "AVD mL": [_short(row["avd_ml"], "{:.1f}") for row in self.rows],
            "lesion F1": [_short(row["lesion_f1"], "{:.3f}") for row in self.rows],
            HEADS[cost]: [_short(row[cost], "{:.3g}") for row in self.rows],
            "difference to the best": [_difference(row["difference_to_best"]) for row in self.rows],
        }
        if self.result["trainer"]:
            columns = {name: cells for name, cells in columns.items() if any(cells)}
        return self._with_threshold(columns)

    def _params(self, *, full: bool) -> dict[str, list[str]]:
        """Return a column for each searched parameter.

        Args:
            full: All of them under their full names, else those that differ, as short as can be.
        """
        names = short_names(self.result["searched"])
        columns = {
            name if full else names[name]: [param(row["params"].get(name, "")) for row in self.rows]
            for name in (names if full else self._differing())
        }
        return self._with_threshold(columns)

    def _differing(self) -> list[str]:
        """Return the searched settings that differ between trials; of a single trial all."""
        names: list[str] = self.result["searched"]
        values = {name: {param(row["params"].get(name, "")) for row in self.ranked}
                  for name in names}  # fmt: skip
        return [name for name in names if len(values[name]) > 1] or names

    def _with_threshold(self, columns: dict[str, list[str]]) -> dict[str, list[str]]:
        last = [""] * (self.result["threshold"] is not None)
        return {name: cells + last for name, cells in columns.items()}

    def _below(self, width: int) -> tuple[list[list[str]], list[str]]:
        """Return the lines of settings below each row, and the settings for which is no room.

        What mattered most comes first, each setting where it is in every other trial's lines.
        """
        mattered = [row["name"] for row in (self.result["importance"] or {}).get("parameters", [])]
        differing = self._differing()
        order = [name for name in mattered if name in differing]
        order += [name for name in differing if name not in order]
        words = [settings_words(self.result["searched"], row["params"]) for row in self.rows]
        ranked = words[: len(self.ranked)]
        lines: list[list[str]] = [[]]
        widths = {name: max((len(each.get(name, "")) for each in ranked), default=0)
                  for name in order}  # fmt: skip
        for name in order:
            used = sum(widths[other] + GAP for other in lines[-1])
            if lines[-1] and INDENT + used + widths[name] > width:
                lines.append([])
            lines[-1].append(name)
        names = short_names(self.result["searched"])
        left_out = [names[name] for line in lines[LINES:] for name in line]
        found = [
            [
                _padded([(each.get(name, ""), widths[name]) for name in line])
                for line in lines[:LINES]
            ]
            for each in ranked
        ]
        beside = [[_padded([(word, 0) for word in each.values()])] for each in words[len(ranked) :]]
        return [[line for line in each if line.strip()] for each in [*found, *beside]], left_out

    @property
    def has_means(self) -> bool:
        """Whether a trial's value is of more than its last validation."""
        return has_means(self.rows)

    @property
    def has_dice(self) -> bool:
        """Whether trials report a Dice, as all but those of another trainer do."""
        return self.result["trainer"] is None or any(row["dice"] is not None for row in self.rows)

    @property
    def has_equal_epoch(self) -> bool:
        """Whether ranks at equal epochs tell anything that those at the end do not."""
        return any(row["resumed_after"] for row in self.ranked)


def trial_text(row: Mapping[str, Any]) -> str:
    """Return a row's number, marked where people noted something; empty for masks."""
    return "" if row["trial"] is None else f"{row['trial']}{NOTED * bool(row.get('notes'))}"


def epochs_text(row: Mapping[str, Any]) -> str:
    """Return how far a trial got: 27, 27 -> 81 if resumed, 27 -> 30 of 81 on its way."""
    if row["epochs"] is None:  # masks, which nothing trained
        return ""
    text = " -> ".join(map(str, [*row["resumed_after"], row["epochs"]]))
    on_its_way = row["resumed_after"] and row["ending"] is None
    return f"{text} of {row['goal']}" if on_its_way else text


def has_means(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the value of any of some trials is of more than its last validation."""
    return any(len(row["value_epochs"]) > 1 for row in rows)


def mean_text(row: Mapping[str, Any]) -> str:
    """Return what a trial is ranked by, with its epochs: `0.4651 (7-9)`; empty without a value."""
    if row["value"] is None:
        return ""
    return f"{number(row['value'])} ({epochs_in_words(row['value_epochs'])})"


def number(value: float | None) -> str:
    """Return a score with four decimals, empty if there is none."""
    return _short(value, "{:.4f}")


def interval(ends: Sequence[float] | None, form: str = ".3f", *, measured: Any = True) -> str:
    """Return [low, high]; without one TOO_FEW, or if nothing was measured, nothing."""
    if not ends:
        return TOO_FEW if measured else ""
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def _short(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _difference(found: Mapping[str, Any] | None) -> str:
    return f"{found['mean']:+.3f} {interval(found['interval'], '+.3f')}" if found else ""


def _role(row: Mapping[str, Any]) -> str:
    return str(row["name"])


def _ranked_number(row: Mapping[str, Any]) -> str:
    value = row["value_at_equal"]
    return "" if value is None else f"{value:.4f} ({row['rank_at_equal'] or '-'})"


def _rows(columns: Mapping[str, Sequence[str]]) -> Cells:
    return [[*columns], *map(list, zip(*columns.values(), strict=True))]


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the characters that columns take, with a gap after each."""
    return sum(max(len(name), *map(len, cells), 0) + GAP for name, cells in columns.items())


def _padded(words: Iterable[tuple[str, int]]) -> str:
    """Return words as a line, each as wide as it is to be at the least."""
    gap = " " * GAP
    return (" " * INDENT + gap.join(word.ljust(width) for word, width in words)).rstrip()


def _table(
    columns: Mapping[str, Sequence[str]],
    below: Sequence[Sequence[str]],
    num_ranked: int,
    width: int,
) -> str:
    """Return rows as a table, with what stands below each, and a gap after those with a rank."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True)
    _, *rows = [[printable(cell).replace("\n", " ") for cell in row] for row in _rows(columns)]
    for row in rows[:num_ranked]:
        table.add_row(*map(Text, row))
    for row in rows[num_ranked:]:
        table.add_row(*map(Text, row), style="dim")
    console = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    head, rule, *lines = text.rstrip().splitlines()
    parts = [head, rule]
    for number, line in enumerate(lines):
        parts += [""] * (number == num_ranked) + [line]
        for settings in below[number] if number < len(below) else ():
            dim = Text(printable(settings), style="dim")
            dim.truncate(width, overflow="ellipsis")
            with console.capture() as drawn:
                console.print(dim, end="")
            parts.append(drawn.get())
    return "\n".join(parts)
