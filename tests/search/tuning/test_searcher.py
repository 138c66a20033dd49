"""Which trial an attempt gets, without a cluster: attempts are names here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from search.execution.faults.recovery import Recovery
from search.ledger.hand import requested_events
from search.ledger.session import StudySession
from search.monitor.console import ProgressDisplay
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from search.tuning.searcher import REFUSALS, StudySearcher
from tests.search import offline

SPACE = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "model.width": {"type": "categorical", "choices": [8, 16]},
}
ENQUEUE = [
    {"optimizer.lr": 1e-2},
    {"optimizer.lr": 1e-4, "protected": True},
    {"optimizer.lr": 1e-3, "model.width": 16},
]


@pytest.fixture
def study(store: Path) -> StudyConfig:
    return offline.study(store, space=SPACE, enqueue=ENQUEUE, trials={"num_trials": 4})


@contextmanager
def driver(
    study: StudyConfig, folder: Path, slots: int = 9
) -> Iterator[tuple[StudySession, StudySearcher]]:
    """Open a study as a driver does."""
    with offline.opened(study, folder) as session:
        sampler = Sampler(study)
        for event in session.ledger.events:
            sampler.observe(event)
        session.listeners.insert(0, sampler.observe)
        recovery = Recovery(lambda: {"here": slots})
        fit = "tests.search.toy:fit"
        yield session, StudySearcher(session, sampler, lambda without: slots, recovery, fit)


def start(searcher: StudySearcher, name: str) -> dict[str, Any]:
    spec = searcher.suggest(name)
    assert isinstance(spec, dict)
    return spec


def kinds(session: StudySession) -> list[tuple[int, str, bool]]:
    return [(t.number, t.kind, t.protected) for t in session.state.trials.values()]


def test_control_references_and_enqueued_come_before_sampled_trials(
    study: StudyConfig, tmp_path: Path
) -> None:
    """The control, the references, the enqueued, then sampled ones; and no more."""
    with driver(study, tmp_path) as (session, searcher):
        specs = [start(searcher, name) for name in "abcdef"]
        assert kinds(session) == [
            (0, "control", True),
            (1, "enqueued", True),
            (2, "enqueued", False),
            (3, "enqueued", False),
            (4, "sampled", False),
            (5, "sampled", False),
        ]
        assert [spec["trial"] for spec in specs] == list(range(6))
        assert specs[0]["train"]["model"]["family"] == "unet"
        assert [spec["train"]["optimizer"]["lr"] for spec in specs[1:4]] == [1e-4, 1e-2, 1e-3]
        assert {spec["received"] for spec in specs} == {-1}
        assert searcher.suggest("g") is None  # one that runs may yet die
        for name in "abcdef":
            searcher.on_trial_complete(name)
        session.record(*(ended(number) for number in range(6)))
        assert searcher.suggest("g") == Searcher.FINISHED


def ended(number: int, ending: str = "completed") -> dict[str, Any]:
    return {"event": "ended", "trial": number, "epoch": 0, "ending": ending, "reason": ""}


def test_a_full_cluster_waits(study: StudyConfig, tmp_path: Path) -> None:
    with driver(study, tmp_path, slots=1) as (session, searcher):
        start(searcher, "a")
        assert searcher.suggest("b") is None
        session.stopping = "SIGTERM"
        assert searcher.suggest("b") == Searcher.FINISHED


def test_a_dead_attempt_is_followed(study: StudyConfig, tmp_path: Path) -> None:
    """By one that knows what was received, before anything new is proposed."""
    with driver(study, tmp_path) as (session, searcher):
        start(searcher, "a")
        session.record({"event": "started", "trial": 0, "attempt": 1, "host": "h", "pid": 1})
        session.record({"event": "reported", "trial": 0, "epoch": 1, "value": 0.1, "metrics": {}})
        searcher.on_trial_complete("a", error=True)
        again = start(searcher, "b")
        assert (again["trial"], again["received"], again["attempt"]) == (0, 1, 2)
        assert start(searcher, "c")["trial"] == 1


def test_confirming_trials_shift_nothing(study: StudyConfig, tmp_path: Path) -> None:
    """They take numbers; what is proposed afterwards is as it would have been, in its order."""
    confirm = {"event": "proposed", "kind": "confirm", "protected": True}
    confirm |= {"params": {"optimizer.lr": 1e-2}, "of": 2, "seed": 7, "fold": 1, "epochs": 5}
    proposed = []
    for name, beside in (("without", False), ("with", True)):
        with driver(study, tmp_path / name) as (session, searcher):
            for name in "abc":
                start(searcher, name)
            if beside:
                session.record(*(confirm | {"trial": number} for number in (3, 4)), ended(4))
                spec = start(searcher, "confirm")
                assert (spec["trial"], spec["train"]["seed"]) == (3, 7)
                assert (spec["train"]["data"]["fold"], spec["train"]["epochs"]) == (1, 5)
            for name in "def":
                start(searcher, name)
            assert searcher.suggest("g") is None
            trials = [trial for trial in session.state.trials.values() if trial.kind != "confirm"]
            proposed.append([(trial.kind, trial.params) for trial in trials])
    assert proposed[0] == proposed[1]
    assert len(proposed[0]) == 6


def test_a_resumed_trial_goes_first(study: StudyConfig, tmp_path: Path) -> None:
    with driver(study, tmp_path) as (session, searcher):
        start(searcher, "a")
        session.record({"event": "reported", "trial": 0, "epoch": 3, "value": 0.1, "metrics": {}})
        session.record(ended(0), {"event": "resumed", "trial": 0, "epoch": 3, "epochs": 9})
        searcher.on_trial_complete("a")
        spec = start(searcher, "b")
        assert (spec["trial"], spec["received"], spec["train"]["epochs"]) == (0, 3, 9)


def test_only_what_was_asked_for_whatever_the_budget(store: Path, tmp_path: Path) -> None:
    """As `resume` and `confirm` do: other trials wait for `launch`, and none is proposed."""
    study = offline.study(
        store, space=SPACE, enqueue=ENQUEUE, trials={"num_trials": 4}, budget={"epochs": 1}
    )
    with driver(study, tmp_path) as (session, searcher):
        for name in "abc":
            start(searcher, name)
        for name in "abc":
            searcher.on_trial_complete(name)
        report = {"trial": 1, "epoch": 1, "value": 0.5, "metrics": {"val/dice": 0.5}}
        session.record({"event": "reported", **report})
        assert session.overspent() is not None and not session.finished
        session.only = frozenset({1})
        assert session.overspent() is None
        assert start(searcher, "d")["trial"] == 1
        assert searcher.suggest("e") is None
        searcher.on_trial_complete("d")
        session.record(ended(1))
        assert session.finished and searcher.suggest("f") == Searcher.FINISHED
        session.only = None
        assert not session.finished and session.overspent() is not None


def test_nothing_trained_has_no_control(store: Path, tmp_path: Path) -> None:
    """Zero-epoch trials begin with the references."""
    study = offline.study(
        store,
        space=SPACE,
        enqueue=ENQUEUE,
        trials={"num_trials": 3},
        scheduler={"type": "none", "max_t": 0},
        train={"init_from": "somewhere.pt"},
    )
    with driver(study, tmp_path) as (session, searcher):
        for name in "abcd":
            start(searcher, name)
        assert [trial.kind for trial in session.state.trials.values()] == 3 * ["enqueued"] + [
            "sampled"
        ]
        assert not session.state.trials[1].protected


def test_a_combination_that_the_trainer_refuses_is_no_trial(store: Path, tmp_path: Path) -> None:
    """It is recorded, so that the sampler learns of it, and takes neither a number nor a place."""
    space = {**SPACE, "model.depth": {"type": "categorical", "choices": [3, 99]}}
    study = offline.study(store, space=space, trials={"num_trials": 12})
    with driver(study, tmp_path, slots=99) as (session, searcher):
        started = all_of(searcher)
        assert session.state.refused
        for event in session.state.refused:
            assert event["params"]["model.depth"] == 99 and "model.depth: 99" in event["reason"]
        assert started == list(range(14)) and not session.state.exhausted
        assert {t.params["model.depth"] for t in session.state.searched()} == {3}
    with driver(study, tmp_path / "again", slots=99) as (session, searcher):
        first = [start(searcher, name)["train"] for name in "abcdef"]
    with driver(study, tmp_path / "again", slots=99) as (session, searcher):
        first += [start(searcher, name)["train"] for name in "abcdefghijklmn"][6:]
        again = [trial.params for trial in session.state.searched()]
    assert [trial["model"]["depth"] for trial in first[2:]] == 12 * [3]
    assert len(again) == 12


def all_of(searcher: StudySearcher) -> list[int]:
    """Start all trials that come; return their numbers."""
    started: list[int] = []
    while isinstance(spec := searcher.suggest(f"{len(started)}"), dict):
        started.append(spec["trial"])
    return started


def test_a_study_whose_settings_clash_ends_with_the_clash(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After REFUSALS proposals in a row; the same launch again has nothing to do."""
    space = {**SPACE, "model.depth": {"type": "categorical", "choices": [98, 99]}}
    study = offline.study(store, space=space, trials={"num_trials": 12})
    with driver(study, tmp_path, slots=99) as (session, searcher):
        session.listeners.append(ProgressDisplay(session).observe)
        assert all_of(searcher) == [0, 1]
        assert len(session.state.refused) == REFUSALS == 100
        assert session.state.planned(study)
        said = capsys.readouterr().out.splitlines()[-1]
        assert (
            "note: 100 combinations in a row cannot be trained: the study ends with 0 of 12" in said
        )
        assert "model.depth: 9" in said
    with driver(study, tmp_path, slots=99) as (session, searcher):
        assert session.state.planned(study) and all_of(searcher) == [0, 1]
        assert len(session.state.refused) == 100


def test_an_exhausted_space_ends_the_proposing(store: Path, tmp_path: Path) -> None:
    """With a note and what there is; an entry given twice is trained twice, and says so."""
    space = {"batch.effective": {"type": "categorical", "choices": [2, 4]}}
    settings: dict[str, Any] = {"space": space, "enqueue": 2 * [{"batch.effective": 4}]}
    study = offline.study(store, trials={"num_trials": 9}, **settings)
    with driver(study, tmp_path, slots=99) as (session, searcher):
        assert all_of(searcher) == [0, 1, 2, 3]
        tried = [trial.params["batch.effective"] for trial in session.state.searched()]
        assert tried == [4, 4, 2]
        same = [event.get("same_as") for event in session.ledger.events if "params" in event]
        assert same == [None, None, 1, None]
        assert session.state.exhausted == (
            "the space has no combination that was not tried: the study ends with 3 of 9 searched "
            "trials"
        )
        session.record(*(ended(number) for number in range(4)))
        assert session.finished


def ask(session: StudySession, **request: Any) -> None:
    """Record what a person asks for, as the driver does."""
    name = f"request{len(session.state.requests)}"
    session.record(*requested_events(session.study, session.state, request, name))


def test_a_trial_by_hand_comes_next_and_on_top(study: StudyConfig, tmp_path: Path) -> None:
    """Before what the file enqueues; the sampler fills in the rest; there is one trial more."""
    with driver(study, tmp_path) as (session, searcher):
        start(searcher, "a")
        ask(session, kind="enqueue", params={"optimizer.lr": 5e-4})
        ask(session, kind="enqueue", params={"optimizer.lr": 0.7}, reference="mine")
        specs = [start(searcher, name) for name in "bcdefgh"]
        assert kinds(session)[1:4] == [
            (1, "enqueued", True),  # the file's reference
            (2, "enqueued", False),
            (3, "enqueued", True),
        ]
        trials = session.state.trials
        assert trials[2].params["optimizer.lr"] == 5e-4
        assert trials[2].params["model.width"] in (8, 16)
        assert specs[2]["train"]["optimizer"]["lr"] == 0.7
        names = [session.state.reference_name(study, trials[number]) for number in (1, 3)]
        assert names == [study.references[0].name, "mine"]
        assert session.state.num_trials(study) == len(session.state.searched()) == 5
        assert searcher.suggest("i") is None and session.state.planned(study)
        assert [t.params["optimizer.lr"] for t in session.state.searched()[1:3]] == [1e-2, 1e-3]


def test_a_study_that_was_killed_proposes_the_same_beside_what_was_asked(
    study: StudyConfig, tmp_path: Path
) -> None:
    """Killed after each of its proposals."""
    asked = [{"model.width": 16}, {"optimizer.lr": 3e-4}]
    with driver(study, tmp_path / "whole") as (session, searcher):
        for params in asked:
            ask(session, kind="enqueue", params=params)
        all_of(searcher)
        whole = [trial.params for trial in session.state.trials.values()]
    for number in range(len(whole)):
        with driver(study, tmp_path / "killed") as (session, searcher):
            for params in asked if number == 0 else []:
                ask(session, kind="enqueue", params=params)
            for name in range(number + 1):
                start(searcher, f"{name}")
            parts = [trial.params for trial in session.state.trials.values()]
    assert parts == whole and len(whole) == 8


def test_no_more_at_once_than_the_study_says(study: StudyConfig, tmp_path: Path) -> None:
    config = study.model_dump(mode="json")
    config["trials"]["max_concurrent"] = 2
    with driver(StudyConfig.model_validate(config), tmp_path) as (session, searcher):
        start(searcher, "a"), start(searcher, "b")
        assert searcher.suggest("c") is None
        config["trials"]["max_concurrent"] = 3
        ask(session, kind="settings", config=config)
        assert start(searcher, "c")["trial"] == 2
        assert searcher.suggest("d") is None


def test_what_the_trainer_never_takes_is_declined(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial by hand of which the sampler can make none ends nothing else."""
    monkeypatch.setattr("search.tuning.searcher.REFUSALS", 9)
    space = {**SPACE, "model.depth": {"type": "categorical", "choices": [3, 99]}}
    study = offline.study(store, space=space, trials={"num_trials": 2})
    with driver(study, tmp_path, slots=99) as (session, searcher):
        asked = {"event": "enqueued", "params": {"model.depth": 99}, "request": "r"}
        session.record(asked)  # as a driver whose trainer took it would
        assert all_of(searcher) == [0, 1, 2, 3] and session.state.planned(study)
        [declined] = session.state.declined
        assert declined["what"] == "enqueue model.depth=99" and "model.depth" in declined["reason"]
        assert not session.state.exhausted


def test_an_exhausted_space_still_has_room_for_a_trial_by_hand(store: Path, tmp_path: Path) -> None:
    space = {"model.width": SPACE["model.width"]}
    study = offline.study(store, space=space, trials={"num_trials": 5}, enqueue=[])
    with driver(study, tmp_path, slots=99) as (session, searcher):
        assert all_of(searcher) == [0, 1, 2] and session.state.exhausted
        ask(session, kind="enqueue", params={"model.width": 8})
        assert not session.finished and session.state.num_searched_to_come(study) == 1
        assert start(searcher, "x")["trial"] == 3
        assert session.state.planned(study)
