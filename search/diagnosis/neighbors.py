"""What the nearest trials of a space that did better have otherwise than one trial."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from search.analysis.ranking import value_at
from search.diagnosis.finding import Finding
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from search.study.space import Dimension, active, among
from trainer.configfile import flatten
from trainer.files.documents import strict

NEAREST = 3
"""Neighbours that are shown."""
SEVERAL = 3
"""Better trials from which what they share says something."""


class _Better(NamedTuple):
    """A trial that did better at the same epoch."""

    trial: int
    distance: float
    gain: float
    """By how much, in the objective; above 0 where larger is better and below where smaller is."""
    params: dict[str, Any]
    changed: dict[str, list[Any]]
    """[here, there] by dimension; None where it is not searched."""


def neighbours(
    study: StudyConfig, state: StudyState, trial: TrialState, noise: float | None
) -> Finding | None:
    """Say what the nearest trials that did better changed; None where there is nothing to compare.

    Distance is Gower's over the space: the difference of normalised values, 0 or 1 between choices,
    and 1 where only one of the two searches a dimension.

    Args:
        study: Its study.
        state: All trials.
        trial: The trial.
        noise: Standard deviation of the mean Dice that fresh noise alone makes, if known.
    """
    mine = value_at(study, trial, trial.epoch) if trial.reports else None
    others = [
        (other, value)
        for other in state.trials.values()
        if other is not trial
        and other.kind in ("enqueued", "sampled")
        and (value := value_at(study, other, trial.epoch)) is not None
        and math.isfinite(value)
    ]
    if mine is None or not math.isfinite(mine) or trial.kind == "control" or not others:
        return None
    sign = 1 if study.objective.mode == "max" else -1
    own = _params(study, trial)
    better = [
        _compare(study, own, other, value - mine)
        for other, value in others
        if sign * (value - mine) > 0
    ]
    better = sorted((b for b in better if b.changed), key=lambda b: (b.distance, -sign * b.gain))
    at = f"epoch {trial.epoch}"
    if not better:
        metric = study.objective.metric
        return Finding(
            "neighbours", "ok", f"none of {len(others)} others has a better {metric} at {at}"
        )
    told = "; ".join(
        f"{study.study}:{b.trial} ({b.gain:+.3f}): {_said(b)}" for b in better[:NEAREST]
    )
    shared, shunned = _shared(study, own, better) if len(better) >= SEVERAL else ({}, {})
    note = "exploratory: one seed each"
    if noise and study.objective.metric == "val/dice":
        note += f", and a validation's own noise is {noise:.3f}"
    if shared:
        note += f"; all {len(better)} better trials have {_settings(shared)}"
    elif shunned:
        note += f"; none of the {len(better)} better trials has {_settings(shunned)}"
    return Finding(
        "neighbours",
        "suspicious" if shared or shunned else "ok",
        f"{len(better)} of {len(others)} others did better at {at}; nearest: {told}",
        note,
        _settings(shared),
        {
            "num_better": len(better),
            "num_compared": len(others),
            "all_better_have": shared,
            "no_better_has": shunned,
            "nearest": [strict(b._asdict()) for b in better[:NEAREST]],
        },
    )


def _compare(study: StudyConfig, own: Mapping[str, Any], other: TrialState, gain: float) -> _Better:
    theirs = _params(study, other)
    parts = {
        name: _distance(dimension, own.get(name), theirs.get(name))
        for name, dimension in study.space.items()
        if name in own or name in theirs
    }
    changed = {name: [own.get(name), theirs.get(name)] for name, part in parts.items() if part > 0}
    distance = sum(parts.values()) / max(len(parts), 1)
    return _Better(other.number, distance, gain, theirs, changed)


def _shared(
    study: StudyConfig, own: Mapping[str, Any], better: Sequence[_Better]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the choices that all better trials have and this one has not, and the reverse."""
    shared, shunned = {}, {}
    for name, dimension in study.space.items():
        if dimension.choices is None or name not in own:
            continue
        values = tuple(b.params.get(name) for b in better)
        if among(own[name], values):
            continue
        shunned[name] = own[name]
        if all(among(value, values[:1]) for value in values):
            shared[name] = values[0]
    return shared, shunned


def _params(study: StudyConfig, trial: TrialState) -> dict[str, Any]:
    """Return a trial's value in each dimension that applies, also where it was not searched."""
    given = flatten(trial.settings(study)) | trial.params
    return {name: given[name] for name in active(study.space, given) if name in given}


def _distance(dimension: Dimension, one: Any, other: Any) -> float:
    if one is None or other is None:
        return float(one is not other)
    if dimension.choices is not None:
        return float(not among(one, (other,)))
    low, high = dimension.low, dimension.high
    assert low is not None and high is not None
    if dimension.log and min(one, other) > 0:
        return float(abs(math.log(one / other)) / math.log(high / low))
    return float(abs(one - other) / (high - low))


def _said(better: _Better) -> str:
    return ", ".join(
        f"{name.partition('.')[2] or name} {_text(here)} -> {_text(there)}"
        for name, (here, there) in better.changed.items()
    )


def _settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    if value is None:
        return "unused"
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
