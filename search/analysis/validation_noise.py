"""A validation's own noise: what of a difference between trials is nothing but the noise drawn.

Measured once a study, on its best finished trial's last weights (execution/image_worker.py).
"""

import math
from typing import Any

from search.analysis.ranking import ranked
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from trainer.configfile import ConfigError


def noise_of(study: StudyConfig, state: StudyState) -> dict[str, Any]:
    """Return what is known of a study's validation noise, as JSON values.

    Returns:
        `trial`, `epoch`, `metric`, `draws`, `mean`, `std` of one validation, and `std_of_value`,
        that of the mean by which trials are ranked; or `missing`, why there are none.
    """
    if (event := state.noise) is None:
        return {"missing": does_not_apply(study, state) or "not measured yet"}
    names = ("trial", "epoch", "metric", "draws", "mean", "std")
    std = event["std"] / math.sqrt(study.scheduler.smoothing)
    return {name: event[name] for name in names} | {"std_of_value": std}


def does_not_apply(study: StudyConfig, state: StudyState) -> str:
    """Return why a study has no validation noise to measure; empty where it may have."""
    if study.trainer:
        return f"does not apply: {study.trainer.name} is no trainer of segtune's"
    if not study.trains:
        return "does not apply: nothing is trained, and each trial samples otherwise"
    if not study.objective.metric.startswith("val/"):
        return f"does not apply: {study.objective.metric} is no score of a validation"
    best = _finished(study, state)
    if best and not any(samples(study, trial) for trial in best):
        return "does not apply: the networks segment directly, without noise"
    return ""


def to_measure(study: StudyConfig, state: StudyState) -> TrialState | None:
    """Return the trial whose weights tell the noise; None where it is known, or there is none."""
    if state.noise is not None or does_not_apply(study, state):
        return None
    best = _finished(study, state)
    return next((trial for trial in best if samples(study, trial)), None)


def _finished(study: StudyConfig, state: StudyState) -> list[TrialState]:
    return [trial for trial in ranked(study, state.searched()) if trial.ending]


def samples(study: StudyConfig, trial: TrialState) -> bool:
    """Return whether a trial's predictions depend on noise."""
    if study.trainer:
        return False
    try:
        return not trial.config(study).model.segments_directly
    except ConfigError:  # an earlier version had settings that there are no more
        return False
