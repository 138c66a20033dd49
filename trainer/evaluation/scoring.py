"""Predicted cases, scored one after another on the native grid; needs no torch."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.store import Case, Store
from trainer.evaluation.metrics import CaseScore, score_case
from trainer.progress import tracked


def score_cases(
    store: Store,
    cases: Iterable[Case],
    probability: NDArray[np.float32],
    thresholds: Sequence[float],
) -> list[CaseScore]:
    """Score cases.

    Args:
        store: Where their lesion masks are.
        cases: Which.
        probability: Of lesion on the store's grid, all slices of each case in order, (n, H, W).
        thresholds: For each case, the probability from which a voxel is predicted as lesion.
    """
    scores, first = [], 0
    for case, threshold in zip(cases, thresholds, strict=True):
        slices = probability[first : first + case.num_slices]
        first += case.num_slices
        scores.append(
            score_case(
                case.case_id,
                store.native_mask(case),
                store.to_native_mask(case, slices, threshold),
                store.native_brain(case),
                case.native_spacing_mm,
            )
        )
    return scores


class ScoringHere:
    """Scores one validation at a time, at one threshold and as soon as it is begun.

    Args:
        store: Where the cases are.
        cases: Which.
        threshold: Probability from which a voxel is predicted as lesion.
    """

    def __init__(self, store: Store, cases: Sequence[Case], threshold: float):
        self._store = store
        self._cases = cases
        self._thresholds = [threshold] * len(cases)
        self._scores: list[CaseScore] = []

    def begin(self, probability: NDArray[np.float32]) -> None:
        """Score (n, H, W) as for `score_cases`."""
        cases = tracked(self._cases, "scoring")
        self._scores = score_cases(self._store, cases, probability, self._thresholds)

    def ready(self) -> bool:
        """Say whether `scores` would return at once."""
        return True

    def scores(self) -> list[CaseScore]:
        """Return the scores of what was begun."""
        return self._scores

    def close(self) -> None:
        """End what `ScoringProcess` has to end."""
