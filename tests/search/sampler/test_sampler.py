"""What Optuna is told and proposes, without Ray."""

import json
import math
from itertools import count
from typing import Any

import pytest
from optuna.trial import TrialState

from search.sampler.sampler import UNTRAINABLE, Sampler
from search.study.load import load_study
from search.study.space import active
from tests.search.conftest import Driver
from tests.search.sampler.sampled_study import (
    SMALL,
    SPACE,
    SPEED,
    TYPES,
    make_study,
    overlapping,
    replayed,
    reported,
    story,
)


def test_the_sampler_sees_smoothed_values_and_infeasible_trials() -> None:
    """Values are smoothed as ASHA's are; what is infeasible is seen, not hidden as a failure."""
    sampler = Sampler(make_study())
    for number, (values, ending) in enumerate(
        [
            ([0.1, 0.3, 0.4], "completed"),
            ([0.4, 0.2, 0.2], "stalled"),
            ([0.1, 0.3], "stopped"),
            ([0.2, math.nan], "diverged"),
            ([], "infeasible"),
            ([0.2], "failed"),
            ([0.2], None),
        ]
    ):
        story(sampler, number, values, ending)
    trials = sampler.optuna_study.trials
    completed, stalled, stopped, diverged, infeasible, failed, running = trials
    assert (completed.state, completed.value) == (TrialState.COMPLETE, pytest.approx(0.35))
    assert (stalled.state, stalled.value) == (TrialState.COMPLETE, pytest.approx(0.2))
    assert stopped.state == TrialState.PRUNED
    assert stopped.intermediate_values == {1: 0.1, 2: pytest.approx(0.2)}
    for trial in (diverged, infeasible):
        assert (trial.state, trial.constraints) == (TrialState.PRUNED, {UNTRAINABLE: 1.0})
    assert failed.state == TrialState.FAIL
    assert running.state == TrialState.RUNNING
    assert not completed.constraints and not stopped.constraints


@pytest.mark.parametrize("kind", ["gp", "nsga2"])
def test_who_learns_from_complete_trials_alone_is_told_of_the_untrainable(kind: str) -> None:
    """As complete with a violated constraint and the worst value, once there is one."""
    sampler = Sampler(make_study(kind))
    for number, (values, ending) in enumerate(
        [([], "infeasible"), ([0.4], "completed"), ([0.3], "completed"), ([0.9], "diverged")]
    ):
        story(sampler, number, values, ending)
        first = sampler.optuna_study.trials[0]
        assert first.state == (TrialState.COMPLETE if number else TrialState.RUNNING)
    trials = sampler.optuna_study.trials
    assert [trial.state for trial in trials] == 4 * [TrialState.COMPLETE]
    assert [trial.value for trial in trials] == [0.4, 0.4, 0.3, 0.3]
    violated = [trial.constraints[UNTRAINABLE] for trial in trials]
    assert violated == [1.0, -1.0, -1.0, 1.0]


def test_a_resumed_trial_is_told_once() -> None:
    """What it does with more epochs is not compared with what others did with fewer."""
    sampler = Sampler(make_study())
    story(sampler, 0, [0.1, 0.3], "completed")
    for event in (
        {"event": "resumed", "trial": 0, "epoch": 2, "epochs": 4},
        reported(0, 3, 0.9),
        {"event": "ended", "trial": 0, "ending": "completed"},
    ):
        sampler.observe(event)
    [trial] = sampler.optuna_study.trials
    assert trial.value == pytest.approx(0.2)


def test_several_objectives_are_told_at_the_end() -> None:
    """Each smoothed; a stopped trial has none, and one that could not be measured neither."""
    sampler = Sampler(make_study(further_objectives=[SPEED]))
    for number, (reports, ending) in enumerate(
        [
            ([(0.1, 9.0), (0.3, 2.0), (0.4, math.nan)], "completed"),
            ([(0.1, 1.0)], "stopped"),
            ([(0.1, math.nan)], "completed"),
            ([], "infeasible"),
        ]
    ):
        story(sampler, number, [], None)
        for epoch, (value, case_s) in enumerate(reports, 1):
            sampler.observe(reported(number, epoch, value, case_s))
        sampler.observe({"event": "ended", "trial": number, "ending": ending})
    states = [trial.state for trial in sampler.optuna_study.trials]
    assert states == [TrialState.COMPLETE] + 3 * [TrialState.PRUNED]
    assert sampler.optuna_study.trials[0].values == pytest.approx([0.35, 2.0])
    assert [d.name for d in sampler.optuna_study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "gp" else k for k in TYPES]
)
@pytest.mark.parametrize("further", [[], [SPEED]], ids=["one", "two"])
def test_a_continued_study_proposes_the_same(kind: str, further: list[Any]) -> None:
    """Whatever a sampler notes between its draws is in the ledger; trials overlap and end early."""
    study = make_study(kind, further_objectives=further)
    num_trials = 10 if kind == "gp" else 30
    events = overlapping(study, num_trials)
    proposals = [index for index, event in enumerate(events) if event["event"] == "proposed"]
    # Every one, but for the sampler that takes its time.
    for index in proposals[-2:] if kind == "gp" else proposals:
        number = events[index]["trial"]
        proposal = json.loads(json.dumps(replayed(study, events[:index]).propose(number, {})))
        assert proposal == {key: events[index][key] for key in proposal}
        assert {*events[index]} - {*proposal} == {"event", "trial", "protected"}


def test_running_trials_count_alike_in_a_replay() -> None:
    """TPE takes a running trial to have what it drew for it, used or not: a note of Optuna's."""
    study = make_study(sampler={"type": "tpe", "num_startup_trials": 1})
    sampler, events = Sampler(study), []
    first: dict[str, Any] = {"loss.weighting": "warm_in", "model.depth": 3}
    for number, given in enumerate([first, *4 * [{"loss.weighting": "fixed"}]]):
        proposal = sampler.propose(number, given)
        events.append({"event": "proposed", "trial": number, "protected": False, **proposal})
        if number == 0:
            events += [reported(0, 1, 0.5), {"event": "ended", "trial": 0, "ending": "completed"}]
        for event in events[-1:] if number else events:
            sampler.observe(event)
    assert replayed(study, events).propose(5, {}) == sampler.propose(5, {})


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "gp" else k for k in TYPES]
)
def test_proposals_respect_the_space(kind: str) -> None:
    """Every value lies in the space; a dimension is there only while its conditions hold."""
    study = make_study(kind)
    events = overlapping(study, 12 if kind == "gp" else 24)
    seen = set()
    for event in events:
        if event["event"] == "proposed":
            params = event["params"]
            assert all(study.space[name].contains(value) for name, value in params.items())
            assert {*params} == {*active(study.space, params)}
            assert isinstance(params["data.modalities"], list)
            seen.add(len(params))
    assert seen == {3, 4, 5}


@pytest.mark.parametrize("kind", ["tpe", "qmc", "grid", "nsga2"])
def test_other_trials_change_nothing(kind: str) -> None:
    """References and confirming trials leave holes in the numbers, and no trace in proposals."""
    study = make_study(kind)
    alone, beside, numbers = Sampler(study), Sampler(study), count(7, 3)
    for ordinal in range(16):
        first, second = (sampler.propose(ordinal, {}) for sampler in (alone, beside))
        assert first == second
        for sampler, number in ((alone, ordinal), (beside, next(numbers))):
            about = {"trial": number}
            sampler.observe({"event": "proposed", **about, "protected": False, **first})
            sampler.observe(reported(number, 1, 0.1 * (ordinal % 5)))
            sampler.observe({"event": "ended", **about, "ending": "completed"})
        other = {"trial": next(numbers)}
        params = {"loss.weighting": "warm_in"}
        beside.observe({"event": "proposed", **other, "params": params, "protected": True})
        beside.observe(reported(other["trial"], 1, 0.99))
        beside.observe({"event": "ended", **other, "ending": "completed"})


@pytest.mark.parametrize("kind", TYPES)
def test_enqueued_is_filled_in(kind: str) -> None:
    """What an enqueued trial leaves open is drawn; a choice may be a list."""
    given = {"data.modalities": ["ncct", "tmax"], "loss.weighting": "warm_in", "model.depth": 3}
    params = Sampler(make_study(kind)).propose(2, given)["params"]
    assert given.items() <= params.items()
    assert {*params} == {*SPACE}


def test_equal_choices_of_other_types() -> None:
    """Optuna takes True for 1; the trainer does not."""
    choices = [1, True, "1", None]
    space = {"model.depth": {"type": "categorical", "choices": choices}}
    sampler = Sampler(make_study(space=space))
    for number, choice in enumerate(choices):
        params = sampler.propose(number, {"model.depth": choice})["params"]
        assert params == {"model.depth": choice}
        assert type(params["model.depth"]) is type(choice)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "gp" else k for k in TYPES]
)
def test_no_configuration_is_proposed_twice(kind: str) -> None:
    """All 12 come once, also those that failed, and then nothing; a rebuilt sampler agrees."""
    study = make_study(kind, space=SMALL)
    sampler, events, seen = Sampler(study), [], set()
    for number in range(12):
        proposal = sampler.propose(number, {})
        assert proposal is not None
        if kind != "gp" or number > 9:
            assert replayed(study, events).propose(number, {}) == proposal
        ending = ["completed", "failed", "infeasible"][number % 3]
        about = {"trial": number}
        for event in (
            {"event": "proposed", **about, "protected": False, **proposal},
            reported(number, 1, 0.5 - 0.1 * proposal["params"]["batch.effective"]),
            {"event": "ended", **about, "ending": ending},
        ):
            events.append(event)
            sampler.observe(event)
        params = proposal["params"]
        seen.add(
            tuple(
                f"{params.get(name, 0):.9g}" if name != "loss.weighting" else params[name]
                for name in SMALL
            )
        )
    assert len(seen) == 12
    assert sampler.propose(12, {}) is None


def test_what_is_given_again_is_honoured_and_says_as_which_trial() -> None:
    """An entry that leaves something open is filled in otherwise, while that is possible."""
    sampler = Sampler(make_study(space=SMALL))
    whole = {"loss.weighting": "learned", "batch.effective": 4}
    proposed = []
    for number, given in enumerate([whole, whole, *4 * [{"loss.weighting": "learned"}]]):
        proposal = sampler.propose(number, given)
        assert proposal is not None and given.items() <= proposal["params"].items()
        sampler.observe({"event": "proposed", "trial": number, "protected": False, **proposal})
        proposed.append((proposal["params"]["batch.effective"], proposal.get("same_as")))
    assert proposed[:2] == [(4, None), (4, 0)]
    assert {batch for batch, _ in proposed[2:4]} == {2, 6}
    assert [same is None for _, same in proposed[2:]] == [True, True, False, False]


def test_neither_references_nor_earlier_studies_count_as_tried() -> None:
    """They are no results of the search; the sampler may propose the same."""
    sampler = Sampler(make_study("grid", space=SMALL))
    imported = {"event": "imported", "params": {"loss.weighting": "learned", "batch.effective": 2}}
    sampler.observe({**imported, "values": [[9, 0.5]], "ending": "completed"})
    reference = {"event": "proposed", "trial": 1, "protected": True}
    sampler.observe({**reference, "params": {"loss.weighting": "learned", "batch.effective": 4}})
    for number in range(12):
        proposal = sampler.propose(number, {})
        assert proposal is not None
        sampler.observe({"event": "proposed", "trial": number + 2, "protected": False, **proposal})
    assert sampler.propose(12, {}) is None


def test_proposals_depend_on_the_events_alone(calm: Driver) -> None:
    """A driver that starts anywhere in a study proposes what the uninterrupted one proposed."""
    study = load_study(calm.study)
    events = calm.events()
    sampled = [i for i, e in enumerate(events) if e["event"] == "proposed" and not e["protected"]]
    for ordinal, index in enumerate(sampled, study.num_protected):
        given = study.enqueue[0] if events[index]["kind"] == "enqueued" else {}
        proposal = replayed(study, events[:index]).propose(ordinal, given)
        assert proposal["params"] == events[index]["params"]
        assert proposal.get("optuna") == events[index].get("optuna")
