"""The threshold that makes a mask of a probability, chosen without flattering oneself.

Chosen and scored on the same cases, a threshold looks better than it is. So each case is scored at
the threshold that is best for the other cases (cross-fitted), and the one that is best for all of
them is frozen in the run's folder before anyone reads the test set.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.threshold_baseline import at_least

CANDIDATES = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""0.05 to 0.95. A fixed grid, so that no case has a say in what can be chosen."""


def dice_by_threshold(
    probability: NDArray[np.floating], truth: NDArray[np.bool_], brain: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return a case's Dice at each of `CANDIDATES`.

    Args:
        probability: Of lesion on the native grid, (x, y, z).
        truth: Lesion mask, the same shape.
        brain: Brain mask; only what lies inside it counts.

    Returns:
        (19,), 1 where truth and prediction are both empty.
    """
    candidates = np.array(CANDIDATES, probability.dtype)
    rank = np.searchsorted(candidates, probability[brain], side="right")
    lesion = truth[brain]
    predicted, hit = (at_least(part, len(CANDIDATES)) for part in (rank, rank[lesion]))
    total = predicted + np.count_nonzero(lesion)
    dice: NDArray[np.float64] = np.divide(
        2 * hit, total, out=np.ones(len(CANDIDATES)), where=total > 0
    )
    return dice


def best_threshold(dice: NDArray[np.float64]) -> float:
    """Return the candidate with the best mean Dice; of equals, the nearest to 0.5.

    Args:
        dice: (cases, 19), of cases with lesion. Without a case, 0.5.
    """
    if not len(dice):
        return 0.5
    nearest_first = np.argsort(np.abs(np.array(CANDIDATES) - 0.5), kind="stable")
    # Equal means may differ in their last digit.
    mean = dice.mean(0).round(12)
    return CANDIDATES[int(nearest_first[np.argmax(mean[nearest_first])])]


def cross_fit(dice: NDArray[np.float64], has_lesion: Sequence[bool]) -> list[float]:
    """Return, for each case, the threshold that is best for the others with lesion.

    Args:
        dice: (cases, 19), from `dice_by_threshold`.
        has_lesion: Which cases have one.
    """
    lesion = np.array(has_lesion)
    cases = np.arange(len(dice))
    return [best_threshold(dice[lesion & (cases != case)]) for case in cases]
