"""Settings of earlier versions: what became of their names."""

import sys
from collections.abc import Mapping
from typing import Any

from trainer.configfile import flatten

GONE = {"compile": "torch.compile made steps slower"}
"""Settings of earlier versions, and why they went. They rounded otherwise and no more: what has one
goes on without it."""

MOVED = {"validate_every": "validation.every"}
"""Settings of earlier versions that have another name today."""


def in_new_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by today's dotted paths, without those that are gone.

    Of a setting that is given by both names, the old one stays, to be refused.
    """
    new = {name: value for name, value in settings.items() if name not in GONE}
    for old, today in MOVED.items():
        if old in new and today not in flatten(new):
            new[today] = new.pop(old)
    return new


def as_measured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's resolved settings, those of version 0.1 with how that measured.

    Its validations sampled as `sampling` says; its resolved settings have no `validation`.
    """
    named = any(name.partition(".")[0] == "validation" for name in settings)
    return dict(settings) if named else {**settings, "validation": {"steps": "sampling"}}


def note_old_names(settings: Mapping[str, Any], where: str) -> None:
    """Say on stderr, a line each, which of some settings are those of earlier versions."""
    for name in settings:
        if name in GONE:
            print(f"note: {where}{name}: is gone ({GONE[name]}), and left out", file=sys.stderr)
        elif name in MOVED:
            print(f"note: {where}{name}: is {MOVED[name]} now", file=sys.stderr)
