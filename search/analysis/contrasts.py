"""Who is compared with whom in a confirmation, over what, and what comes of it.

A comparison is over units that are drawn independently of each other: seeds, each on a fold of its
own. With more seeds than folds, those on one fold share its cases and its training set, so they are
averaged case by case and are one unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.analysis.significance import (
    ALPHA,
    Difference,
    decide,
    difference,
)
from search.ledger.journal import Event
from search.ledger.state import StudyState, TrialState

MIN_UNITS = 3
"""Fewer say next to nothing about how much seeds and folds matter."""

Cases = Mapping[str, float]
"""Dice of each case with a lesion, by case."""


class Pair(NamedTuple):
    """What is the same for all trials of one comparison."""

    seed: int
    fold: int


@dataclass(frozen=True)
class Plan:
    """What is trained again."""

    candidates: list[int]
    """The best searched trials, best first."""
    runner_up: int | None
    """The next one, trained again where there is a single candidate."""
    control: int | None
    references: list[int]
    pairs: list[Pair]
    epochs: int

    @property
    def trials(self) -> list[int]:
        """Everything that is trained again."""
        others = [self.runner_up, self.control, *self.references]
        return [*self.candidates, *(number for number in others if number is not None)]

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
    scores: Mapping[tuple[int, Pair], Cases]
    """By trial (the one that is trained again) and pair, of the trainings that completed."""
    missing: Mapping[tuple[int, Pair], str]
    """What became of the others."""
    same_cases: bool
    """Whether all pairs have the same cases."""
    seed: int
    """Of the bootstrap."""

    def pairs(self, *trials: int) -> list[Pair]:
        """Return the pairs that all of the trials completed."""
        return [p for p in self.plan.pairs if all((trial, p) in self.scores for trial in trials)]

    def by_seed(self, one: int, other: int | None = None) -> list[float]:
        """Return the mean difference of two trials, or the mean of one, of each of their pairs."""
        means = []
        for pair in self.pairs(one) if other is None else self.pairs(one, other):
            values = self._values(one, other, pair)
            means.append(sum(values.values()) / len(values))
        return means

    def units(self, one: int, other: int | None = None) -> list[NDArray[np.float64]]:
        """Return the cases' differences of two trials, or one's Dice, of each unit, (cases,)."""
        pairs = self.pairs(one) if other is None else self.pairs(one, other)
        several = len({pair.fold for pair in self.plan.pairs}) > 1
        units: dict[int, list[Cases]] = {}
        for pair in pairs:
            key = pair.fold if several else pair.seed
            units.setdefault(key, []).append(self._values(one, other, pair))
        return [
            np.array([[values[case] for case in unit[0]] for values in unit]).mean(0)
            for unit in units.values()
        ]

    def _values(self, one: int, other: int | None, pair: Pair) -> Cases:
        mine = self.scores[one, pair]
        theirs = dict.fromkeys(mine, 0.0) if other is None else self.scores[other, pair]
        assert mine.keys() == theirs.keys(), f"{pair}: trials {one} and {other} have other cases"
        return {case: mine[case] - theirs[case] for case in sorted(mine)}


def verdict_event(evidence: Evidence, margin: float | None) -> Event:
    """Return all that was found as JSON values, to be read without any trial's folder.

    Args:
        evidence: What the trials scored.
        margin: Differences of Dice below it do not matter.
    """
    plan = evidence.plan
    rows = [_score(evidence, trial) for trial in plan.trials if evidence.pairs(trial)]
    rows.sort(key=lambda row: -row["mean"])
    comparisons: list[dict[str, Any]] = []
    for family in _families(plan, [row["trial"] for row in rows]):
        comparisons += _pruner(evidence, family, margin)
    return {
        "event": "verdict",
        "seeds": [pair.seed for pair in plan.pairs],
        "folds": [pair.fold for pair in plan.pairs],
        "epochs": plan.epochs,
        "margin": margin,
        "same_cases": evidence.same_cases,
        "scores": rows,
        "comparisons": comparisons,
    }


def _score(evidence: Evidence, trial: int) -> dict[str, Any]:
    found = difference(evidence.units(trial), same_cases=evidence.same_cases, seed=evidence.seed)
    return {
        "trial": trial,
        "role": evidence.plan.role(trial),
        "seeds": [pair.seed for pair in evidence.pairs(trial)],
        "by_seed": evidence.by_seed(trial),
        "interval": list(found.interval(ALPHA)),
        **asdict(found),
    }


class Match(NamedTuple):
    """Two trials that are compared."""

    family: str
    trial: int
    other: int


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


def _pruner(
    evidence: Evidence, family: Sequence[Match], margin: float | None
) -> list[dict[str, Any]]:
    """Compare the two of each match over the pairs that both completed."""
    rows: list[dict[str, Any]] = []
    judged: list[tuple[dict[str, Any], Difference]] = []
    for match in family:
        both = (match.trial, match.other)
        row = match._asdict() | {
            "seeds": [pair.seed for pair in evidence.pairs(*both)],
            "by_seed": evidence.by_seed(*both),
            "verdict": "none",
            "reason": _incomplete(evidence, match),
        }
        rows.append(row)
        units = evidence.units(*both)
        if len(units) >= MIN_UNITS:
            judged.append(
                (row, difference(units, same_cases=evidence.same_cases, seed=evidence.seed))
            )
    verdicts = decide([found for _, found in judged], margin)
    for (row, found), verdict in zip(judged, verdicts, strict=True):
        row |= asdict(found) | {"p": found.p, "p_holm": verdict.p_holm, "level": verdict.level}
        row |= {"interval": list(verdict.interval), "verdict": verdict.word}
    return rows


def _incomplete(evidence: Evidence, match: Match) -> str:
    """Return which trainings of a match are not counted, and why; empty if all are."""
    out = [
        f"trial {number} with seed {pair.seed} ({evidence.missing[number, pair]})"
        for number in (match.trial, match.other)
        for pair in evidence.plan.pairs
        if (number, pair) in evidence.missing
    ]
    return f"without {', '.join(out)}" if out else ""
