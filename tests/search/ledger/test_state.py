"""The replay of a ledger."""

import json

import pytest

from search.ledger.state import StudyState
from search.study.config import StudyConfig

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
    {"event": "interrupted", "trial": 1, "epoch": 1, "cause": "process", "reason": "killed"},
    started(1, 2),
    started(2),
    reported(2, 1, 0.2),
    decided(2, 1, "stop"),
    {**ended(2, "stopped", 1), "time": 99.0},
]


def test_events_replay_to_the_state_of_every_trial():
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
    assert (len(one.attempts), one.running, one.epoch) == (2, True, 1)
    assert one.mlflow_run_id == "abc"
    assert (two.ending, two.reason, two.running) == ("stopped", "why", False)


def test_an_empty_study():
    state = StudyState.replay([])
    assert (state.next_number, state.live(), state.control()) == (0, [], None)


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


def test_a_resumed_trial_lives_again_to_its_new_goal():
    resumed = {"event": "resumed", "trial": 2, "epoch": 1, "epochs": 27}
    state = StudyState.replay([*HISTORY, resumed, reported(2, 2, 0.7)])
    two = state.trials[2]
    assert (two.ending, two.goal(STUDY), two.config(STUDY).epochs) == (None, 27, 27)
    assert [two.goal_at(STUDY, epoch) for epoch in (1, 2)] == [9, 27]
    assert [two.resumed_before(epoch) for epoch in (1, 2)] == [False, True]


def test_a_confirming_trial_has_its_own_seed_fold_and_epochs():
    again = {"of": 1, "seed": 5, "fold": 2, "epochs": 27}
    event = {**proposed(3, "confirm"), "protected": True, **again}
    state = StudyState.replay([*HISTORY, event])
    config = state.trials[3].config(STUDY)
    assert (config.seed, config.data.fold, config.epochs) == (5, 2, 27)
    assert [trial.number for trial in state.confirming()] == [3]
    assert 3 not in [trial.number for trial in [*state.searched(), *state.references()]]


def test_a_driver_interrupts_what_ran_before_it():
    state = StudyState.replay([*HISTORY, {"event": "driver", "host": "h", "pid": 2}])
    assert [trial.number for trial in state.trials.values() if trial.running] == []


def test_finished_counts_what_is_planned_whatever_the_numbers():
    control = [proposed(0, "control"), ended(0, "completed", 0)]
    again = {**proposed(1, "confirm"), "protected": True}
    history = [*control, again, ended(1, "completed", 0)]
    for number in range(2, 6):
        assert not StudyState.replay(history).finished(STUDY)
        history += [proposed(number), ended(number, "completed", 0)]
    assert StudyState.replay(history).finished(STUDY)


def test_state_depends_on_json_values_only():
    again = json.loads(json.dumps(HISTORY))
    assert StudyState.replay(again).trials == StudyState.replay(HISTORY).trials


def test_each_attempt_has_the_code_that_trained_it() -> None:
    """Of version 0.1's attempts that is what the `study` event before them says."""
    old, new = ({"commit": c * 40, "versions": {"torch": v}} for c, v in (("a", "1"), ("b", "2")))
    study = {"event": "study", "config": {}, "store_hash": ""}
    about = {"event": "reported", "trial": 0, "metrics": {}}
    state = StudyState.replay(
        [
            study | old,
            proposed(0, "sampled"),
            started(0, 1),
            about | {"epoch": 1, "value": 0.1},
            study | new,
            started(0, 2) | new,
            about | {"epoch": 2, "value": 0.2},
        ]
    )
    trial = state.trials[0]
    first, second = trial.attempt_at(1), trial.attempt_at(2)
    assert first and (first.commit, first.versions) == (old["commit"], old["versions"])
    assert second and (second.commit, second.versions) == (new["commit"], new["versions"])
    assert trial.attempt_at() == second and trial.attempt_at(3) == second


def test_who_is_open_and_who_is_protected_is_counted_as_if_all_were_asked() -> None:
    """Through ends and what takes an end back; the oldest first."""
    by_hand = {**proposed(3, "enqueued"), "request": "r1"}
    state = StudyState()
    for event in [
        *(proposed(0, "control"), proposed(1), proposed(2), by_hand),
        ended(0, "failed", 0),
        ended(2, "failed", 0),
        {"event": "retried", "trial": 0, "epoch": 0},
        ended(3, "stopped", 0),
        {"event": "retried", "trial": 2, "epoch": 0},
    ]:
        state.apply(event)
        trials = state.trials.values()
        assert state.live() == [t for t in trials if t.ending is None], event
        searched = [t for t in trials if not t.protected]
        assert state.searched() == searched and state.num_searched == len(searched)
        assert state.num_searched_by_hand == sum(bool(t.request) for t in searched)
        assert state.next_number == max(state.trials) + 1
    assert [trial.number for trial in state.live()] == [0, 1, 2]
    assert state.control() is state.trials[0] and StudyState().next_number == 0
