"""What Optuna is told and proposes, without Ray."""

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.sampler import Sampler
from search.study import StudyConfig, load_study
from tests.search.conftest import Driver, write_study

Event = dict[str, Any]


@pytest.fixture
def study(tmp_path: Path, store: Path) -> StudyConfig:
    return load_study(write_study(tmp_path, store))


def story(sampler: Sampler, number: int, values: list[float], ending: str | None) -> list[Event]:
    """Let a sampler propose and hear of one trial; return the events."""
    params = sampler.propose(number, given={})
    about = {"trial": number}
    events = [
        {"event": "proposed", **about, "params": params, "kind": "sampled", "protected": False},
        *(
            {"event": "reported", **about, "epoch": epoch, "value": value}
            for epoch, value in enumerate(values, 1)
        ),
        *([{"event": "ended", **about, "ending": ending}] if ending else []),
    ]
    for event in events:
        sampler.hear(event)
    return events


def test_endings(study: StudyConfig) -> None:
    """Values are smoothed as ASHA's are; what is infeasible is seen, not hidden as a failure."""
    sampler = Sampler(study)
    for number, (values, ending) in enumerate(
        [
            ([0.1, 0.3, 0.4], "completed"),
            ([0.1, 0.3], "stopped"),
            ([0.2], "diverged"),
            ([], "infeasible"),
            ([0.2], "failed"),
            ([0.2], None),
        ]
    ):
        story(sampler, number, values, ending)
    completed, stopped, diverged, infeasible, failed, running = sampler.optuna_study.trials
    assert (completed.state, completed.value) == (TrialState.COMPLETE, pytest.approx(0.35))
    assert stopped.state == TrialState.PRUNED
    assert stopped.intermediate_values == {1: 0.1, 2: pytest.approx(0.2)}
    assert (diverged.state, diverged.constraints) == (TrialState.PRUNED, {"diverged": 1.0})
    assert (infeasible.state, infeasible.constraints) == (TrialState.PRUNED, {"infeasible": 1.0})
    assert failed.state == TrialState.FAIL
    assert running.state == TrialState.RUNNING
    assert not completed.constraints and not stopped.constraints


def test_references_are_unseen(study: StudyConfig) -> None:
    """Protected trials do not reach Optuna, whatever happens to them."""
    sampler = Sampler(study)
    about = {"trial": 0}
    for event in (
        {"event": "proposed", **about, "params": {}, "kind": "control", "protected": True},
        {"event": "reported", **about, "epoch": 1, "value": 0.9},
        {"event": "ended", **about, "ending": "completed"},
    ):
        sampler.hear(event)
    assert not sampler.optuna_study.trials


def test_proposals_respect_the_space(study: StudyConfig) -> None:
    """Every proposal lies in the space; a condition's dimension is there only when it holds."""
    sampler = Sampler(study)
    seen = set()
    for number in range(3, 33):
        [proposed, *_] = story(sampler, number, [0.1 * (number % 7)], "completed")
        params = proposed["params"]
        for name, value in params.items():
            assert study.space[name].contains(value)
        warm_in = params["loss.weighting"] == "warm_in"
        assert ("loss.warm_in_fraction" in params) == warm_in
        assert {"optimizer.lr", "batch.effective"} <= params.keys()
        seen.add(warm_in)
    assert seen == {True, False}


def test_enqueued_is_filled_in(study: StudyConfig) -> None:
    """What an enqueued trial leaves open is drawn."""
    params = Sampler(study).propose(2, given={"optimizer.lr": 2e-3})
    assert params["optimizer.lr"] == 2e-3
    assert {"batch.effective", "loss.weighting"} <= params.keys()


def test_learns_where_it_is_infeasible(study: StudyConfig) -> None:
    """What lacks memory is proposed less and less; told as failures, TPE would not notice."""

    def share_too_large(told_as: str) -> float:
        sampler, too_large = Sampler(study), []
        for number in range(50):
            params = sampler.propose(number, given={})
            too_large.append(params["batch.effective"] == 16)
            about = {"trial": number}
            if not too_large[-1]:
                value = params["batch.effective"] / 16  # the larger the better, while it fits
                sampler.hear({"event": "reported", **about, "epoch": 1, "value": value})
            ending = told_as if too_large[-1] else "completed"
            sampler.hear({"event": "ended", **about, "ending": ending})
        return sum(too_large[20:]) / len(too_large[20:])

    assert 2 * share_too_large("infeasible") < share_too_large("failed")


def test_proposals_depend_on_the_events_alone(calm: Driver) -> None:
    """A driver that starts anywhere in a study proposes what the uninterrupted one proposed."""
    study = load_study(calm.study)
    events = calm.events()
    sampled = [i for i, e in enumerate(events) if e["event"] == "proposed" and not e["protected"]]
    for index in sampled:
        sampler = Sampler(study)
        for event in events[:index]:
            sampler.hear(event)
        given = study.enqueued[0] if events[index]["kind"] == "enqueued" else {}
        assert sampler.propose(events[index]["trial"], given) == events[index]["params"]


def test_parallel_proposals_survive_a_restart(study: StudyConfig) -> None:
    """Trials that run beside each other count as such after a replay too (constant liar)."""
    sampler, events = Sampler(study), []
    for number in range(20):
        events += story(sampler, number, [0.05 * number, 0.3], None if number > 15 else "stopped")
    replayed = Sampler(study)
    for event in events:
        replayed.hear(event)
    for number in range(20, 25):
        assert replayed.propose(number, {}) == sampler.propose(number, {})
