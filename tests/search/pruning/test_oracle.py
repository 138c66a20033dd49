"""The oracle of ASHA's decisions: right on a ledger worked out by hand, else it says so."""

from typing import Any

import pytest

from tests.search.asha_oracle import check_decisions, owed, rungs

CONFIG = {
    "scheduler": {
        "type": "asha",
        "grace_period": 1,
        "max_t": 4,
        "reduction_factor": 2,
        "brackets": 1,
        "smoothing": 1,
    },
    "objective": {"mode": "max"},
    "stall": None,
    "seed": 0,
}
COURSE = [
    (0, 1, 0.5, "continue", "rung 1: 0.5 is the first", 1),
    (1, 1, 0.4, "stop", "rung 1: 0.4 below cutoff 0.5 of 1", 1),
    (2, 1, 0.45, "continue", "rung 1: 0.45 equals the cutoff of 2", 1),  # between 0.4 and 0.5
    (0, 2, 0.6, "continue", "rung 2: 0.6 is the first", 2),
    (2, 2, 0.7, "continue", "rung 2: 0.7 above cutoff 0.6 of 1", 2),
    (0, 3, 0.1, "continue", "", None),
    (0, 4, 0.1, "complete", "epoch 4 is its last", None),
]


def ledger() -> list[dict[str, Any]]:
    """Three trials at two rungs; whether 2 goes on at the first depends on who was before it."""
    events: list[dict[str, Any]] = [{"event": "study", "config": CONFIG}]
    events += [{"event": "proposed", "trial": n, "protected": False} for n in range(3)]
    for trial, epoch, value, action, reason, rung in COURSE:
        about = {"trial": trial, "epoch": epoch}
        events.append({"event": "reported", **about, "value": value})
        events.append(
            {"event": "decided", **about, "action": action, "reason": reason, "rung": rung}
        )
        if action != "continue":
            ending = {"stop": "stopped", "complete": "completed"}[action]
            events.append({"event": "ended", **about, "ending": ending})
    return events


def test_it_finds_what_was_worked_out_by_hand() -> None:
    assert [decision.action for decision in owed(ledger()).values()] == [c[3] for c in COURSE]
    check_decisions(ledger())
    assert rungs(CONFIG["scheduler"] | {"brackets": 2, "max_t": 9}, 3) == [[3, 6], [3, 6]]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *((k, f) for k in ("reported", "decided") for f in ("lost", "doubled", "late", "changed")),
        *(("ended", fault) for fault in ("lost", "changed")),
    ],
)
def test_what_is_wrong_is_found(kind: str, fault: str) -> None:
    events = ledger()
    [at, *_] = [i for i, e in enumerate(events) if e["event"] == kind and e["trial"] == 1]
    match fault:
        case "lost":
            del events[at]
        case "doubled":
            events.insert(at, events[at])
        case "late":
            events.append(events.pop(at))
        case "changed":
            changed = {"value": 0.9, "action": "continue", "ending": "completed"}
            events[at] = {key: changed.get(key, old) for key, old in events[at].items()}
    with pytest.raises(AssertionError):
        check_decisions(events)
