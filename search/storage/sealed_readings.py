"""How often the sealed test set of a study's store was read: beside it, and in the ledger."""

from collections.abc import Iterable, Mapping
from typing import Any

from search.storage.s3 import is_remote
from trainer.evaluation.sealed_readings import check_can_record, count_readings, record_reading


def num_readings(store: str, recorded: Iterable[Mapping[str, Any]]) -> int:
    """Return how often a test set was read, as far as is known here.

    Args:
        store: Beside which readings are counted; beside one in S3 they are not. Empty: none.
        recorded: A study's `test_read` events, of which the count may lack those of version 0.1.
    """
    beside = 0 if is_remote(store) or not store else count_readings(store)
    return beside + sum("store_reading" not in event for event in recorded)


def check(store: str) -> None:
    """Refuse a reading that could not be counted.

    Raises:
        ConfigError: The file beside the store cannot be written.
    """
    if not is_remote(store):
        check_can_record(store)


def record(store: str, store_hash: str, model: str) -> dict[str, int]:
    """Count a reading, and return what its `test_read` event says of that; nothing in S3.

    Raises:
        ConfigError: It cannot be counted.
    """
    if is_remote(store):
        return {}
    return {"store_reading": record_reading(store, store_hash, {"model": model})}
