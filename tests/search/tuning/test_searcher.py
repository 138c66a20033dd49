"""Which trial a carrier gets, without a cluster: carriers are names here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from search.ledger.session import LiveStudy
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from search.tuning.searcher import Proposer
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
) -> Iterator[tuple[LiveStudy, Proposer]]:
    """Open a study as a driver does."""
    with offline.opened(study, folder) as live:
        sampler = Sampler(study)
        for event in live.ledger.events:
            sampler.hear(event)
        live.listeners.insert(0, sampler.hear)
        yield live, Proposer(live, sampler, lambda: slots, "tests.search.toy:fit")


def carry(proposer: Proposer, name: str) -> dict[str, Any]:
    cargo = proposer.suggest(name)
    assert isinstance(cargo, dict)
    return cargo


def kinds(live: LiveStudy) -> list[tuple[int, str, bool]]:
    return [(t.number, t.kind, t.protected) for t in live.state.trials.values()]


def test_order(study: StudyConfig, tmp_path: Path) -> None:
    """The control, the references, the enqueued, then sampled ones; and no more."""
    with driver(study, tmp_path) as (live, proposer):
        cargos = [carry(proposer, name) for name in "abcdef"]
        assert kinds(live) == [
            (0, "control", True),
            (1, "enqueued", True),
            (2, "enqueued", False),
            (3, "enqueued", False),
            (4, "sampled", False),
            (5, "sampled", False),
        ]
        assert [cargo["trial"] for cargo in cargos] == list(range(6))
        assert cargos[0]["train"]["model"]["family"] == "unet"
        assert [cargo["train"]["optimizer"]["lr"] for cargo in cargos[1:4]] == [1e-4, 1e-2, 1e-3]
        assert {cargo["received"] for cargo in cargos} == {-1}
        assert proposer.suggest("g") is None  # one that runs may yet die
        for name in "abcdef":
            proposer.on_trial_complete(name)
        live.record(*(ended(number) for number in range(6)))
        assert proposer.suggest("g") == Searcher.FINISHED


def ended(number: int, ending: str = "completed") -> dict[str, Any]:
    return {"event": "ended", "trial": number, "epoch": 0, "ending": ending, "reason": ""}


def test_a_full_cluster_waits(study: StudyConfig, tmp_path: Path) -> None:
    with driver(study, tmp_path, slots=1) as (live, proposer):
        carry(proposer, "a")
        assert proposer.suggest("b") is None
        live.stopping = "SIGTERM"
        assert proposer.suggest("b") == Searcher.FINISHED


def test_a_dead_carrier_is_followed(study: StudyConfig, tmp_path: Path) -> None:
    """By one that knows what was received, before anything new is proposed."""
    with driver(study, tmp_path) as (live, proposer):
        carry(proposer, "a")
        live.record({"event": "started", "trial": 0, "attempt": 1, "host": "h", "pid": 1})
        live.record({"event": "reported", "trial": 0, "epoch": 1, "value": 0.1, "metrics": {}})
        proposer.on_trial_complete("a", error=True)
        again = carry(proposer, "b")
        assert (again["trial"], again["received"], again["attempt"]) == (0, 1, 2)
        assert carry(proposer, "c")["trial"] == 1


def test_confirming_trials_shift_nothing(study: StudyConfig, tmp_path: Path) -> None:
    """They take numbers; what is proposed afterwards is as it would have been, in its order."""
    confirm = {"event": "proposed", "kind": "confirm", "protected": True}
    confirm |= {"params": {"optimizer.lr": 1e-2}, "of": 2, "seed": 7, "fold": 1, "epochs": 5}
    proposed = []
    for name, beside in (("without", False), ("with", True)):
        with driver(study, tmp_path / name) as (live, proposer):
            for carrier in "abc":
                carry(proposer, carrier)
            if beside:
                live.record(*(confirm | {"trial": number} for number in (3, 4)), ended(4))
                cargo = carry(proposer, "confirm")
                assert (cargo["trial"], cargo["train"]["seed"]) == (3, 7)
                assert (cargo["train"]["data"]["fold"], cargo["train"]["epochs"]) == (1, 5)
            for carrier in "def":
                carry(proposer, carrier)
            assert proposer.suggest("g") is None
            trials = [trial for trial in live.state.trials.values() if trial.kind != "confirm"]
            proposed.append([(trial.kind, trial.params) for trial in trials])
    assert proposed[0] == proposed[1]
    assert len(proposed[0]) == 6


def test_a_resumed_trial_goes_first(study: StudyConfig, tmp_path: Path) -> None:
    with driver(study, tmp_path) as (live, proposer):
        carry(proposer, "a")
        live.record({"event": "reported", "trial": 0, "epoch": 3, "value": 0.1, "metrics": {}})
        live.record(ended(0), {"event": "resumed", "trial": 0, "epoch": 3, "epochs": 9})
        proposer.on_trial_complete("a")
        cargo = carry(proposer, "b")
        assert (cargo["trial"], cargo["received"], cargo["train"]["epochs"]) == (0, 3, 9)


def test_only_what_was_asked_for_whatever_the_budget(store: Path, tmp_path: Path) -> None:
    """As `resume` and `confirm` do: other trials wait for `launch`, and none is proposed."""
    study = offline.study(
        store, space=SPACE, enqueue=ENQUEUE, trials={"num_trials": 4}, budget={"epochs": 1}
    )
    with driver(study, tmp_path) as (live, proposer):
        for name in "abc":
            carry(proposer, name)
        for name in "abc":
            proposer.on_trial_complete(name)
        report = {"trial": 1, "epoch": 1, "value": 0.5, "metrics": {"val/dice": 0.5}}
        live.record({"event": "reported", **report})
        assert live.overspent() is not None and not live.finished
        live.only = frozenset({1})
        assert live.overspent() is None
        assert carry(proposer, "d")["trial"] == 1
        assert proposer.suggest("e") is None
        proposer.on_trial_complete("d")
        live.record(ended(1))
        assert live.finished and proposer.suggest("f") == Searcher.FINISHED
        live.only = None
        assert not live.finished and live.overspent() is not None


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
    with driver(study, tmp_path) as (live, proposer):
        for name in "abcd":
            carry(proposer, name)
        assert [trial.kind for trial in live.state.trials.values()] == 3 * ["enqueued"] + [
            "sampled"
        ]
        assert not live.state.trials[1].protected


def test_an_impossible_combination_ends_at_once(store: Path, tmp_path: Path) -> None:
    """It counts as a trial, infeasible, so that the sampler learns of it; the next is carried."""
    space = {**SPACE, "model.depth": {"type": "categorical", "choices": [3, 99]}}
    study = offline.study(store, space=space, trials={"num_trials": 12})
    with driver(study, tmp_path, slots=99) as (live, proposer):
        carried: list[int] = []
        while isinstance(cargo := proposer.suggest(f"{len(carried)}"), dict):
            carried.append(cargo["trial"])
        infeasible = [t for t in live.state.trials.values() if t.ending == "infeasible"]
        assert infeasible
        assert all(trial.params["model.depth"] == 99 and trial.reason for trial in infeasible)
        assert len(live.state.searched()) == 12
        assert sorted([*carried, *(trial.number for trial in infeasible)]) == list(range(14))
