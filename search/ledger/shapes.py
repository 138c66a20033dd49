"""What types the keys of events have, so that a ledger of somebody else is refused in one line."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MAX_NUMBER = 10_000_000
"""Of trials, epochs and attempts."""
MAX_TIME_S = 32_503_680_000
"""Unix seconds, the year 3000."""
MAX_DEPTH = 40
"""Of values in values."""
_NESTED = (dict, list)

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "study": ("config",),
    "proposed": ("trial", "params", "kind", "protected"),
    "refused": ("params", "reason"),
    "enqueued": ("params", "request"),
    "started": ("trial",),
    "cases": ("case_list", "names", "of"),
    "reported": ("trial", "epoch", "value", "metrics"),
    "decided": ("trial", "epoch", "action", "reason"),
    "ended": ("trial", "ending", "epoch", "reason"),
    "interrupted": ("trial", "epoch", "cause", "reason"),
    "note": ("trial", "text"),
    "deleted": ("trial", "parts"),
    "declined": ("what", "reason"),
    "exhausted": ("reason",),
    "redrawn": ("trial", "epoch", "case_list", "draws", "seconds"),
    "confirmed": ("settings", "told", "why", "loss", "spent", "limit", "unit"),
    "waits": ("reason",),
    "verdict": ("on", "where", "seeds", "folds", "epochs", "same_cases", "scores", "comparisons"),
}


def shape_problem(event: Mapping[str, Any]) -> str:
    """Return what of an event has a type or a size that no driver writes; empty for nothing."""
    kind = event.get("event")
    needed = _NEEDED.get(kind, ()) if isinstance(kind, str) else ()
    if missing := [key for key in needed if key not in event]:
        return f"{kind!r} has no {', '.join(missing)}"
    for key, value in event.items():
        if key in _RULES and value is not None:
            fits, rule = _RULES[key]
            if not fits(value):
                return f"{kind!r}: {key}: {repr(value)[:40]}: must be {rule}"
    if "epoch" in needed and event["epoch"] is None:
        return f"{kind!r}: epoch: must be a number"
    rest = [v for k, v in event.items() if isinstance(v, _NESTED) and k not in _FLAT]
    too_deep = rest and _depth(rest) > MAX_DEPTH
    return f"{kind!r}: values lie too deep in each other" if too_deep else ""


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= MAX_TIME_S


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and _all_numbers(value)


def _are_numbers_by_name(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return _all_numbers(value.values(), or_none=True)


def _all_numbers(values: Iterable[Any], *, or_none: bool = False) -> bool:
    # Nearly all are floats, of a ledger's millions: asked first.
    rest = [each for each in values if type(each) is not float]
    return all((or_none and each is None) or _is_number(each) for each in rest)


def _depth(value: Any) -> float:
    """Return how deep values lie in each other, infinite from MAX_DEPTH on."""
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        level = [
            each
            for values in level
            if isinstance(values, _NESTED)
            for each in (values.values() if isinstance(values, dict) else values)
        ]
        if not level:
            return depth
    return math.inf


def _rules(
    fits: Callable[[Any], bool], rule: str, *keys: str
) -> dict[str, tuple[Callable[[Any], bool], str]]:
    return dict.fromkeys(keys, (fits, rule))


_COUNTS = ("trial", "epoch", "epochs", "attempt", "of", "rung", "image_size", "case_list")
_TEXTS = (
    "reason", "kind", "ending", "cause", "action", "text", "request", "host", "by", "commit",
    "store_hash", "config_hash",
)  # fmt: skip
_RULES = {
    **_rules(_is_time, "unix seconds", "time"),
    **_rules(_is_count, f"a whole number from 0 to {MAX_NUMBER}", *_COUNTS),
    **_rules(_is_text, "text", *_TEXTS),
    **_rules(_is_number, "a number", "value", "again_s", "seconds"),
    **_rules(_is_mapping, "a mapping", "params", "config", "settings", "versions"),
    **_rules(_are_numbers_by_name, "numbers by name", "metrics"),
    **_rules(_are_texts, "a list of names", "files", "names", "parts"),
    **_rules(_are_numbers, "a list of numbers", "case_scores"),
}
"""Of a key in any event, what its value has to be, unless it is None."""
_FLAT = {"metrics", "files", "names", "parts", "case_scores"}
"""Those whose rule allows no value in a value."""
