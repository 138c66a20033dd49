"""How often the sealed test set of a store was read: a line a reading, in a file beside the store.

A model's own readings are in its run's folder; what nobody can know from there is how often others
have looked.
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.files.documents import to_json


def readings_file(store: str | Path) -> Path:
    """Return where the readings of a store's test set are kept."""
    path = Path(store)
    return path.with_name(f"{path.name}.test_readings.jsonl")


def check_can_record(store: str | Path) -> None:
    """Refuse a reading that could not be recorded.

    Raises:
        ConfigError: The file beside the store cannot be written.
    """
    path = readings_file(store)
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError(
            [f"{path}: {error.strerror or error}: it keeps how often the test set is read, so that "
             "it must be writable; or copy the store to a folder of your own"]
        ) from error  # fmt: skip


def record_reading(store: str | Path, store_hash: str, what: Mapping[str, Any]) -> int:
    """Add a line for a reading of the test set, before it is read; return the how-many-eth it is.

    Args:
        store: The store.
        store_hash: Its content's.
        what: What is scored: `model` or `masks`, a path.

    Raises:
        ConfigError: The file cannot be written.
    """
    check_can_record(store)
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "store_hash": store_hash}
    with open(readings_file(store), "a+", encoding="utf-8") as file:
        file.write(to_json({**line, **what}, indent=None) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return count_readings(store)


def count_readings(store: str | Path) -> int:
    """Return how often the test set beside a store was read, as far as the file says."""
    try:
        with open(readings_file(store), encoding="utf-8", errors="replace") as file:
            return sum(bool(line.strip()) for line in file)
    except OSError:
        return 0
