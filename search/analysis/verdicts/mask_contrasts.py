"""Confirmed trials against masks that are a reference: paired by case, on the folds they cover.

Masks are the same whatever the seed, so that on their side only folds and cases vary. Where they
cover as many folds as a verdict needs they are judged as any reference is; else the difference is
shown case by case, without a verdict, on the confirming folds that they cover or on the fold that
selected the trials.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.analysis.case_scores import CASE_METRICS
from search.analysis.intervals import TOO_FEW, difference_interval
from search.analysis.mask_references import mask_values
from search.analysis.verdicts.contrasts import MIN_UNITS, Cases, Evidence, Match, Pair, judge, score
from search.ledger.journal import Event


def against_masks(
    evidence: Evidence,
    masks: Event,
    best: Sequence[int],
    searched: Mapping[int, Cases],
    margin: float | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare confirmed trials with masks.

    Args:
        evidence: What the trials scored.
        masks: A `masks` event.
        best: The candidates, the best on the new seeds and folds first.
        searched: What they scored as trials of the search, on its fold.
        margin: Differences below it do not matter.

    Returns:
        A row of the verdict's scores, if there is one, with the `part` of the cases that it is over
        where that is not all of them; and of its comparisons one a candidate.
    """
    name, by_fold = masks["name"], _by_fold(evidence, masks)
    scores: dict[tuple[int | str, Pair], Cases] = {}
    for (number, pair), mine in evidence.scores.items():
        shared = mine.keys() & by_fold[pair.fold].keys()
        if number in best and shared:
            scores[number, pair] = {case: mine[case] for case in shared}
            scores[name, pair] = {case: by_fold[pair.fold][case] for case in shared}
    own = Evidence(evidence.plan, evidence.metric, scores, evidence.missing, evidence.same_cases)
    rows = judge([(own, Match("masks", number, name)) for number in best], margin)
    for row in rows:
        if row["verdict"] == "none":
            found = _by_case(own, row["trial"], name) or _selected(
                evidence.metric, row["trial"], searched, masks
            )
            row |= {"by_case": found}
            row["reason"] = _too_few_folds(found, evidence.metric, name)
        row["reason"] = "; ".join(filter(None, [row["reason"], masks["unseen_anywhere"]]))
    if not own.pairs(name):
        return [], rows
    covered, confirming = _cases(own, [name]), _cases(evidence, best)
    part = [len(covered), len(confirming)] if covered < confirming else None
    return [score(own, name, role="masks") | {"part": part}], rows


def _cases(evidence: Evidence, trials: Sequence[int | str]) -> set[str]:
    """Return all cases that some have a score of."""
    return {case for (one, _), cases in evidence.scores.items() if one in trials for case in cases}


def _by_fold(evidence: Evidence, masks: Event) -> dict[int, dict[str, float]]:
    folds = {pair.fold for pair in evidence.plan.pairs}
    return {fold: mask_values(masks, evidence.metric, fold) for fold in folds}


def _by_case(evidence: Evidence, trial: int, name: str) -> dict[str, Any] | None:
    """Return the difference over the cases of the confirming folds, each a mean over seeds."""
    pairs = evidence.pairs(trial, name)
    if not pairs or evidence.num_units(trial, name) >= MIN_UNITS:
        return None
    mine = np.concatenate([unit.mean(0) for unit in evidence.units(trial, pairs)])
    theirs = np.concatenate([unit.mean(0) for unit in evidence.units(name, pairs)])
    folds = sorted({pair.fold for pair in pairs})
    return _difference(evidence.metric, mine.tolist(), theirs.tolist(), folds, selected=False)


def _selected(
    metric: str, trial: int, searched: Mapping[int, Cases], masks: Event
) -> dict[str, Any] | None:
    """Return the difference of the trial of the search itself, on the fold that selected it."""
    mine, theirs = searched.get(trial, {}), mask_values(masks, metric, masks["fold"])
    if not (shared := sorted(mine.keys() & theirs.keys())):
        return None
    values = [mine[case] for case in shared], [theirs[case] for case in shared]
    return _difference(metric, *values, [masks["fold"]], selected=True)


def _difference(
    metric: str, mine: list[float], theirs: list[float], folds: list[int], *, selected: bool
) -> dict[str, Any]:
    return {
        "folds": folds,
        "selected": selected,
        "num_cases": len(mine),
        "mean": float(np.mean(mine) - np.mean(theirs)),
        "interval": difference_interval(mine, theirs, CASE_METRICS[metric].scale),
    }


def _too_few_folds(found: Mapping[str, Any] | None, metric: str, name: str) -> str:
    if found is None:
        return f"since {name} has no masks of the cases that confirm, nor of those that selected"
    on = "fold" if len(found["folds"]) == 1 else "folds"
    where = f"{on} {', '.join(map(str, found['folds']))}"
    what = ", which selected it: optimistic, and of one training" if found["selected"] else ""
    low, high = found["interval"] or (None, None)
    ends = TOO_FEW if low is None else f"95 % interval [{low:+.4f}, {high:+.4f}]"
    return (
        f"from {where} alone{what}; case by case there: "
        f"{'Dice' if metric == 'val/dice' else metric} {found['mean']:+.4f}, {ends}, "
        f"{found['num_cases']} cases"
    )
