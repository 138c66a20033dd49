"""A study's searched trials as a study of Optuna's, for `optuna.visualization` and its dashboard.

It is for looking: the sampler's own study (search/sampler/sampler.py) has besides what was refused
or imported, and choices by their place.
"""

import json
import math
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from search.analysis.ranking import standing, value_at
from search.ledger.journal import Ledger
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.sampler.distributions import distribution
from search.sampler.sampler import UNTRAINABLE
from search.study.config import StudyConfig
from search.study.space import Dimension
from trainer.files.documents import strict

STATES = {
    "completed": OptunaState.COMPLETE,
    "stalled": OptunaState.COMPLETE,  # had converged
    "stopped": OptunaState.PRUNED,
    "diverged": OptunaState.PRUNED,
    "infeasible": OptunaState.PRUNED,
    "failed": OptunaState.FAIL,
}
"""By ending, as the sampler is told."""


def optuna_study(
    study: StudyConfig, ledger: Path, storage: optuna.storages.BaseStorage | str | None = None
) -> optuna.Study:
    """Return a study of Optuna's with the searched trials, in the order of their proposal.

    A trial's value is the leaderboard's, its intermediate values the same mean up to each epoch
    (of a single objective). A choice that Optuna does not take, such as a list, is its JSON.

    Args:
        study: Its settings.
        ledger: Its file.
        storage: Where Optuna is to keep it; None is memory.
    """
    events = Ledger.open(ledger, writer=False)
    state, times = StudyState.of(events), dict[tuple[str, int], datetime]()
    for event in events.events:
        if event["event"] in ("proposed", "ended"):
            times[event["event"], event["trial"]] = datetime.fromtimestamp(event["time"])
    objectives = (study.objective, *study.further_objectives)
    ways = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
    found = optuna.create_study(
        storage=storage, study_name=study.study, directions=[ways[o.mode] for o in objectives]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found.set_metric_names([objective.metric for objective in objectives])
    for trial in state.searched():
        found.add_trial(_frozen(study, state, trial, times))
    return found


def _frozen(
    study: StudyConfig,
    state: StudyState,
    trial: TrialState,
    times: dict[tuple[str, int], datetime],
) -> FrozenTrial:
    metrics = [objective.metric for objective in (study.objective, *study.further_objectives)]
    means = [standing(study, trial, metric=metric) for metric in metrics]
    values = [mean.value for mean in means if mean and math.isfinite(mean.value)]
    whole = len(values) == len(metrics)
    ending = STATES[trial.ending] if trial.ending else None
    if ending == OptunaState.COMPLETE and not whole:
        ending = OptunaState.PRUNED
    begun = OptunaState.RUNNING if trial.attempts else OptunaState.WAITING
    frozen = create_trial(
        state=ending or begun,
        values=values if whole and ending and ending != OptunaState.FAIL else None,
        params={name: _shown(study.space[name], value) for name, value in trial.params.items()},
        distributions={name: _shown_distribution(study.space[name]) for name in trial.params},
        intermediate_values={
            report.epoch: value
            for report in trial.reports
            if len(metrics) == 1
            if (value := value_at(study, trial, report.epoch)) is not None
        },
        user_attrs=_about(study, state, trial),
        constraints={UNTRAINABLE: 1.0 if trial.ending in ("diverged", "infeasible") else -1.0},
    )
    if frozen.datetime_start:
        frozen.datetime_start = times["proposed", trial.number]
    if ending:
        frozen.datetime_complete = times["ended", trial.number]
    return frozen


def _about(study: StudyConfig, state: StudyState, trial: TrialState) -> dict[str, Any]:
    """Return what Optuna shows beside a trial: its number and ending, cost and last metrics."""
    metrics = trial.reports[-1].metrics if trial.reports else {}
    about = {
        "trial": trial.number,
        "kind": trial.kind,
        "ending": trial.ending,
        "reason": trial.reason,
        "epochs": trial.epoch,
        **state.meter.cost_hours(study.trials, trial.number),
    }
    return about | {key: strict(value) for key, value in metrics.items()}


def _shown_distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices is None:
        return distribution(dimension)
    return CategoricalDistribution([_shown(dimension, choice) for choice in dimension.choices])


def _shown(dimension: Dimension, value: Any) -> Any:
    plain = dimension.choices is None or value is None or isinstance(value, str | float | int)
    return value if plain else json.dumps(value)
