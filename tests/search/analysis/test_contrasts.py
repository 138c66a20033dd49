"""Who is compared with whom, over which cases."""

from collections.abc import Sequence

import numpy as np
import pytest

from search.analysis.contrasts import (
    Evidence,
    Pair,
    Plan,
    verdict_event,
)
from search.report.verdicts import sentence
from tests.search.workflows.test_confirm import words

PLAN = Plan([3, 4], None, 0, [], [Pair(seed, 1 + i % 4) for i, seed in enumerate(range(5))], 9)


def evidence(missing: Sequence[tuple[int, Pair]] = (), **means: float) -> Evidence:
    """Scores around a mean for each trial: `t3=0.5`; equal noise for all trials of a pair."""
    rng = np.random.default_rng(0)
    noise = {(p, case): rng.normal(0, 0.1) for p in PLAN.pairs for case in range(8)}
    scores = {
        (int(name[1:]), pair): {
            f"{pair.fold}-{case}": mean + noise[pair, case] + rng.normal(0, 0.01)
            for case in range(8)
        }
        for name, mean in means.items()
        for pair in PLAN.pairs
    }
    gone = dict.fromkeys(missing, "diverged")
    kept = {key: value for key, value in scores.items() if key not in gone}
    return Evidence(PLAN, kept, gone, same_cases=False, seed=0)


def test_pairs_take_out_what_they_share() -> None:
    """Folds and cases differ by 0.1, the trials by 0.02 in each: pairs see it."""
    found = verdict_event(evidence(t0=0.4, t3=0.42, t4=0.4), None)
    by_match = words(found)
    assert by_match["control", 3, 0] == "better"
    assert by_match["control", 4, 0] == "not distinguishable"
    assert by_match["runner-up", 3, 4] == "better"
    half_width = [row["interval"][1] - row["mean"] for row in found["scores"]]
    assert min(half_width) > 0.02, "each trial's own interval does not"


def test_seeds_on_one_fold_are_one_unit() -> None:
    """The fifth seed is on the first's fold: four units, the first the mean of two seeds."""
    found = evidence(t0=0.4, t3=0.45, t4=0.4)
    units = found.units(3, 0)
    assert len(units) == 4 and len(found.by_seed(3, 0)) == 5
    first, fifth = found.by_seed(3, 0)[0], found.by_seed(3, 0)[4]
    assert units[0].mean() == pytest.approx((first + fifth) / 2)


def test_seeds_on_one_fold_only_are_units() -> None:
    """Where the fold does not vary (nothing is trained), each seed is one."""
    plan = Plan([3], 4, None, [], [Pair(seed, 0) for seed in range(3)], 0)
    scores = {(t, p): {"a": 0.1 * t, "b": 0.2} for t in (3, 4) for p in plan.pairs}
    assert len(Evidence(plan, scores, {}, same_cases=True, seed=0).units(3, 4)) == 3


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
