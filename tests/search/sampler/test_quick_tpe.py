"""TPE that keeps what it knows of all trials proposes what Optuna's does."""

import random
from typing import Any

import pytest
from optuna.samplers import TPESampler

from search.sampler import sampler as module
from search.sampler.sampler import Sampler
from tests.search.sampler.sampled_study import make_study, reported


def proposals(**settings: Any) -> list[dict[str, Any]]:
    """Return what is proposed while trials run, fail and cannot be trained."""
    study, draw = make_study(**settings), random.Random(0)
    sampler, found = Sampler(study), []
    running: dict[int, int] = {}
    for number in range(40):
        proposal = sampler.propose(number, {})
        assert proposal is not None
        found.append(proposal)
        running[number] = 0
        events = [{"event": "proposed", "trial": number, "protected": False, **proposal}]
        for trial in draw.sample(sorted(running), k=min(3, len(running))):
            running[trial] += 1
            events.append(reported(trial, running[trial], draw.random(), draw.random()))
            match draw.choice(["on", "stopped", "completed", "failed", "diverged"]):
                case "on":
                    continue
                case ending:
                    events.append({"event": "ended", "trial": trial, "ending": ending})
                    del running[trial]
        for event in events:
            sampler.observe(event)
    return found


@pytest.mark.parametrize("several", [False, True], ids=["together", "each setting alone"])
def test_the_same_is_proposed(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With settings that some trials lack, and choices that are lists."""
    speed = {"metric": "time/case_s", "mode": "min"}
    settings: dict[str, Any] = {"further_objectives": [speed]} if several else {}
    if several:
        settings["scheduler"] = {"type": "none", "max_t": 9}
    ours = proposals(**settings)
    monkeypatch.setattr(module, "QuickTPE", lambda encoded, **its: TPESampler(**its))
    assert proposals(**settings) == ours
