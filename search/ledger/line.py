"""A line of a ledger: strict JSON, closed with the checksum of all before it.

Floats that JSON lacks are written as the strings "NaN", "Infinity" and "-Infinity", and read back
as floats.
"""

import json
import math
import zlib
from typing import Any

Event = dict[str, Any]

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
SEAL_SIZE = len(',"crc":"00000000"}')


def seal(text: str) -> bytes:
    """Close a JSON object that has its other keys already with the checksum of them."""
    body = text[:-1].encode()
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def sound(line: bytes) -> bool:
    """Return whether a line is, byte for byte, what was written."""
    body = line[:-SEAL_SIZE]
    return line[-SEAL_SIZE:] == b',"crc":"%08x"}' % zlib.crc32(body)


def encode(event: Event) -> str:
    """Return an event as JSON, not closed yet."""
    try:
        text = json.dumps(event, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_name_non_finite(event), allow_nan=False, separators=(",", ":"))
    return text


def decode(line: bytes) -> Event:
    """Return a sound line's event, without its checksum.

    Raises:
        ValueError: It is none.
        RecursionError: It is too deep for one.
    """
    text = line[:-SEAL_SIZE].decode() + "}"
    event: Event = json.loads(text)
    if not isinstance(event.get("event"), str):
        raise ValueError("its kind is no text")
    if "NaN" in text or "Infinity" in text:
        event = _read_non_finite(event)
    return event


def _name_non_finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _name_non_finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_name_non_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _read_non_finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _read_non_finite(item) for key, item in value.items()}
        case list():
            return [_read_non_finite(item) for item in value]
        case str():
            return _NON_FINITE.get(value, value)
    return value
