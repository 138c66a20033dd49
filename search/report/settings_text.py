"""A trial's settings in words, as short as they can be read."""

from collections.abc import Mapping, Sequence
from typing import Any


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return each dotted name's last word, or as many of the last as tell it from the others."""
    short = {}
    for name in names:
        words = name.split(".")
        for count in range(1, len(words) + 1):
            short[name] = ".".join(words[-count:])
            if not any(f".{n}".endswith(f".{short[name]}") for n in names if n != name):
                break
    return short


def param(value: Any) -> str:
    """Return a setting as short as it can be read."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_words(searched: Sequence[str], params: Mapping[str, Any]) -> dict[str, str]:
    """Return `lr=0.001` of each setting that a trial has, what is searched first.

    Args:
        searched: The names that the study searches, in the order of the words.
        params: The trial's.
    """
    names = short_names([*dict.fromkeys([*searched, *params])])
    order = [*(name for name in searched if name in params), *params]
    return {name: f"{names[name]}={param(params[name])}" for name in dict.fromkeys(order)}
