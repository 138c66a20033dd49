# ruff: noqa: RUF001, RUF002 - the signs that are read here are written here
"""Numbers as word processors and spreadsheets write them: 1e–4, 10^-4, 0,0001."""

import math
import re


def number_meant(text: str) -> str:
    """Return `; did you mean NUMBER?` for one with signs of a word processor, or nothing."""
    number = re.sub(r"[\s_\u00a0\u202f'’]", "", re.sub("[‐‑‒–—−]", "-", text))
    number = re.sub(r"[*x×·]?10(\^|\*\*)", "e", number)
    number = f"1{number}" if number.startswith("e") else number
    if "," in number and "." in number:  # the first of them parts thousands
        first = min(",.", key=number.index)
        number = number.replace(first, "")
    if re.fullmatch(r"[-+]?\d{1,3},\d{3}", number):
        return f"; did you mean {number.replace(',', '')}, or {number.replace(',', '.')}?"
    number = number.replace(",", ".")
    try:
        is_other = number != text and math.isfinite(float(number))
    except ValueError:
        return ""
    return f"; did you mean {number}?" if is_other else ""
