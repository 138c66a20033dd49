"""How a search follows its prior: what is stated first, then less, and least where it misleads."""

import json
import math
from typing import Any

import pytest

from search.sampler.guidance import SHARE, Guidance
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from tests.search.sampler.sampled_study import (
    SPACE,
    make_study,
    overlapping,
    replayed,
    reported,
    story,
)

Event = dict[str, Any]
PRIOR: dict[str, Any] = {
    "optimizer.lr": 1e-3,
    "loss.weighting": "warm_in",
    "model.depth": 3,
    "model.width": 24,
    "data.modalities": ["ncct", "tmax"],
}


def guided(kind: str = "tpe", confidence: str = "medium", **settings: Any) -> StudyConfig:
    about = {"confidence": confidence}
    space = {name: dim | {"prior": PRIOR[name]} | about for name, dim in SPACE.items()}
    return make_study(kind, space=space, **settings)


def sampled(sampler: Sampler, number: int, value: float | None = None) -> Event:
    """Let a sampler propose a trial, which ends with a value; return the proposal."""
    values, ending = ([], None) if value is None else ([value], "completed")
    return story(sampler, number, values, ending)[0]


@pytest.mark.parametrize("kind", ["tpe", "curve_gp", "random"])
def test_the_stated_values_come_first(kind: str) -> None:
    sampler = Sampler(guided(kind))
    assert sampler.propose(0, {"model.depth": 2, "loss.weighting": "warm_in"})["params"] == {
        name: 2 if name == "model.depth" else value
        for name, value in PRIOR.items()
        if name != "model.width"
    }
    first = sampled(sampler, 0)
    assert first["params"] == PRIOR and first["from_prior"]
    assert all(sampled(sampler, number)["params"] != PRIOR for number in range(1, 9))


@pytest.mark.parametrize("kind", ["tpe", "curve_gp", "random"])
def test_a_continued_study_proposes_the_same(kind: str) -> None:
    study = guided(kind)
    events = overlapping(study, 24)
    whose = set()
    for index, event in enumerate(events):
        if event["event"] == "proposed":
            proposal = replayed(study, events[:index]).propose(event["trial"], {})
            assert json.loads(json.dumps(proposal)) == {key: event[key] for key in proposal}
            whose.add("from_prior" in event)
    assert whose == {True, False}


@pytest.mark.parametrize(
    ("kind", "lr"), [("tpe", 1.671926323928e-4), ("random", 1.304384707431e-5)]
)
def test_a_study_without_a_prior_proposes_what_it_always_did(kind: str, lr: float) -> None:
    *_, last = (e for e in overlapping(make_study(kind), 16) if e["event"] == "proposed")
    assert last["params"]["optimizer.lr"] == pytest.approx(lr, rel=1e-9)
    assert "from_prior" not in last


def ended(guidance: Guidance, number: int, value: float, *, from_prior: bool) -> None:
    about: Event = {"trial": number}
    mark = {"from_prior": True} if from_prior else {}
    guidance.observe({"event": "proposed", **about, "params": {}, "protected": False, **mark})
    guidance.observe(reported(number, 1, value))
    ending = "completed" if math.isfinite(value) else "diverged"
    guidance.observe({"event": "ended", **about, "ending": ending})


def shares(good: float, others: float) -> list[float]:
    """Return the prior's share after every trial, of which every other is the prior's."""
    guidance, found = Guidance(guided()), []
    for number in range(60):
        from_prior = number % 2 == 0
        value = (good if from_prior else others) + 0.001 * (number // 2 % 7)
        ended(guidance, number, value, from_prior=from_prior)
        found.append(guidance.share())
    return found


def test_the_share_falls_and_by_far_more_where_the_prior_is_wrong() -> None:
    right, even, wrong = shares(0.6, 0.3), shares(0.3, 0.3), shares(0.3, 0.6)
    assert even[0] > 0.8 * SHARE and even[-1] < even[0] / 2
    assert right[-1] > 1.4 * even[-1] > 0
    assert wrong[20] < even[20] / 2 and wrong[-1] < right[-1] / 5


def test_what_diverges_is_wrong_and_what_fails_says_nothing() -> None:
    assert shares(math.nan, 0.3) == pytest.approx(shares(0.1, 0.3))
    guidance = Guidance(guided())
    before = guidance.share()
    guidance.observe({"event": "proposed", "trial": 0, "params": {}, "protected": False})
    guidance.observe({"event": "ended", "trial": 0, "ending": "failed"})
    assert guidance.share() == before


def test_a_loss_is_better_where_it_is_lower() -> None:
    guidance = Guidance(guided(objective={"metric": "train/loss", "mode": "min"}))
    for number in range(30):
        ended(guidance, number, 0.1 if number % 2 else 0.9, from_prior=number % 2 == 0)
    assert guidance.share() < SHARE / 5


def test_who_draws_from_no_prior_is_left_alone() -> None:
    proposals = [[Sampler(s).propose(0, {})] for s in (guided("qmc"), make_study("qmc"))]
    assert proposals[0] == proposals[1]


def imported(trial: int, lr: float, values: list[list[float]], uid: str = "a") -> Event:
    params = {"optimizer.lr": lr, "data.modalities": ["ncct"], "loss.weighting": "fixed"}
    about = {"event": "imported", "source": uid, "uid": uid, "source_trial": trial}
    return {**about, "params": params, "values": values, "ending": "stopped"}


def test_the_best_of_each_earlier_study_is_a_centre() -> None:
    """The one that went furthest, then the best by the mean; not what it diverged with."""
    past = [
        imported(0, 1e-4, [[1, 0.9]]),
        imported(1, 2e-4, [[1, 0.2], [2, 0.4], [3, 0.6]]),
        imported(2, 3e-4, [[1, 0.2], [2, 0.6], [3, 0.3]]),
        imported(3, 4e-4, [[3, 0.9]]) | {"ending": "diverged"},
        imported(0, 5e-3, [[1, 0.1]], "b"),
    ]
    study = make_study(sampler={"type": "tpe", "warm_start": "prior"})
    sampler = replayed(study, past)
    rates = [sampled(sampler, number)["params"]["optimizer.lr"] for number in range(2)]
    assert rates == [2e-4, 5e-3]
    assert len(sampler.optuna_study.trials) == 2  # no trial of another study
    own = {"optimizer.lr": SPACE["optimizer.lr"] | {"prior": 1e-2}}
    stated = make_study(space=SPACE | own, sampler={"type": "random", "warm_start": "prior"})
    first = sampled(replayed(stated, past), 0)["params"]
    assert first == past[1]["params"] | {"optimizer.lr": 1e-2}


@pytest.mark.parametrize("kind", ["tpe", "curve_gp", "random"])
def test_what_is_stated_may_have_been_tried_already(kind: str) -> None:
    """By a person, so that it is none of the prior's; the search goes on as ever."""
    study = guided(kind)
    sampler, events = Sampler(study), []
    given = sampler.propose(0, PRIOR)
    events.append({"event": "proposed", "trial": 0, "kind": "enqueued", "protected": False} | given)
    sampler.observe(events[0])
    for number in range(1, 14):
        before = replayed(study, events).propose(number, {})
        events += story(sampler, number, [0.1 * (number % 5)], "completed")
        assert json.loads(json.dumps(before)) == {k: events[-3][k] for k in before}
    proposed = [event for event in events if event["event"] == "proposed"]
    assert not any(event.get("drawn_before") for event in proposed)
    assert any(event.get("from_prior") for event in proposed)
