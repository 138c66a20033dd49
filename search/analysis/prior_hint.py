"""A reference that scores well and lies in the space: where a next study may begin to look."""

import json
from collections.abc import Mapping
from typing import Any

from search.study.config import StudyConfig
from search.study.sampler_limits import USES_PRIOR
from search.study.space import placed
from trainer.configfile import ConfigError, flatten

ENOUGH = 6
"""Ranked trials; of fewer it says little to be better than most."""
AHEAD = 2 / 3
"""Share of the ranked trials that a reference must be better than."""


def prior_hint(study: StudyConfig, result: Mapping[str, Any]) -> str:
    """Return a line that suggests a reference as the prior of a next study; empty without one.

    Args:
        study: The study.
        result: As `search.analysis.results.compare` returns it.
    """
    if study.sampler.type not in USES_PRIOR or any(d.has_prior for d in study.space.values()):
        return ""
    values = [row["value"] for row in result["trials"] if row["rank"] is not None]
    if len(values) < ENOUGH:
        return ""
    sign = 1 if study.objective.mode == "max" else -1
    found = [
        (
            sign * row["value"],
            row["name"],
            params,
            sum(sign * (row["value"] - v) > 0 for v in values),
        )
        for row in result["references"]
        if row["value"] is not None and (params := _in_space(study, row["params"]))
    ]
    best = max(found, key=lambda each: each[0], default=None)
    if best is None or best[-1] < AHEAD * len(values):
        return ""
    _, name, params, beaten = best
    text = ", ".join(f"{key}: {{prior: {json.dumps(value)}}}" for key, value in params.items())
    return (
        f"{name} lies in the space and is better than {beaten} of {len(values)} searched trials; "
        f"a next study can begin around it, with this in its space: {text}"
    )


def _in_space(study: StudyConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reference's searched parameters; none where it is outside the space.

    It is too where it has another value than the study of a setting that is not searched.
    """
    try:
        fixed, there = flatten(study.settings({})), {**flatten(study.settings(params)), **params}
    except ConfigError:  # settings that this version does not take
        return {}
    other = [name for name in there.keys() - study.space.keys() if fixed.get(name) != there[name]]
    here, outside = placed(study.space, there)
    return {} if other or outside else here
