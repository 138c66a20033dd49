"""Which trial an attempt gets, without a cluster: attempts are names here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from search.execution.recovery import Recovery
from search.ledger.session import StudySession
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from search.tuning.searcher import StudySearcher
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


def test_an_impossible_combination_ends_at_once(store: Path, tmp_path: Path) -> None:
    """It counts as a trial, infeasible, so that the sampler learns of it; the next one starts."""
    space = {**SPACE, "model.depth": {"type": "categorical", "choices": [3, 99]}}
    study = offline.study(store, space=space, trials={"num_trials": 12})
    with driver(study, tmp_path, slots=99) as (session, searcher):
        started: list[int] = []
        while isinstance(spec := searcher.suggest(f"{len(started)}"), dict):
            started.append(spec["trial"])
        infeasible = [t for t in session.state.trials.values() if t.ending == "infeasible"]
        assert infeasible
        assert all(trial.params["model.depth"] == 99 and trial.reason for trial in infeasible)
        assert len(session.state.searched()) == 12
        assert sorted([*started, *(trial.number for trial in infeasible)]) == list(range(14))
