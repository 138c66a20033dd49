"""Clinical tables: one row a patient, kept as found, numbers as numbers, missing as None."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.data.formats.case import Tally
from trainer.data.formats.listing import same_letters, walk

TABLES = (".csv", ".tsv", ".xlsx")
Row = dict[str, str | float | None]


def clinical_tables(folder: Path, case_ids: Iterable[str]) -> tuple[dict[str, Row], list[str]]:
    """Read every .csv, .tsv and .xlsx below a folder and return each case's values.

    A table is either one patient's, whose id is in its path, or has a column of case ids. Of
    files that name no case, such as a description of the columns, nothing is taken.

    Returns:
        By case; and a note on the tables that cannot be read, whose values are missing.
    """
    values: dict[str, Row] = {case_id: {} for case_id in case_ids}
    notes = Tally()
    for path in sorted(path for path in walk(folder) if path.suffix.lower() in TABLES):
        owner = re.search(r"sub-[A-Za-z0-9]+", path.name)
        if owner and owner.group() not in values:
            continue  # another patient's: a single case should not wait for a whole data set's
        if path.exists() and not path.is_file():  # a pipe would be waited for
            notes.add("clinical tables that cannot be read are left out", f"{path} (no file)")
            continue
        try:
            rows = list(_rows(path))
        except UnicodeDecodeError as error:
            what = f"{path} (byte {error.start + 1} is no UTF-8: save it as UTF-8)"
            notes.add("clinical tables that cannot be read are left out", what)
            continue
        except Exception as error:  # openpyxl raises whatever its zip and XML parsers raise
            what = f"{path} ({' '.join(str(error).split()) or type(error).__name__})"
            notes.add("clinical tables that cannot be read are left out", what)
            continue
        for row in rows:
            named = (str(value) for value in row.values() if str(value) in values)
            case_id = next(named, owner.group() if owner else None)
            if case_id in values:
                values[case_id] |= {
                    name: value for name, value in row.items() if value != case_id and name
                }
    return values, notes.lines()


def _rows(path: Path) -> Iterator[Row]:
    tables = _excel(path) if path.suffix.lower() == ".xlsx" else [_text(path)]
    for table in tables:
        header = [_name(cell) for cell in table[0]] if table else []
        for cells in table[1:]:
            if any(_value(cell) is not None for cell in cells):
                yield {name: _value(cell) for name, cell in zip(header, cells, strict=False)}


def _text(path: Path) -> list[list[object]]:
    text = path.read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise ValueError("has NUL characters, as UTF-16 has: save it as UTF-8")
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
    text = same_letters(str(cell).strip())
    if text.lower() in ("", "nan", "na", "n/a", "none"):
        return None
    try:
        return float(text)
    except ValueError:
        return text
