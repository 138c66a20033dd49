"""Small files of a run that are damaged: set aside, and read as far as they can be.

A file server that loses its last writes leaves files cut short, empty or full of NUL bytes. None of
them is worth the training whose checkpoint lies beside it.
"""

import shutil
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trainer.files.documents import from_json
from trainer.files.passing_faults import is_unread
from trainer.files.regular_files import NotRegular, open_regular

if TYPE_CHECKING:
    import pyarrow as pa


def set_aside(path: Path) -> Path:
    """Give something a name beside its own that nothing reads, say so, and return that."""
    kept = _beside(path)
    path.rename(kept)
    print(f"{path}: damaged; it is {kept.name} now", flush=True)
    return kept


def keep_copy(path: Path) -> Path:
    """Keep a copy of a damaged file beside it, under a name that nothing reads."""
    kept = _beside(path)
    shutil.copyfile(path, kept)
    return kept


def _beside(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def clear(path: Path) -> None:
    """Remove a file, if it is there; a folder of that name is set aside."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path)
    path.unlink(missing_ok=True)


def validations_in(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the lines of a file of validations that can be read, and whether all could.

    Args:
        path: Of lines of JSON, each with its `epoch`; it need not be there.
    """
    found: dict[int, dict[str, Any]] = {}
    try:
        with open_regular(path) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return [], True
    except NotRegular:
        return [], False
    whole = True
    for line in lines:
        try:
            values = from_json(line)
            epoch = values["epoch"]
            if not isinstance(epoch, int) or {type(each) for each in values.values()} & {
                dict,
                list,
            }:
                raise ValueError(f"{path}: {line[:60]!r}: no validation")
        except (ValueError, KeyError):
            whole = False
        else:
            found[epoch] = values
    return [found[epoch] for epoch in sorted(found)], whole


def settings_in(path: Path) -> dict[str, Any] | None:
    """Return a run's settings from its config.yaml; None where that is damaged or is not there."""
    try:
        with open_regular(path) as file:
            values = yaml.safe_load(file.read().decode())
    except (FileNotFoundError, NotRegular, *_NO_YAML):
        return None
    return values if isinstance(values, dict) and values else None


_NO_YAML = (yaml.YAMLError, ValueError, RecursionError, AttributeError, IndexError, KeyError)
"""What PyYAML raises: the last three for a `!!timestamp`, `!!int` or `!!bool` that is none."""


def cases_in(path: Path) -> "pa.Table | None":
    """Return a cases.parquet; None where it is damaged.

    Raises:
        OSError: It cannot be read, which proves no damage.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_regular(path) as file:
            table = pq.read_table(file)
        return table if pa.types.is_integer(table.schema.field("epoch").type) else None
    except (ValueError, KeyError, OSError, pa.ArrowException) as error:
        if is_unread(error) or isinstance(error, MemoryError):  # Arrow's is both
            raise
        return None


def cases_before(path: Path, epoch: int) -> "pa.Table | None":
    """Return the rows of a cases.parquet before an epoch; None where it is not there, or damaged.

    A damaged one is set aside: its rows are lost, and those of later epochs go on.
    """
    import pyarrow.compute as pc

    if not path.exists():
        return None
    if (table := cases_in(path)) is None:
        set_aside(path)
        return None
    return table.filter(pc.field("epoch") < epoch)
