"""Who is compared with whom in a confirmation, over what, and what comes of it.

A comparison is over units that are drawn independently of each other: seeds, each on a fold of its
own. With more seeds than folds, those on one fold share its cases and its training set: one unit,
in which they show what seeds do. Seeds and folds are so crossed, each fold with as many seeds as
another; that a fold's seeds are others than the next one's changes nothing, since the same seed on
another training set has nothing in common with it but its number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.analysis.case_scores import case_metric
from search.analysis.intervals import ALPHA, Scale
from search.analysis.verdicts.significance import Difference, decide, difference
from search.ledger.journal import Event
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState

NUM_FOLDS = 5
MIN_UNITS = 3
"""Fewer say next to nothing about how much seeds and folds matter."""

Cases = Mapping[str, float]
"""A metric of each case that it averages, by case."""


class Pair(NamedTuple):
    """What is the same for all trials of one comparison."""

    seed: int
    fold: int


@dataclass(frozen=True)
class Plan:
    """What is trained again, each configuration once."""

    candidates: list[int]
    """The best searched trials, best first."""
    runner_up: int | None
    """The next one, trained again where there is a single candidate."""
    control: int | None
    references: list[int]
    pairs: list[Pair]
    epochs: int
    equals: Mapping[int, int] = field(default_factory=dict)
    """Trials that are not, by the one with the same configuration that is."""

    @property
    def trials(self) -> list[int]:
        """Everything that is trained again."""
        others = [self.runner_up, self.control, *self.references]
        return [*self.candidates, *(number for number in others if number is not None)]

    @property
    def more(self) -> tuple[int, int]:
        """The next number of seeds that is worth its price, and how many units it makes.

        As many on each fold: in between, some have one seed more than others, and no fold less.
        """
        if len({each.fold for each in self.pairs}) == 1:
            return 2 * len(self.pairs), 2 * len(self.pairs)
        folds = NUM_FOLDS - 1
        return folds * (len(self.pairs) // folds + 1), folds

    def unit(self, pair: Pair) -> int:
        """Return the unit of a pair: its fold, or its seed where the fold does not vary."""
        return pair.fold if len({each.fold for each in self.pairs}) > 1 else pair.seed

    def role(self, number: int) -> str:
        """Return what a trial is here."""
        if number in self.candidates:
            return "candidate"
        if number == self.runner_up:
            return "runner-up"
        return "control" if number == self.control else "reference"

    def confirming(self, state: StudyState) -> dict[tuple[int, Pair], TrialState]:
        """Return the trials of this plan that are in the ledger, by what they confirm and how."""
        found = {}
        for trial in state.confirming():
            assert trial.of is not None and trial.seed is not None and trial.fold is not None
            pair = Pair(trial.seed, trial.fold)
            if trial.of in self.trials and pair in self.pairs and trial.epochs == self.epochs:
                found[trial.of, pair] = trial
        return found


@dataclass(frozen=True)
class Evidence:
    """What the trials of a plan scored."""

    plan: Plan
    metric: str
    """One of CASE_METRICS, or of a trainer of one's own."""
    scores: Mapping[tuple[int | str, Pair], Cases]
    """By trial (the one that is trained again) and pair, of the trainings that completed; masks
    that are compared with them by their name."""
    missing: Mapping[tuple[int | str, Pair], str]
    """What became of the others."""
    same_cases: bool
    """Whether all pairs have the same cases."""
    mode: Literal["max", "min"] = "max"
    """Which way a metric is better that is none of CASE_METRICS."""

    @property
    def scale(self) -> Scale:
        """What values the metric can have."""
        return case_metric(self.metric, self.mode).scale

    def pairs(self, *trials: int | str) -> list[Pair]:
        """Return the pairs that all of the trials completed."""
        return [p for p in self.plan.pairs if all((trial, p) in self.scores for trial in trials)]

    def by_seed(self, one: int | str, other: int | str | None = None) -> list[float]:
        """Return the mean difference of two trials, or the mean of one, of each of their pairs."""
        pairs = self.pairs(one) if other is None else self.pairs(one, other)
        means = [self._values(one, pair).mean() for pair in pairs]
        if other is not None:
            theirs = [self._values(other, pair).mean() for pair in pairs]
            means = [mean - their for mean, their in zip(means, theirs, strict=True)]
        return [float(mean) for mean in means]

    def units(self, trial: int | str, pairs: Sequence[Pair]) -> list[NDArray[np.float64]]:
        """Return a trial's scores of each unit that some pairs make, (seeds, cases)."""
        units: dict[int, list[NDArray[np.float64]]] = {}
        for pair in pairs:
            units.setdefault(self.plan.unit(pair), []).append(self._values(trial, pair))
        return [np.array(unit) for unit in units.values()]

    def difference(self, one: int | str, other: int | str | None = None) -> Difference:
        """Return what one has more than another over all units of both, or its own mean."""
        scale, theirs = self.scale, None
        pairs = self.pairs(one) if other is None else self.pairs(one, other)
        if other is not None:
            for pair in pairs:
                same = self.scores[one, pair].keys() == self.scores[other, pair].keys()
                assert same, f"{pair}: trials {one} and {other} have other cases"
            theirs = self.units(other, pairs)
        return difference(self.units(one, pairs), theirs, scale, same_cases=self.same_cases)

    def num_units(self, one: int | str, other: int | str) -> int:
        """Return over how many units two trials are compared."""
        return len({self.plan.unit(pair) for pair in self.pairs(one, other)})

    def _values(self, trial: int | str, pair: Pair) -> NDArray[np.float64]:
        cases = self.scores[trial, pair]
        return np.array([cases[case] for case in sorted(cases)])


def verdict_event(
    evidence: Evidence, margin: float | None, beside: Evidence | None = None
) -> Event:
    """Return all that was found as JSON values, to be read without any trial's folder.

    Args:
        evidence: What the trials scored in the objective.
        margin: Differences of it below which nothing matters.
        beside: What they scored in Dice, where that is not the objective: shown, not judged.
    """
    plan, sign = evidence.plan, 1 if _better(evidence) == "min" else -1
    rows = [
        score(evidence, trial, role=plan.role(trial))
        for trial in plan.trials
        if evidence.pairs(trial)
    ]
    rows.sort(key=lambda row: sign * row["mean"])
    comparisons: list[dict[str, Any]] = []
    for family in _families(plan, [row["trial"] for row in rows]):
        comparisons += judge([(evidence, match) for match in family], margin)
    if beside is not None:
        for row in [*rows, *comparisons]:
            both = (row["trial"], *((row["other"],) if "other" in row else ()))
            if beside.pairs(*both):
                row["dice"] = mean_and_interval(beside.difference(*both))
    return {
        "event": "verdict",
        "metric": evidence.metric,
        "equals": {str(number): other for number, other in plan.equals.items()},
        "seeds": [pair.seed for pair in plan.pairs],
        "folds": [pair.fold for pair in plan.pairs],
        "epochs": plan.epochs,
        "margin": margin,
        "same_cases": evidence.same_cases,
        "scores": rows,
        "comparisons": comparisons,
    }


def score(evidence: Evidence, trial: int | str, *, role: str) -> dict[str, Any]:
    """Return what one scored over all its pairs, as a row."""
    found = evidence.difference(trial)
    return {
        "trial": trial,
        "role": role,
        "seeds": [pair.seed for pair in evidence.pairs(trial)],
        "by_seed": evidence.by_seed(trial),
        **_values_of(found),
        **mean_and_interval(found),
    }


def _values_of(found: Difference) -> dict[str, Any]:
    """Return what was estimated, without the limits, of which one may be infinite."""
    return {key: value for key, value in asdict(found).items() if key != "limits"}


def mean_and_interval(found: Difference) -> dict[str, Any]:
    ends = found.interval(ALPHA)
    return {"mean": found.mean, "interval": ends and list(ends)}


def _better(evidence: Evidence) -> Literal["max", "min"]:
    return evidence.scale.better


class Match(NamedTuple):
    """Two that are compared."""

    family: str
    trial: int
    other: int | str
    """A trial, or the name of masks."""


def _families(plan: Plan, ranking: Sequence[int]) -> list[list[Match]]:
    """Return who is compared with whom; each family is corrected for itself.

    Args:
        plan: What was trained again.
        ranking: Its trials, the best on the new seeds and folds first.
    """
    best = [number for number in ranking if number in plan.candidates]
    best += [number for number in plan.candidates if number not in best]
    families = []
    if plan.control is not None:
        families.append([Match("control", number, plan.control) for number in best])
    for reference in plan.references:
        families.append([Match("reference", number, reference) for number in best])
    after = [*best, plan.runner_up] if plan.runner_up is not None else best
    families.append([Match("runner-up", one, other) for one, other in pairwise(after)])
    return families


def judge(family: Sequence[tuple[Evidence, Match]], margin: float | None) -> list[dict[str, Any]]:
    """Compare the two of each match over the pairs that both completed, by its own evidence."""
    rows: list[dict[str, Any]] = []
    judged: list[tuple[dict[str, Any], Evidence, Difference]] = []
    for evidence, match in family:
        both = (match.trial, match.other)
        row = match._asdict() | {
            "seeds": [pair.seed for pair in evidence.pairs(*both)],
            "by_seed": evidence.by_seed(*both),
            "verdict": "none",
            "reason": _incomplete(evidence, match),
        }
        rows.append(row)
        if evidence.num_units(*both) >= MIN_UNITS:
            judged.append((row, evidence, evidence.difference(*both)))
        elif not row["reason"]:
            row["reason"] = f"before {MIN_UNITS} seeds"
    if not judged:
        return rows
    verdicts = decide([found for *_, found in judged], _better(judged[0][1]), margin)
    for (row, evidence, found), verdict in zip(judged, verdicts, strict=True):
        row |= _values_of(found)
        row |= {"p": found.p, "p_holm": verdict.p_holm, "level": verdict.level}
        row |= {"interval": verdict.interval and [*verdict.interval], "verdict": verdict.word}
        if verdict.word == "not distinguishable":
            row["more_seeds"] = _more_seeds(evidence, found)
    return rows


def _more_seeds(evidence: Evidence, found: Difference) -> dict[str, Any] | None:
    """Return how much narrower the next number of seeds would make an interval; None: no more."""
    num_seeds, num_units = evidence.plan.more
    now = found.interval(ALPHA)
    then = found.half_width(num_seeds, num_units, same_cases=evidence.same_cases)
    if now is None or then >= 0.9 * (half := (now[1] - now[0]) / 2):
        return None
    return {"seeds": num_seeds, "half_width": then, "half_width_now": half}


def _incomplete(evidence: Evidence, match: Match) -> str:
    """Return which trainings of a match are not counted, and why; empty if all are."""
    out = [
        f"trial {number} with seed {pair.seed} ({evidence.missing[number, pair]})"
        for number in (match.trial, match.other)
        for pair in evidence.plan.pairs
        if (number, pair) in evidence.missing
    ]
    return f"without {', '.join(out)}" if out else ""
