"""What a sampler cannot do with a study, known before anything is spent. Imports no Optuna."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from search.study.space import Dimension, active, draw, ordered
from trainer.configfile import ConfigError

if TYPE_CHECKING:
    from search.study.config import StudyConfig

DRAWS = 100
"""Random combinations by which it is told how many the trainer refuses."""

LEARNS_NOTHING = ("random", "qmc", "grid")
"""Samplers whose proposals do not depend on results."""

USES_PRIOR = ("tpe", "curve_gp", "random")
"""Samplers beside which a prior is drawn from."""

COMPLETE_ONLY = ("gp", "nsga2")
"""Samplers that learn nothing from trials that were stopped."""


def grid_problems(study: "StudyConfig", where: str) -> list[str]:
    """Return what keeps a grid from being searched: an endless one, or more trials than it has."""
    if endless := continuous(study.space):
        return [
            f"{where}: space.{name}: is continuous, but a grid needs a step or choices"
            for name in endless
        ]
    num_trials, size = study.trials.num_trials, _size(study)
    if size < num_trials:
        return [f"{where}: trials.num_trials: {num_trials}: the grid has {size} combinations only"]
    return []


def continuous(space: Mapping[str, Dimension]) -> list[str]:
    """Return the dimensions with endlessly many values."""
    return [name for name, dim in space.items() if dim.type == "float" and dim.step is None]


def _size(study: "StudyConfig") -> int:
    """Return how many combinations a space without continuous dimensions has, up to num_trials."""
    return sum(1 for _ in islice(combinations(study.space), study.trials.num_trials))


def combinations(space: Mapping[str, Dimension]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of a space without continuous dimensions, once.

    A dimension whose conditions do not hold is not in a combination.
    """
    yield from _extend(space, {}, list(ordered(space)))


def _extend(
    space: Mapping[str, Dimension], params: dict[str, Any], rest: list[tuple[str, Dimension]]
) -> Iterator[dict[str, Any]]:
    if not rest:
        yield params
        return
    (name, dimension), *others = rest
    if name not in active(space, params):
        yield from _extend(space, params, others)
        return
    for value in _all_values(dimension):
        yield from _extend(space, {**params, name: value}, others)


def _all_values(dimension: Dimension) -> Iterator[Any]:
    if dimension.choices is not None:
        yield from dimension.choices
        return
    step = Decimal(str(dimension.step or 1))
    value, high = Decimal(str(dimension.low)), Decimal(str(dimension.high))
    while value <= high:
        yield int(value) if dimension.type == "int" else float(value)
        value += step


def clashes(study: "StudyConfig") -> list[str]:
    """Return what the trainer says of each of DRAWS random combinations that it refuses."""
    return [said for said in _said_of_random(study, {}) if said]


def always_refused(study: "StudyConfig", given: Mapping[str, Any]) -> str:
    """Return what the trainer says of one of DRAWS random combinations, if it refuses them all.

    Args:
        study: The study.
        given: Values that all of them have: an entry of `enqueue`.
    """
    example = ""
    for said in _said_of_random(study, given):
        if not said:
            return ""
        example = example or said
    return example


def _said_of_random(study: "StudyConfig", given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the trainer says of each of DRAWS random combinations; nothing if it takes it."""
    rng = random.Random(0)
    for _ in range(DRAWS):
        try:
            study.check_settings(draw(study.space, rng, given))
        except ConfigError as error:
            yield error.lines[0].removeprefix(f"{study.study}: ")
        else:
            yield ""


def warnings(study: "StudyConfig") -> list[str]:
    """Return a line for each setting that keeps the sampler from learning, or from proposing."""
    kind, num_trials, lines = study.sampler.type, study.trials.num_trials, []
    if kind in COMPLETE_ONLY and study.scheduler.type != "none":
        lines.append(
            f"sampler.type: {kind}: learns nothing from the trials that ASHA stops; tpe does"
        )
    if kind not in USES_PRIOR and (known := [n for n, d in study.space.items() if d.has_prior]):
        who = f"{', '.join(USES_PRIOR[:-1])} and {USES_PRIOR[-1]}"
        lines.append(f"space.{known[0]}.prior: {kind} draws from no prior; {who} do")
    if not continuous(study.space) and (size := _size(study)) < num_trials:
        lines.append(
            f"trials.num_trials: {num_trials}: the space has {size} combinations, each of which is "
            "trained once; then the study ends"
        )
    for index, entry in enumerate(study.enqueue):
        if (first := study.enqueue.index(entry)) < index:
            lines.append(f"enqueue.{index}: is enqueue.{first} again")
    if said := clashes(study):
        lines.append(
            f"space: the trainer refuses {len(said)} of {DRAWS} random combinations, which are no "
            f"trials; most often: {Counter(said).most_common(1)[0][0]}"
        )
    return lines
