"""Predicted cases, scored one after another on the native grid; needs no torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.store import Case, Store
from trainer.evaluation.metrics import CaseScore, score_case
from trainer.progress import tracked


def score_cases(
    store: Store,
    cases: Sequence[Case],
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
    for case, threshold in zip(tracked(cases, "scoring"), thresholds, strict=True):
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
