"""Clinical tables: one row a patient, kept as found, numbers as numbers, missing as None."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.configfile import ConfigError

Row = dict[str, str | float | None]


def clinical_tables(folder: Path, case_ids: Iterable[str]) -> dict[str, Row]:
    """Read every .csv, .tsv and .xlsx below a folder and return each case's values.

    A table is either one patient's, whose id is in its path, or has a column of case ids. Of
    files that name no case, such as a description of the columns, nothing is taken.

    Raises:
        ConfigError: A table cannot be read.
    """
    values: dict[str, Row] = {case_id: {} for case_id in case_ids}
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".csv", ".tsv", ".xlsx") and not path.name.startswith((".", "~"))
    )
    for path in paths:
        owner = re.search(r"sub-[A-Za-z0-9]+", path.name)
        if owner and owner.group() not in values:
            continue  # another patient's: a single case should not wait for a whole data set's
        for row in _rows(path):
            named = (str(value) for value in row.values() if str(value) in values)
            case_id = next(named, owner.group() if owner else None)
            if case_id in values:
                values[case_id] |= {
                    name: value for name, value in row.items() if value != case_id and name
                }
    return values


def _rows(path: Path) -> Iterator[Row]:
    try:
        tables = _excel(path) if path.suffix.lower() == ".xlsx" else [_text(path)]
    except Exception as error:  # openpyxl raises whatever its zip and XML parsers raise
        raise ConfigError([f"{path}: not a readable table ({error})"]) from error
    for table in tables:
        header = [_name(cell) for cell in table[0]] if table else []
        for cells in table[1:]:
            if any(_value(cell) is not None for cell in cells):
                yield {name: _value(cell) for name, cell in zip(header, cells, strict=False)}


def _text(path: Path) -> list[list[object]]:
    text = path.read_text(encoding="utf-8-sig")
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    return [list(row) for row in csv.reader(text.splitlines(), delimiter=delimiter)]


def _excel(path: Path) -> list[list[list[object]]]:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        return [[list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book]
    finally:
        book.close()


def _name(cell: object) -> str:
    return " ".join(str(cell if cell is not None else "").split())


def _value(cell: object) -> str | float | None:
    if cell is None or isinstance(cell, bool):
        return None if cell is None else float(cell)
    text = str(cell).strip()
    if text.lower() in ("", "nan", "na", "n/a", "none"):
        return None
    try:
        return float(text)
    except ValueError:
        return text
