"""Does a case's uncertainty say which cases are predicted badly?

AUROC is that of finding the cases with a Dice below the median. The area under the risk-coverage
curve (Geifman & El-Yaniv 2017) is the mean risk, 1 - Dice, of the k most certain cases, averaged
over k; in random order it is the mean risk of all, and none is lower than the oracle's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.certainty.bootstrap import Bootstrap, Estimate

CHANCE = 0.5
"""AUROC of an uncertainty that says nothing."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """How well uncertainty ranks cases by their Dice."""

    num_cases: int
    """With a lesion."""
    cut: float
    """Median Dice: cases below it are to be found."""
    auroc: Estimate
    """Its value is NaN where no case lies below the median."""
    aurc: Estimate
    aurc_random: float
    aurc_oracle: float

    @property
    def verdict(self) -> str:
        """In words, whether uncertainty ranks cases."""
        ends = self.auroc.interval
        if ends is None or ends[0] <= CHANCE <= ends[1]:
            return f"cannot be told with {self.num_cases} cases"
        return "it does" if ends[0] > CHANCE else "it does, the wrong way round"


def rank(dice: Values, uncertainty: Values, patients: Sequence[str]) -> Ranking:
    """Judge an uncertainty.

    Args:
        dice: Of cases with a lesion, at least one, (n,).
        uncertainty: Of the same cases, (n,).
        patients: Whose they are.
    """
    cut = float(np.median(dice))
    bad, risk = dice < cut, 1 - dice
    bootstrap = Bootstrap(patients)
    return Ranking(
        num_cases=len(dice),
        cut=cut,
        auroc=bootstrap.estimate(lambda some: auroc(uncertainty[some], bad[some])),
        aurc=bootstrap.estimate(lambda some: aurc(uncertainty[some], risk[some])),
        aurc_random=float(risk.mean()),
        aurc_oracle=aurc(risk, risk),
    )


def auroc(score: Values, positive: NDArray[np.bool_]) -> float:
    """Return how often a positive scores higher than a negative, equals counting half.

    Args:
        score: (n,).
        positive: (n,).

    Returns:
        In [0, 1]; NaN where one of the two is missing.
    """
    num_positive = np.count_nonzero(positive)
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[group]
    wins = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * num_negative))


def aurc(uncertainty: Values, risk: Values) -> float:
    """Return the area under the risk-coverage curve; equally uncertain cases share their risk.

    Args:
        uncertainty: (n,), n at least 1.
        risk: (n,).
    """
    _, group, size = np.unique(uncertainty, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, risk) / size)[group]
    in_order = shared[np.argsort(uncertainty, kind="stable")]
    return float((np.cumsum(in_order) / np.arange(1, len(risk) + 1)).mean())
