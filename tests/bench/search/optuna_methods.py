"""Optuna as its own users run it, by ask and tell; and the limit: one that is told the truth.

Optuna's WilcoxonPruner is left out: it compares the cases of one evaluation, paired by their
numbers, and takes them to be exchangeable. Epochs are not: with them it would test a trial's first
epochs against the best trial's, and what starts slowly would be pruned for good.
"""

import math
from typing import Any

import optuna
from optuna.pruners import HyperbandPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from search.study.own_checks import METRICS
from tests.bench.search.methods import suggest
from tests.bench.search.problems import EPOCHS, Params, Problem


class TPEHyperband:
    """Optuna's TPESampler and HyperbandPruner, with all their defaults and eta 3.

    A trial that diverges is told as pruned. The best is the study's best trial, which is complete;
    until there is one, the trial with the best last value.
    """

    smoothing = 1

    def __init__(self, problem: Problem, seed: int, stated: Params | None = None):
        self._space = problem.space
        self._sign = 1 if METRICS[problem.metric] == "max" else -1
        self._study = optuna.create_study(
            study_name=f"{problem.name}/{seed}",  # by which the pruner spreads its brackets
            direction="maximize" if self._sign == 1 else "minimize",
            sampler=TPESampler(seed=seed),
            pruner=HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3),
        )
        if stated:
            self._study.enqueue_trial(dict(stated))
        self._trials: dict[int, optuna.Trial] = {}
        self._last: dict[int, float] = {}
        self._complete: dict[int, float] = {}

    def next(self) -> tuple[int, dict[str, Any]]:
        trial = self._study.ask()
        self._trials[trial.number] = trial
        return trial.number, suggest(trial, self._space)

    def report(self, trial: int, epoch: int, value: float) -> bool:
        ours, diverged = self._trials[trial], not math.isfinite(value)
        ours.report(value, epoch)
        self._last[trial] = -math.inf if diverged else self._sign * value
        if epoch == EPOCHS and not diverged:
            self._study.tell(ours, value)
            self._complete[trial] = self._last[trial]
            return False
        if diverged or ours.should_prune():
            self._study.tell(ours, state=TrialState.PRUNED)
            return False
        return True

    def incumbent(self) -> int | None:
        known = self._complete or self._last
        return max(known, key=known.__getitem__, default=None)


class Oracle:
    """The limit: TPE that is told each trial's true end after one epoch.

    Only what ends better than all before is trained on, and the model in hand is the truly best.
    """

    smoothing = 1

    def __init__(self, problem: Problem, seed: int, stated: Params | None = None):
        self._problem = problem
        self._study = optuna.create_study(sampler=TPESampler(seed=seed))
        if stated:
            self._study.enqueue_trial(dict(stated))
        self._trials: list[tuple[optuna.Trial, dict[str, Any]]] = []
        self._ends: dict[int, float] = {}
        self._now: dict[int, float] = {}

    def next(self) -> tuple[int, dict[str, Any]]:
        trial = self._study.ask()
        self._trials.append((trial, suggest(trial, self._problem.space)))
        return trial.number, self._trials[-1][1]

    def report(self, trial: int, epoch: int, value: float) -> bool:
        ours, params = self._trials[trial]
        self._now[trial] = self._problem.regret(params, epoch)
        if trial not in self._ends:
            self._ends[trial] = self._problem.regret(params, EPOCHS)
            self._study.tell(ours, self._ends[trial])
        return epoch < EPOCHS and self._ends[trial] <= min(self._ends.values())

    def incumbent(self) -> int | None:
        return min(self._now, key=self._now.__getitem__, default=None)
