"""Who is compared with whom, over which cases."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from search.analysis.verdicts.contrasts import (
    Evidence,
    Pair,
    Plan,
    verdict_event,
)
from search.ledger.journal import Event
from search.report.verdicts import sentence, verdict_text
from search.workflows.confirming.confirm import _without_cases
from tests.search.workflows.confirmed_study import words

PLAN = Plan([3, 4], None, 0, [], [Pair(seed, 1 + i % 4) for i, seed in enumerate(range(5))], 9)


def evidence(
    missing: Sequence[tuple[int, Pair]] = (), seed_sd: float = 0.0, **means: float
) -> Evidence:
    """Scores around a mean for each trial: `t3=0.5`; equal noise for all trials of a pair."""
    rng = np.random.default_rng(0)
    noise = {(p, case): rng.normal(0, 0.1) for p in PLAN.pairs for case in range(8)}
    own = {(name, pair): rng.normal(0, seed_sd) for name in means for pair in PLAN.pairs}
    scores = {
        (int(name[1:]), pair): {
            f"{pair.fold}-{case}": mean + own[name, pair] + noise[pair, case] + rng.normal(0, 0.01)
            for case in range(8)
        }
        for name, mean in means.items()
        for pair in PLAN.pairs
    }
    gone = dict.fromkeys(missing, "diverged")
    kept = {key: value for key, value in scores.items() if key not in gone}
    return Evidence(PLAN, "val/dice", kept, gone, same_cases=False)


def test_pairs_take_out_what_they_share() -> None:
    """Folds and cases differ by 0.1, the trials by 0.05 in each: pairs see it."""
    found = verdict_event(evidence(t0=0.4, t3=0.45, t4=0.4), None)
    by_match = words(found)
    assert by_match["control", 3, 0] == "better"
    assert by_match["control", 4, 0] == "not distinguishable"
    assert by_match["runner-up", 3, 4] == "better"
    half_width = [row["interval"][1] - row["mean"] for row in found["scores"]]
    assert min(half_width) > 0.05, "each trial's own interval does not"


def test_seeds_on_one_fold_are_one_unit() -> None:
    """The fifth seed is on the first's fold: four units, the first the mean of two seeds."""
    found = evidence(t0=0.4, t3=0.45, t4=0.4)
    means = found.difference(3, 0).unit_means
    assert len(means) == found.num_units(3, 0) == 4 and len(found.by_seed(3, 0)) == 5
    first, fifth = found.by_seed(3, 0)[0], found.by_seed(3, 0)[4]
    assert means[0] == pytest.approx((first + fifth) / 2)
    assert found.difference(3, 0).num_seeds == 5


def test_seeds_on_one_fold_only_are_units() -> None:
    """Where the fold does not vary (nothing is trained), each seed is one."""
    plan = Plan([3], 4, None, [], [Pair(seed, 0) for seed in range(3)], 0)
    scores = {(t, p): {"a": 0.1 * t, "b": 0.2} for t in (3, 4) for p in plan.pairs}
    found = Evidence(plan, "val/dice", scores, {}, same_cases=True)
    assert found.num_units(3, 4) == len(found.difference(3, 4).unit_means) == 3
    assert plan.more == (6, 6)


def test_seeds_are_worth_their_price_by_as_many_as_there_are_folds() -> None:
    """Where they would narrow an interval, and how far is said."""
    pairs = [Pair(seed, 1 + seed % 4) for seed in range(9)]
    more = [dataclasses.replace(PLAN, pairs=pairs[:n]).more for n in (3, 4, 5, 8, 9)]
    assert more == [(4, 4), (8, 4), (8, 4), (12, 4), (12, 4)]
    found = verdict_event(evidence(seed_sd=0.08, t0=0.4, t3=0.41, t4=0.4), None)
    [row] = [r for r in found["comparisons"] if (r["family"], r["trial"]) == ("control", 3)]
    offered = row["more_seeds"]
    assert offered["seeds"] == 8 and offered["half_width"] < 0.9 * offered["half_width_now"]
    assert "; 8 seeds would bring the 95 % interval from about" in sentence(row)


def test_smaller_is_better_for_millilitres_and_dice_stands_beside() -> None:
    found = evidence(t0=0.4, t3=0.7, t4=0.4)
    event = verdict_event(dataclasses.replace(found, metric="val/avd_ml"), None, found)
    assert words(event)["control", 3, 0] == "worse"
    assert event["scores"][-1]["trial"] == 3
    row = event["comparisons"][0]
    assert row["dice"]["mean"] == pytest.approx(row["mean"])
    text = sentence(row, "val/avd_ml")
    assert "; Dice " in text and ": val/avd_ml -" in text
    head = verdict_text(event | {"where": "somewhere"}).splitlines()[2]
    assert head.split()[:6] == ["trial", "val/avd_ml", "95", "%", "interval", "Dice"]


def test_trainings_that_did_not_complete() -> None:
    """A pair without one side does not count, and that is said; with few left, no verdict."""
    some = evidence([(3, PLAN.pairs[1])], t0=0.4, t3=0.5, t4=0.4)
    [row, *_] = verdict_event(some, None)["comparisons"]
    assert (row["trial"], row["verdict"], len(row["seeds"])) == (3, "better", 4)
    assert sentence(row).endswith("; without trial 3 with seed 1 (diverged)")
    few = evidence([(3, pair) for pair in PLAN.pairs[1:4]], t0=0.4, t3=0.5, t4=0.4)
    rows = [row for row in verdict_event(few, None)["comparisons"] if row["trial"] == 3]
    assert {row["verdict"] for row in rows} == {"none"}
    assert "no verdict without trial 3 with seed 1 (diverged), trial 3 with" in sentence(rows[0])


def test_trainings_with_other_cases_are_not_compared_case_by_case() -> None:
    """Of a trainer of one's own; on other folds there are other cases, of course."""

    def rows(**other: str) -> dict[tuple[int, Pair], list[Event]]:
        found = {}
        for trial in (3, 4):
            for pair in PLAN.pairs:
                ids = [f"{pair.fold}-{case}" for case in range(3)]
                ids[0] = other.get(f"t{trial}s{pair.seed}", ids[0])
                found[trial, pair] = [{"case_id": case} for case in ids]
        return found

    assert _without_cases(PLAN, rows()) == ""
    said = "not all trainings that are compared have the same cases: that of trial 4 with seed "
    assert _without_cases(PLAN, rows(t4s2="x")) == f"{said}2 lacks 3-0"
    assert _without_cases(PLAN, rows() | {(3, PLAN.pairs[0]): []}).endswith("tell its cases")
