"""JSON that is printed or written: each document says with `schema` what its keys mean.

Lines of `ledger.jsonl` have `v` for it, which they had before there was a `schema`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

SCHEMA = 1
"""Raised when a key of any document is taken away or comes to mean something else."""


def to_json(values: Mapping[str, Any], *, indent: int | None = 2, allow_nan: bool = False) -> str:
    """Return a document, its schema first.

    Args:
        values: What it says.
        indent: None for one line.
        allow_nan: Write NaN and infinities, which strict readers of JSON refuse.

    Raises:
        ValueError: A value is not finite, and that is not allowed.
    """
    text = json.dumps({"schema": SCHEMA, **values}, indent=indent, allow_nan=allow_nan)
    return text.replace("\x7f", "\\u007f")  # the only control character that JSON leaves


def strict(value: Any) -> Any:
    """Return what strict JSON can hold: None for a float that is not finite, at any depth."""
    if isinstance(value, Mapping):
        return {key: strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(text: str | bytes) -> dict[str, Any]:
    """Return what a document says, without its schema; those of version 0.1 have none.

    Raises:
        ValueError: It is not a JSON object.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError("must be a JSON object")
    values.pop("schema", None)
    return values
