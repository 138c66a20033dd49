"""The replay of a ledger."""

import json
import math
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.state import StudyState
from search.study import StudyConfig

STUDY = StudyConfig.model_validate(
    {
        "study": "demo",
        "data": {"store": "store"},
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}},
        "scheduler": {"grace_period": 1, "max_t": 9, "reduction_factor": 3},
        "trials": {"num_trials": 4},
    }
)


def proposed(trial: int, kind: str = "sampled") -> dict:
    params = {"optimizer.lr": 1e-4 * (trial + 1)}
    protected = kind == "control"
    return {
        "event": "proposed",
        "trial": trial,
        "params": params,
        "kind": kind,
        "protected": protected,
    }


def reported(trial: int, epoch: int, value: float) -> dict:
    metrics = {"val/dice": value}
    return {"event": "reported", "trial": trial, "epoch": epoch, "value": value, "metrics": metrics}


def decided(trial: int, epoch: int, action: str = "continue") -> dict:
    return {
        "event": "decided",
        "trial": trial,
        "epoch": epoch,
        "action": action,
        "reason": "",
        "rung": None,
    }


def started(trial: int, attempt: int = 1) -> dict:
    return {"event": "started", "trial": trial, "attempt": attempt, "host": "h", "pid": 1}


def ended(trial: int, ending: str, epoch: int) -> dict:
    return {"event": "ended", "trial": trial, "ending": ending, "epoch": epoch, "reason": "why"}


HISTORY = [
    {"event": "study", "time": 1.0, "config": {}, "config_hash": "c", "store_hash": "s"},
    {"event": "threshold", "modality": "tmax", "threshold": 6.0, "dice": 0.3},
    {"event": "mlflow", "trial": None, "experiment_id": "7"},
    proposed(0, "control"),
    proposed(1),
    proposed(2),
    started(0),
    started(1),
    {"event": "mlflow", "trial": 1, "run_id": "abc"},
    reported(0, 1, 0.9),
    decided(0, 1),
    reported(1, 1, 0.5),
    decided(1, 1),
    {"event": "interrupted", "trial": 1, "epoch": 1},
    started(1, 2),
    started(2),
    reported(2, 1, 0.2),
    decided(2, 1, "stop"),
    {**ended(2, "stopped", 1), "time": 99.0},
]


def test_replay():
    state = StudyState.replay(HISTORY)
    assert state.study["store_hash"] == "s"
    assert state.threshold["dice"] == 0.3
    assert state.mlflow_experiment_id == "7"
    assert state.last_time == 99.0
    assert state.next_number == 3
    assert [trial.number for trial in state.live()] == [0, 1]
    assert [trial.number for trial in state.searched()] == [1, 2]
    assert state.control().number == 0
    one, two = state.trials[1], state.trials[2]
    assert (one.attempts, one.running, one.epoch, one.value) == (2, True, 1, 0.5)
    assert one.mlflow_run_id == "abc"
    assert (two.ending, two.reason, two.running) == ("stopped", "why", False)
    assert state.best("max").number == 1  # not the control's 0.9
    assert state.best("min").number == 2


def test_an_empty_study():
    state = StudyState.replay([])
    assert (state.next_number, state.live(), state.best("max"), state.control()) == (
        0,
        [],
        None,
        None,
    )


def test_best_passes_over_values_that_are_not_finite():
    history = [proposed(1), proposed(2), proposed(3), reported(1, 1, math.inf), reported(2, 1, 0.0)]
    assert StudyState.replay(history).best("max").number == 2


@pytest.mark.parametrize(
    "event",
    [
        proposed(1),
        reported(1, 1, 0.5),  # the same epoch again
        decided(1, 2),  # no such report
        started(2),  # after its end
        reported(2, 2, 0.5),
        ended(2, "failed", 1),
    ],
)
def test_contradictions_are_refused(event):
    with pytest.raises(AssertionError):
        StudyState.replay([*HISTORY, event])


def test_a_newer_kind_of_event_is_refused():
    with pytest.raises(ValueError, match="unknown event 'teleported'"):
        StudyState.replay([{"event": "teleported"}])


def drive(steps: list[tuple[float, float]]) -> list[dict]:
    """Write the events of a whole study as a driver does, ASHA deciding."""
    state, events, asha = StudyState(), [], STUDY.asha()

    def record(*new):
        for event in new:
            state.apply(event)
            events.append(event)

    record({"event": "study", "config": STUDY.model_dump(mode="json")})
    for number in range(5):
        record(proposed(number, "sampled" if number else "control"), started(number))
        if number:
            asha.add(number)
    draws = iter(steps)
    while live := state.live():
        which, value = next(draws, (0.0, 0.5))
        trial = live[int(which * len(live))]
        epoch = trial.epoch + 1
        if trial.protected:
            decision = asha.report_protected(epoch, value)
        else:
            decision = asha.report(trial.number, epoch, value)
        new = [
            reported(trial.number, epoch, value),
            {
                **decided(trial.number, epoch, decision.action),
                "reason": decision.reason,
                "rung": decision.rung,
            },
        ]
        if decision.action != "continue":
            ending = {"stop": "stopped", "complete": "completed"}[decision.action]
            if not math.isfinite(value):
                ending = "diverged"
            new.append({**ended(trial.number, ending, epoch), "reason": decision.reason})
        record(*new)
    return events


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 0.99), st.floats(0, 1) | st.just(math.nan)), max_size=45),
    cut=st.floats(0, 1),
)
def test_a_ledger_cut_anywhere_is_settled_as_the_driver_would_have(steps, cut):
    """Whatever line a crash comes after, the rebuilt ASHA and the settled events are the same."""
    events = drive(steps)
    at = max(1, int(cut * len(events)))
    state = StudyState.replay(events[:at])
    settled = state.unsettled(STUDY)
    lost = takewhile(lambda event: event["event"] in ("decided", "ended"), events[at:])
    assert settled == list(lost)
    for event in settled:
        state.apply(event)
    assert state.unsettled(STUDY) == []

    expected = STUDY.asha()
    for trial in state.searched():
        expected.add(trial.number)
    for event in events[:at]:
        if event["event"] == "reported" and event["trial"] != 0:
            expected.report(event["trial"], event["epoch"], event["value"])
    assert state.asha(STUDY).snapshot() == expected.snapshot()


def test_state_depends_on_json_values_only():
    again = json.loads(json.dumps(HISTORY))
    assert StudyState.replay(again).trials == StudyState.replay(HISTORY).trials
