"""What a ledger says once that is left out which it takes back later."""

from collections.abc import Iterable, Iterator

from search.ledger.journal import Event


def lasting(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events but those ends that a later `retried` took back."""
    events = list(events)
    ends: dict[int, int] = {}
    taken_back: set[int] = set()
    for place, event in enumerate(events):
        if event["event"] == "ended":
            ends[event["trial"]] = place
        elif event["event"] == "retried":
            taken_back.add(ends[event["trial"]])
    yield from (event for place, event in enumerate(events) if place not in taken_back)
