"""The sampler that asks a model of curves, beside what all samplers do (test_sampler.py)."""

import math
from typing import Any

from search.sampler.sampler import Sampler
from search.study.config import StudyConfig

SPACE = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "learned"]},
}


def make() -> Sampler:
    study = {
        "study": "curves",
        "data": {"store": "."},
        "space": SPACE,
        "sampler": {"type": "curve_gp", "num_startup_trials": 6},
        "scheduler": {"type": "asha", "max_t": 9},
        "trials": {"num_trials": 20},
    }
    return Sampler(StudyConfig.model_validate(study))


def dice(params: dict[str, Any], epoch: int) -> float:
    end = 0.8 - 0.1 * (math.log10(params["optimizer.lr"]) + 3) ** 2
    return end - (params["loss.weighting"] == "learned") * 0.1 - 0.3 * math.exp(-epoch / 3)


def test_it_learns_from_trials_that_were_stopped_early() -> None:
    sampler = make()
    found = []
    for number in range(16):
        proposal = sampler.propose(number, {})
        assert proposal is not None
        params = proposal["params"]
        sampler.observe({"event": "proposed", "trial": number, "protected": False, **proposal})
        for epoch in (1, 2):
            value = dice(params, epoch)
            report = {"epoch": epoch, "value": value, "metrics": {}}
            sampler.observe({"event": "reported", "trial": number, **report})
        sampler.observe({"event": "ended", "trial": number, "ending": "stopped"})
        found.append(dice(params, 9))
    assert max(found[6:]) > 0.77
    assert sum(found[10:]) / 6 > sum(found[:6]) / 6 + 0.05


def test_an_earlier_study_and_refused_combinations_count() -> None:
    sampler = make()
    for lr in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        params = {"optimizer.lr": lr, "loss.weighting": "fixed"}
        values = [[epoch, dice(params, epoch)] for epoch in range(1, 10)]
        about = {"params": params, "values": values, "ending": "completed", "uid": "earlier"}
        sampler.observe({"event": "imported", **about})
    refused = sampler.propose(0, {})
    assert refused is not None
    sampler.observe({"event": "refused", **refused})
    proposal = sampler.propose(0, {})
    assert proposal is not None and proposal["params"] != refused["params"]
    assert abs(math.log10(proposal["params"]["optimizer.lr"]) + 3) < 1.2
