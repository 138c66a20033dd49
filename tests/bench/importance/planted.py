"""Studies of which it is known what matters: planted functions, with and without a search."""

import math
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from search.ledger.trial_state import Report, TrialState
from search.study.config import StudyConfig
from search.study.space import Dimension, among
from tests.bench.search.methods import Segtune
from tests.bench.search.problems import EPOCHS, Curve, rng_of
from tests.bench.search.simulate import simulate

SPACE: dict[str, dict[str, Any]] = {
    "diffusion.target": {"type": "categorical", "choices": ("x_start", "v", "eps")},
    "loss.weighting": {"type": "categorical", "choices": ("fixed", "learned", "warm_in")},
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "model.width": {"type": "int", "low": 4, "high": 7},
    "loss.bce": {"type": "float", "low": 0.0, "high": 1.0},
    "batch.effective": {"type": "categorical", "choices": (8, 16)},
}
CONDITIONAL: dict[str, dict[str, Any]] = {
    "loss.dice": {
        **{"type": "float", "low": 0.05, "high": 2.0, "log": True},
        "when": {"loss.weighting": ("fixed", "warm_in")},
    },
    "loss.warm_in_fraction": {
        **{"type": "float", "low": 0.0, "high": 1.0},
        "when": {"loss.weighting": ("warm_in",)},
    },
}
ASHA = {"type": "asha", "grace_period": 3, "max_t": EPOCHS, "reduction_factor": 3, "smoothing": 3}


class Scenario(NamedTuple):
    """What is planted."""

    shares: Mapping[str, float] = {}
    """Of the variance, by term; the rest is noise."""
    tree: bool = False
    """With conditional settings."""
    searched: bool = False
    """By TPE and ASHA, with a learning curve a trial; else at random, with one epoch."""
    noise: str = "normal"

    @property
    def planted(self) -> set[str]:
        """The settings that matter."""
        return {TERMS[term] for term in self.shares}

    @property
    def space(self) -> dict[str, dict[str, Any]]:
        return SPACE | (CONDITIONAL if self.tree else {})


TERMS = {
    "choice": "diffusion.target",
    "apart": "diffusion.target",
    "trend": "optimizer.lr",
    "hump": "optimizer.lr",
    "child": "loss.warm_in_fraction",
}
SCENARIOS = {
    "nothing": Scenario(),
    "nothing, some fail": Scenario(noise="failures"),
    "nothing, tree": Scenario(tree=True),
    "choice 0.15": Scenario({"choice": 0.15}),
    "choice 0.3": Scenario({"choice": 0.3}),
    "choice 0.67": Scenario({"choice": 0.67}),
    "trend 0.15": Scenario({"trend": 0.15}),
    "trend 0.3": Scenario({"trend": 0.3}),
    "trend 0.67": Scenario({"trend": 0.67}),
    "hump 0.67": Scenario({"hump": 0.67}),
    "two, 0.5 + 0.3": Scenario({"choice": 0.5, "trend": 0.3}),
    "eps apart": Scenario({"apart": 1.0}),
    "child 0.67": Scenario({"child": 0.67}, tree=True),
    "nothing, search": Scenario(searched=True),
    "choice 0.67, search": Scenario({"choice": 0.67}, searched=True),
    "trend 0.67, search": Scenario({"trend": 0.67}, searched=True),
}


class Planted(NamedTuple):
    """One study."""

    study: StudyConfig
    trials: list[TrialState]


def draw(name: str, num_trials: int, seed: int) -> Planted:
    """Return a study with what a scenario plants."""
    scenario = SCENARIOS[name]
    if scenario.searched:
        return _searched(scenario, num_trials, seed)
    study, rng, trials = _study(scenario), random.Random(f"{name}/{num_trials}/{seed}"), []
    for number in range(num_trials):
        params: dict[str, Any] = {}
        for setting, dimension in study.space.items():
            if all(k in params and among(params[k], v) for k, v in dimension.when.items()):
                params[setting] = dimension.draw(rng)
        reports = [Report(1, _value(scenario, study.space, params, rng), {})]
        trials.append(TrialState(number, params, "sampled", False, reports=reports))
        trials[-1].ending = "completed"
    return Planted(study, trials)


def _study(scenario: Scenario) -> StudyConfig:
    asha = ASHA if scenario.searched else {"type": "none", "max_t": 1, "smoothing": 1}
    return StudyConfig.model_validate(
        {"study": "planted", "data": {"store": "store"}, "space": scenario.space}
        | {"scheduler": asha, "trials": {"num_trials": 1}}
    )


def _value(
    scenario: Scenario,
    space: Mapping[str, Dimension],
    params: Mapping[str, Any],
    rng: random.Random,
) -> float:
    """Return a value of variance 1 about 0."""
    if "apart" in scenario.shares:
        return (
            rng.uniform(0, 0.034)
            if params["diffusion.target"] == "eps"
            else rng.uniform(0.186, 0.4)
        )
    noise = rng.gauss(0, 1)
    if scenario.noise == "failures" and rng.random() < 0.15:
        noise = -5 + 0.1 * noise
    value = math.sqrt(1 - sum(scenario.shares.values())) * noise
    return value + sum(math.sqrt(s) * _term(term, params) for term, s in scenario.shares.items())


def _term(term: str, params: Mapping[str, Any]) -> float:
    """Return a term of variance 1, and for all but the choice of mean 0."""
    if term == "choice":
        return -(params["diffusion.target"] == "eps") / math.sqrt(2 / 9)
    if term == "child":  # a third of the trials has it
        place = params.get("loss.warm_in_fraction", 0.5)
        return math.sqrt(3) * math.sqrt(12) * (place - 0.5)
    place = math.sqrt(12) * ((math.log10(params["optimizer.lr"]) + 5) / 4 - 0.5)
    return place if term == "trend" else (1 - place**2) / math.sqrt(0.8)


class _Problem:
    """A scenario as what trials would report: it shows more, the longer they train."""

    name, metric, seconds = "planted", "val/dice", float(EPOCHS)

    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        self.space = {name: Dimension(**about) for name, about in scenario.space.items()}

    def curve(self, params: Mapping[str, Any], seed: int) -> Curve:
        rng = rng_of(seed, params)
        value = _value(self.scenario, self.space, params, rng)
        values = [
            0.4 * (1 - math.exp(-epoch / 6)) * (1 + 0.2 * value) + rng.gauss(0, 0.02)
            for epoch in range(1, EPOCHS + 1)
        ]
        return Curve([min(max(v, 0.0), 1.0) for v in values], [float(e + 1) for e in range(EPOCHS)])

    def regret(self, params: Mapping[str, Any], epoch: int) -> float:
        raise NotImplementedError


def _searched(scenario: Scenario, num_trials: int, seed: int) -> Planted:
    problem, more = _Problem(scenario), {"trials": {"num_trials": num_trials}}
    run = simulate(
        problem,
        Segtune(problem, seed, scheduler=ASHA, **more),
        workers=4,
        until_s=math.inf,
        seed=seed,
    )
    trials = {
        number: TrialState(number, params, "sampled", False)
        for number, params in run.params.items()
    }
    for step in run.steps:
        trials[step.trial].reports.append(Report(step.epoch, step.value, {}))
    for number, trial in trials.items():
        trial.ending = "stopped" if number in run.stopped else "completed"
    return Planted(_study(scenario), [*trials.values()])
