"""Searches in other processes, and Optuna's own."""

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.bench.search import __main__ as bench
from tests.bench.search.optuna_methods import Oracle, TPEHyperband
from tests.bench.search.peers.client import VARIABLE, NotInstalled, Peer
from tests.bench.search.problems import EPOCHS
from tests.bench.search.problems.hartmann import Hartmann
from tests.bench.search.simulate import Choosing, Method, simulate


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Peer]:
    monkeypatch.setenv(VARIABLE, sys.executable)
    return lambda **more: Peer("example", Hartmann(3), **{"seed": 0, **more})


def test_a_peer_is_asked_and_told_in_order(example: Callable[..., Peer]) -> None:
    peer = example()
    assert isinstance(peer, Choosing) and peer.incumbent() is None
    first, params = peer.next()  # type: ignore[misc]
    assert set(params) == {"x0", "x1", "x2"}
    # Between rungs nothing is asked, but all of it is told with the next call.
    assert peer.report(first, 1, 0.5) and peer.report(first, 2, 0.5)
    assert peer._untold and peer.report(first, 3, 0.5)
    assert not peer._untold and peer.incumbent() == first
    second, _ = peer.next()  # type: ignore[misc]
    assert not peer.report(second, 3, 0.4) and peer.incumbent() == first
    assert peer.report(first, EPOCHS, 0.9) is False
    assert peer._call("next")[1]["told"] == 1 + 2 + 3 + 3 + EPOCHS
    again = example(stated={"x1": 0.25})  # another search of the same process
    assert again.next()[1] == params | {"x1": 0.25}  # type: ignore[index]


def test_a_peer_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(NotInstalled, match=VARIABLE):
        Peer("syne_tune_bohb", Hartmann(3), seed=0)
    arguments = ["bench", "hartmann3", "--seeds", "2", "--methods", "segtune", "Syne Tune BOHB"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(bench, "BUDGET", 2)
    bench.main()
    printed = capsys.readouterr().out
    assert "Syne Tune BOHB is left out. syne_tune_bohb: not installed" in printed
    assert "| method | mean rank" in printed and "\n| Syne Tune BOHB" not in printed


@pytest.mark.parametrize("make", [TPEHyperband, Oracle])
def test_optuna_s_own_loop(make: Callable[[Any, int, Any], Method]) -> None:
    problem = Hartmann(3)
    stated = {"x0": 0.1, "x1": 0.5, "x2": 0.9}
    runs = [
        simulate(problem, make(problem, 0, stated), workers=2, until_s=60.0, seed=0)
        for _ in range(2)
    ]
    assert runs[0] == runs[1] and runs[0].params[0] == stated
    assert runs[0].stopped and max(step.epoch for step in runs[0].steps) == EPOCHS


def test_the_oracle_chooses_the_truth_and_hyperband_a_complete_trial() -> None:
    problem = Hartmann(3)
    oracle = Oracle(problem, 0)
    for _ in range(4):
        trial, _ = oracle.next()
        going = oracle.report(trial, 1, math.nan)  # what is reported does not matter
        assert going == (oracle._ends[trial] == min(oracle._ends.values()))
    assert oracle.incumbent() == min(oracle._now, key=oracle._now.__getitem__)
    optuna = TPEHyperband(problem, 0)
    one, two = optuna.next()[0], optuna.next()[0]
    optuna.report(one, 1, 0.9)
    optuna.report(two, 1, 0.1)
    assert optuna.incumbent() == two
    assert not optuna.report(one, EPOCHS, 0.8) and optuna.incumbent() == one
    assert not optuna.report(two, 2, math.nan) and optuna.incumbent() == one
