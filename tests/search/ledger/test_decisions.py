"""Decisions on reports, and their reconstruction after a crash."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.ledger.decisions import Pruner, decision_events
from search.ledger.state import StudyState
from search.ledger.trial_state import Report
from search.pruning.stall import StallRule
from search.study.config import StudyConfig


def study(**settings: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "demo",
            "data": {"store": "store"},
            "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}},
            "scheduler": {"grace_period": 1, "max_t": 9, "reduction_factor": 3},
            "trials": {"num_trials": 4},
            **settings,
        }
    )


class Driver:
    """Records events as StudySession does, without a ledger."""

    def __init__(self, config: StudyConfig):
        self.state, self.pruner, self.events = StudyState(), Pruner(config), []
        self.record({"event": "study", "config": {}})

    def record(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.state.apply(event)
            self.events.append(event)
            if "trial" in event:
                self.pruner.observe(self.state.trials[event["trial"]], event)

    def propose(self, number: int, *, protected: bool = False) -> None:
        kind = "control" if protected else "sampled"
        about = {"trial": number, "params": {}, "kind": kind, "protected": protected}
        self.record({"event": "proposed", **about}, {"event": "started", "trial": number})

    def report(self, number: int, epoch: int, value: float) -> str:
        report = Report(epoch, value, {"val/dice": value})
        decision = self.pruner.decide(self.state.trials[number], report)
        reported = {"event": "reported", "trial": number, **report._asdict()}
        self.record(reported, *decision_events(number, report, decision))
        return decision.reason


def test_trials_stall_are_stopped_diverge_or_complete():
    driver = Driver(study(stall={"patience": 3, "min_delta": 0.01}))
    for number in range(5):
        driver.propose(number, protected=number == 0)
    for epoch in range(1, 10):
        driver.report(0, epoch, 0.1)  # protected: it stalls, and goes on
    driver.report(1, 1, 0.5)
    driver.report(2, 1, 0.4)
    driver.report(3, 1, math.nan)
    for epoch, value in enumerate([0.505, 0.5, 0.509], start=2):
        reason = driver.report(1, epoch, value)
    assert reason == "no improvement of 0.01 over 0.5 (epoch 1) within 3 epochs"
    for epoch in range(1, 10):
        driver.report(4, epoch, 0.5 + epoch / 10)
    endings = {number: trial.ending for number, trial in driver.state.trials.items()}
    assert endings == {0: "completed", 1: "stalled", 2: "stopped", 3: "diverged", 4: "completed"}


def test_a_resumed_trial_is_judged_beside_the_rungs():
    driver = Driver(study(stall={"patience": 2}))
    for number in (1, 2):
        driver.propose(number)
    driver.report(1, 1, 0.5)
    driver.report(2, 1, 0.4)
    assert driver.state.trials[2].ending == "stopped"
    driver.record({"event": "resumed", "trial": 2, "epoch": 1, "epochs": 20})
    before = driver.pruner.asha.snapshot()
    for epoch in range(2, 20):
        driver.report(2, epoch, 0.1)
        assert driver.state.trials[2].ending is None
    driver.report(2, 20, 0.1)
    assert driver.state.trials[2].ending == "completed"
    assert driver.pruner.asha.snapshot() == before


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 0.99), st.floats(0, 1) | st.just(math.nan)), max_size=60),
    cut=st.floats(0, 1),
    patience=st.sampled_from([None, 1, 3]),
)
def test_a_judge_rebuilt_anywhere_decides_as_the_first(steps, cut, patience):
    """After whatever append a crash comes; a report is in one append with what became of it."""
    config = study(stall=patience and {"patience": patience, "min_delta": 0.1})
    driver, draws = Driver(config), iter(steps)
    for number in range(5):
        driver.propose(number, protected=number == 0)
    while session := driver.state.live():
        which, value = next(draws, (0.0, 0.5))
        trial = session[int(which * len(session))]
        driver.report(trial.number, trial.epoch + 1, value)
        if trial.ending == "stopped" and which > 0.5 and not trial.segments:
            about = {"trial": trial.number, "epoch": trial.epoch, "epochs": trial.epoch + 3}
            driver.record({"event": "resumed", **about})

    at = max(1, int(cut * len(driver.events)))
    while at < len(driver.events) and driver.events[at]["event"] in ("decided", "ended"):
        at += 1
    state = StudyState.replay(driver.events[:at])
    pruner = Pruner.replay(config, state, driver.events[:at])
    for event in driver.events[at:]:
        if event["event"] == "proposed":
            state.apply(event)
            pruner.observe(state.trials[event["trial"]], event)
            continue
        if event["event"] == "reported":
            report = Report(event["epoch"], event["value"], event["metrics"])
            decision = pruner.decide(state.trials[event["trial"]], report)
            expected = decision_events(event["trial"], report, decision)
        elif event["event"] in ("decided", "ended"):
            assert event == expected.pop(0)
        state.apply(event)
    assert pruner.asha.snapshot() == driver.pruner.asha.snapshot()


def test_patience_counts_from_the_grace_period():
    config = study(
        scheduler={"grace_period": 3, "max_t": 27, "reduction_factor": 3},
        stall={"patience": 2},
    )
    driver = Driver(config)
    driver.propose(1)
    for epoch in range(1, 5):
        driver.report(1, epoch, 0.2)
        assert driver.state.trials[1].ending is None
    driver.report(1, 5, 0.2)
    assert driver.state.trials[1].ending == "stalled"


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    patience=st.integers(1, 6),
    min_delta=st.sampled_from([0.0, 0.05]),
    smoothing=st.integers(1, 3),
    sign=st.sampled_from([1, -1]),
)
def test_the_stall_rule_against_its_definition(values, patience, min_delta, smoothing, sign):
    """Written out again: at each epoch look back over everything."""
    rule = StallRule(
        patience=patience, min_delta=min_delta, smoothing=smoothing, grace_period=0, sign=sign
    )
    means = [
        math.fsum(sign * v for v in values[max(0, end - smoothing) : end]) / min(end, smoothing)
        for end in range(1, len(values) + 1)
    ]
    for epoch, value in enumerate(values, start=1):
        improved_at, best = 1, means[0]
        for e, mean in enumerate(means[1:epoch], start=2):
            if mean > best and mean >= best + min_delta:
                improved_at, best = e, mean
        assert bool(rule.report(7, epoch, value)) == (epoch - improved_at >= patience)


@pytest.mark.parametrize("patience", [1, 5])
def test_a_trial_that_keeps_improving_never_stalls(patience):
    rule = StallRule(patience=patience, min_delta=0.01, smoothing=1, grace_period=0, sign=1)
    assert not any(rule.report(0, epoch, 0.02 * epoch) for epoch in range(1, 40))
