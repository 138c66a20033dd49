"""Which code, packages and machines computed a study, and when."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from search.ledger.journal import Event
from search.ledger.state import StudyState


def provenance(state: StudyState, events: Iterable[Event]) -> dict[str, Any]:
    """Return what a study was computed with, as JSON values.

    Args:
        state: Its ledger.
        events: The ledger's lines.

    Returns:
        `commits`, the number of attempts that each trained, the most first, empty for one that is
        not known; `versions`, those of each package, more than one where it was renewed; `gpus` and
        `cpus`, the models; `num_hosts`; `began` and `ended`, the days of the first and last line.
    """
    attempts = [attempt for trial in state.trials.values() for attempt in trial.attempts]
    versions: dict[str, dict[str, None]] = {}
    for attempt in attempts:
        for package, version in attempt.versions.items():
            versions.setdefault(package, {})[version] = None
    models: dict[str, dict[str, None]] = {"gpu": {}, "cpu": {}}
    times = []
    for event in events:
        for kind, found in models.items():
            if name := event.get(kind):
                found[str(name)] = None
        if "time" in event:
            times.append(event["time"])
    days = [datetime.fromtimestamp(time, UTC).date().isoformat() for time in times]
    return {
        "commits": dict(Counter(attempt.commit for attempt in attempts).most_common()),
        "versions": {package: [*found] for package, found in versions.items()},
        "gpus": [*models["gpu"]],
        "cpus": [*models["cpu"]],
        "num_hosts": len({attempt.host for attempt in attempts if attempt.host}),
        "began": min(days, default=None),
        "ended": max(days, default=None),
    }
