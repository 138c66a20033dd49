"""Who competes: this project's own search code, Ray's stock pair, and the 1-epoch baseline."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler

from search.ledger.decisions import decision_events
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.trial_state import Report
from search.sampler.sampler import Sampler
from search.study.config import StudyConfig
from search.study.own_checks import METRICS
from search.study.space import Dimension, active, ordered
from tests.bench.search.problems import EPOCHS, Params, Problem


class Segtune:
    """A study of this project: its sampler, its judge and its bookkeeping, without Ray and disk.

    Args:
        problem: Gives the space and the objective.
        seed: Of the study.
        stated: A configuration that is tried first.
        as_prior: It is the prior of the space instead.
        sections: Settings over the defaults, as in a study's file.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        stated: Params | None = None,
        *,
        as_prior: bool = False,
        **sections: dict[str, Any],
    ):
        space = problem.space
        if stated and as_prior:
            space, stated = with_prior(space, stated), None
        study = StudyConfig.model_validate(
            {
                "study": "bench",
                "data": {"store": "."},
                "space": space,
                "objective": {"metric": problem.metric, "mode": METRICS[problem.metric]},
                "trials": {"num_trials": 100_000},
                "enqueue": [dict(stated)] if stated else [],
                "seed": seed,
                **sections,
            }
        )
        self.smoothing = study.scheduler.smoothing
        self._session = StudySession(study, Path(), _Memory())  # type: ignore[arg-type]
        self._sampler = Sampler(study)
        self._session.listeners.insert(0, self._sampler.observe)

    def next(self) -> tuple[int, dict[str, Any]] | None:
        study, searched = self._session.study, len(self._session.state.trials)
        trial = study.num_protected + searched
        given = study.enqueue[searched] if searched < len(study.enqueue) else {}
        drawn = self._sampler.propose(trial, given) if searched < study.trials.num_trials else None
        if drawn is None:
            return None
        kind = "enqueued" if given else "sampled"
        event = {"event": "proposed", "trial": trial, "kind": kind, "protected": False}
        self._session.record(event | drawn)
        return trial, drawn["params"]

    def report(self, trial: int, epoch: int, value: float) -> bool:
        report = Report(epoch, value, {})
        decision = self._session.pruner.decide(self._session.state.trials[trial], report)
        self._session.record(
            {"event": "reported", "trial": trial, **report._asdict()},
            *decision_events(trial, report, decision),
        )
        return decision.action == "continue"


def with_prior(space: Mapping[str, Dimension], params: Params) -> dict[str, Dimension]:
    """Return a space whose prior is a configuration."""
    return {
        name: Dimension.model_validate(
            dimension.model_dump() | ({"prior": params[name]} if name in params else {})
        )
        for name, dimension in space.items()
    }


class _Memory:
    """A ledger that forgets, instead of one on disk."""

    path = Path()

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, *events: Event) -> list[Event]:
        return list(events)


class Stock:
    """Ray's own OptunaSearch and ASHAScheduler, with all their defaults."""

    smoothing = 1

    def __init__(self, problem: Problem, seed: int, stated: Params | None = None):
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        mode = METRICS[problem.metric]
        space = problem.space
        conditional = any(dimension.when for dimension in space.values())
        self._search = OptunaSearch(
            space=partial(_define_by_run, space) if conditional else distributions(space),
            points_to_evaluate=[dict(stated)] if stated else None,
            metric="value",
            mode=mode,
            seed=seed,
        )
        self._scheduler = ASHAScheduler(metric="value", mode=mode, max_t=EPOCHS)
        self._trials: dict[int, Any] = {}

    def next(self) -> tuple[int, dict[str, Any]]:
        number = len(self._trials)
        params = self._search.suggest(str(number))
        assert params is not None
        self._trials[number] = trial = SimpleNamespace(trial_id=str(number))
        self._scheduler.on_trial_add(None, trial)
        return number, params

    def report(self, trial: int, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, "value": value}
        # As TuneController._process_trial_result: the searcher hears of it only if it goes on.
        if self._scheduler.on_trial_result(None, self._trials[trial], result) == "CONTINUE":
            self._search.on_trial_result(str(trial), result)
            return True
        self._search.on_trial_complete(str(trial), result)
        return False


class OneEpoch:
    """The 1-epoch baseline (Egele et al. 2023, arXiv 2307.15422): random trials of one epoch each,
    then the best of them to the end, the best first.

    Args:
        problem: Gives the space.
        seed: Of the draws.
        num_trials: Of one epoch.
    """

    smoothing = 1

    def __init__(self, problem: Problem, seed: int, num_trials: int):
        self._study = optuna.create_study(sampler=RandomSampler(seed))
        self._space = problem.space
        self._sign = 1 if METRICS[problem.metric] == "max" else -1
        self._left = num_trials
        self._params: list[dict[str, Any]] = []
        self._first: dict[int, float] = {}

    def next(self) -> tuple[int, dict[str, Any]] | None:
        if self._left:
            self._left -= 1
            self._params.append(suggest(self._study.ask(), self._space))
            return len(self._params) - 1, self._params[-1]
        if not self._first:
            return None
        trial = max(self._first, key=self._first.__getitem__)
        del self._first[trial]
        return trial, self._params[trial]

    def report(self, trial: int, epoch: int, value: float) -> bool:
        if epoch == 1:
            self._first[trial] = self._sign * value if math.isfinite(value) else -math.inf
            return False
        return epoch < EPOCHS


def distributions(space: dict[str, Dimension]) -> dict[str, BaseDistribution]:
    """Return a space in Optuna's words, for those who draw all of it at once."""
    return {name: _distribution(dimension) for name, dimension in space.items()}


def suggest(trial: optuna.Trial, space: dict[str, Dimension]) -> dict[str, Any]:
    """Return what Optuna suggests for the dimensions whose conditions hold."""
    params: dict[str, Any] = {}
    for name, dimension in ordered(space):
        if name in active(space, params):
            low, high, log = dimension.low, dimension.high, dimension.log
            if dimension.choices is not None:
                params[name] = trial.suggest_categorical(name, dimension.choices)
            elif dimension.type == "int":
                params[name] = trial.suggest_int(name, low, high, log=log)
            else:
                params[name] = trial.suggest_float(name, low, high, log=log)
    return params


def _define_by_run(space: dict[str, Dimension], trial: optuna.Trial) -> None:
    suggest(trial, space)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices is not None:
        return CategoricalDistribution(dimension.choices)
    kind = IntDistribution if dimension.type == "int" else FloatDistribution
    return kind(dimension.low, dimension.high, log=dimension.log)
