"""When the best is told from the others: which looks there are, and what one of them finds.

A choice of the best is right if it has no more than a stated loss less than any other candidate. So
each other candidate needs an interval of best minus it that does not reach down to minus the loss
(Gupta 1965, Technometrics 7:225, and the indifference zone of Bechhofer 1954, Ann. Math. Stat.
25:16). All intervals of all looks are to hold at once in 95 % of studies, so ALPHA is divided
by the number of looks, which is known beforehand, and by that of the others (Bonferroni): the first
look is at the cases and trainings by which the best of all searched were chosen, and there it is
the number of all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from search.analysis.intervals import ALPHA
from search.analysis.verdicts.contrasts import NUM_FOLDS
from search.analysis.verdicts.significance import Difference


def rounds(num_seeds: int) -> list[int]:
    """Return after how many pairs of seed and fold to look: when all other folds have one more."""
    step = NUM_FOLDS - 1
    return [*range(step, num_seeds, step), num_seeds]


@dataclass(frozen=True)
class Look:
    """What one look found."""

    ranking: list[int]
    """The candidates, best first."""
    open: list[int]
    """Those from which the best is not told, in the order of the ranking."""
    closest: int
    """The other whose interval reaches lowest."""
    mean: float
    """Of best minus that one."""
    interval: tuple[float, float] | None
    """None where there are too few cases or seeds to tell."""
    level: float
    """Of each interval, for all of all looks to hold at once in 95 % of studies."""

    @property
    def best(self) -> int:
        return self.ranking[0]

    @property
    def values(self) -> dict[str, Any]:
        """As JSON values."""
        found = {"best": self.best, "other": self.closest, "mean": self.mean, "level": self.level}
        return found | {"interval": self.interval and [*self.interval]}


def look_at(
    candidates: Sequence[int],
    compare: Callable[[int, int], Difference],
    better: Literal["max", "min"],
    *,
    loss: float,
    num_looks: int,
    num_others: int,
) -> Look:
    """Compare the best of some candidates with each of the others.

    Args:
        candidates: At least two.
        compare: Returns how much the first of two has more than the second.
        better: Which way the objective is better.
        loss: What the best may have less than another.
        num_looks: In all.
        num_others: That one of them is chosen from, at least the other candidates.
    """
    sign = 1.0 if better == "max" else -1.0
    first = candidates[0]
    leads = {each: sign * compare(each, first).mean for each in candidates[1:]} | {first: 0.0}
    ranking = sorted(candidates, key=lambda each: -leads[each])
    best, *others = ranking
    alpha = ALPHA / num_looks / max(num_others, len(others))
    found = {other: compare(best, other) for other in others}
    intervals = {other: difference.interval(alpha) for other, difference in found.items()}

    def reach(other: int) -> float:
        """Return how far down an interval reaches, the better way up."""
        ends = intervals[other]
        return min(sign * end for end in ends) if ends else float("-inf")

    closest = min(others, key=reach)
    return Look(
        ranking,
        [other for other in others if reach(other) <= -loss],
        closest,
        found[closest].mean,
        intervals[closest],
        1 - alpha,
    )
