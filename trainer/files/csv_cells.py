"""Cells of CSV files: text that a spreadsheet takes for text."""

from typing import Any

from trainer.terminal import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What begins a formula, which a spreadsheet would compute (CWE-1236)."""


def csv_cell(value: Any) -> Any:
    """Return a value for a cell: text printable, after an apostrophe where it would be a formula.

    What is no text stays as it is, and so does text that is a number, also with a sign.
    """
    if not isinstance(value, str):
        return value
    if not value.lstrip(" \n").startswith(FORMULA):
        return printable(value)
    try:
        float(value)
    except ValueError:
        return f"'{printable(value)}"
    return printable(value)
