"""How far MLflow has a study: a small file, and where it is damaged all is delivered again."""

from pathlib import Path
from typing import NamedTuple

from trainer.files.atomic import write_atomically
from trainer.files.damaged import set_aside
from trainer.files.documents import from_json, to_json
from trainer.files.regular_files import open_regular

FILE = "mlflow.json"


class Cursor(NamedTuple):
    """Events of the ledger, counted from its begin."""

    uri: str
    """Which MLflow has them."""
    delivered: int
    reported: int
    """That the report of the study covers."""


def read_cursor(folder: Path) -> Cursor | None:
    """Return how far MLflow has a study; None where nothing, or nothing that can be, says so."""
    try:
        with open_regular(folder / FILE) as file:
            saved = from_json(file.read())
        found = Cursor(saved["uri"], saved["delivered"], saved.get("reported", 0))
    except (OSError, ValueError, KeyError):
        return None
    counts = all(type(number) is int and number >= 0 for number in found[1:])
    return found if counts and isinstance(found.uri, str) else None


def write_cursor(folder: Path, cursor: Cursor) -> None:
    """Note how far MLflow has a study.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / FILE
    if path.is_dir():
        set_aside(path)
    text = to_json(cursor._asdict(), indent=None)
    write_atomically(path, lambda temporary: temporary.write_text(text))
