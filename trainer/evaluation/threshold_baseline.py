"""The reference that needs no network: the best threshold on one modality.

A model that does not beat it has learned nothing; a data set on which it scores high is easy.
"""

from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from trainer.data.store import Case, Store
from trainer.evaluation.metrics import score_case

NUM_CANDIDATES = 64
"""Thresholds tried per modality: quantiles of its values inside the brain."""


@dataclass(frozen=True)
class Threshold:
    """Lesion is where `modality` is above (or below) `threshold`, in the store's units."""

    modality: str
    above: bool
    threshold: float
    dice: float
    """Mean over the validation cases with lesion, on their native grid."""


def best_threshold(store: Store, fold: int) -> dict[str, str | bool | float]:
    """Fit the best single-modality threshold on the training cases and score it on the others.

    Training Dice is the mean over cases with lesion, on the store's grid inside the brain mask.
    """
    training, held_out = store.split(fold)
    best = max(
        (
            _fit(store, training, modality, above)
            for modality in store.modalities
            for above in (True, False)
        ),
        key=lambda fitted: fitted[0],
    )
    _, modality, above, threshold = best
    scores = []
    for case in held_out:
        rows = case.rows
        image = store.images(rows, (modality,))[:, 0].astype(np.float32)
        lesion = (image >= threshold) == above
        native = store.to_native_mask(case, lesion.astype(np.float32), 0.5)
        scores.append(
            score_case(
                case.case_id,
                store.native_mask(case),
                native,
                store.native_brain(case),
                case.native_spacing_mm,
            )
        )
    dice = fmean(s.dice for s in scores if s.has_lesion)
    return asdict(Threshold(modality, above, threshold, dice))


def _fit(
    store: Store, cases: list[Case], modality: str, above: bool
) -> tuple[float, str, bool, float]:
    """Return (mean training Dice, modality, above, threshold) of the best candidate."""
    inside = []
    for case in cases:
        rows = case.rows
        brain = store.brain(rows).astype(bool)
        image = store.images(rows, (modality,))[:, 0].astype(np.float32)
        inside.append((image[brain], store.masks(rows)[brain].astype(bool)))
    sample = np.concatenate([values[:: max(1, len(values) // 20000)] for values, _ in inside])
    candidates = np.unique(np.quantile(sample, np.linspace(0, 1, NUM_CANDIDATES + 2)[1:-1]))

    dice = np.zeros(len(candidates))
    with_lesion = [(values, lesion) for values, lesion in inside if lesion.any()]
    for values, lesion in with_lesion:
        # Voxels at or above each candidate, of all and of lesion, from the ranks among candidates.
        rank = np.searchsorted(candidates, values, side="right")
        above_all = at_least(rank, len(candidates))
        above_lesion = at_least(rank[lesion], len(candidates))
        predicted = above_all if above else len(values) - above_all
        hit = above_lesion if above else int(lesion.sum()) - above_lesion
        dice += 2 * hit / np.maximum(predicted + lesion.sum(), 1)
    dice /= max(len(with_lesion), 1)
    index = int(dice.argmax())
    return float(dice[index]), modality, above, float(candidates[index])


def at_least(rank: NDArray[np.intp], num_candidates: int) -> NDArray[np.intp]:
    """Count the voxels at or above each candidate; rank = candidates at or below the voxel."""
    counts = np.bincount(rank, minlength=num_candidates + 1)
    return counts[::-1].cumsum()[::-1][1:]
