"""ISLES24's official metrics of one case, on its native grid inside the brain mask.

Empty-lesion policy: where truth and prediction are both empty, Dice and lesion F1 are 1; where
only one is, they are 0 (ezequieldlrosa/isles24, utils/eval_utils.py). Averages that choose between
configurations leave cases without lesion out of Dice and report their false-positive volume beside
it (`trainer/validate.py`).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MATCH_IOU = 0.2
"""Overlap from which a predicted component counts as having found a lesion."""


@dataclass(frozen=True)
class CaseScore:
    """One case at one validation; volumes in mL."""

    case_id: str
    dice: float
    avd_ml: float
    """Absolute volume difference."""
    lesion_f1: float
    lesion_count_diff: int
    lesion_ml: float
    predicted_ml: float
    false_positive_ml: float
    has_lesion: bool


def score_case(
    case_id: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    brain: np.ndarray,
    spacing_mm: tuple[float, float, float],
) -> CaseScore:
    """Score one case.

    Args:
        case_id: Kept in the score.
        truth: Lesion mask, bool, (x, y, z).
        prediction: Thresholded prediction, bool, the same grid.
        brain: Brain mask, bool; both masks count only inside it.
        spacing_mm: Voxel size.
    """
    truth, prediction = truth & brain, prediction & brain
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    lesion, predicted = int(truth.sum()), int(prediction.sum())
    f1, count_diff = lesion_f1(truth, prediction)
    return CaseScore(
        case_id=case_id,
        dice=dice(truth, prediction),
        avd_ml=abs(lesion - predicted) * voxel_ml,
        lesion_f1=f1,
        lesion_count_diff=count_diff,
        lesion_ml=lesion * voxel_ml,
        predicted_ml=predicted * voxel_ml,
        false_positive_ml=int((prediction & ~truth).sum()) * voxel_ml,
        has_lesion=lesion > 0,
    )


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return 2|A∩B| / (|A|+|B|) of two bool masks, and 1 where both are empty."""
    total = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / total if total else 1.0


def lesion_f1(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, int]:
    """Return (lesion F1, absolute difference of lesion counts).

    Lesions are 26-connected components. Pairs are matched from the largest intersection over union
    down, each component once, as long as it is at least `MATCH_IOU` (panoptica's
    NaiveThresholdMatching, which the official evaluation calls).
    """
    both = truth | prediction
    if not both.any():
        return 1.0, 0
    box = ndimage.find_objects(both.astype(np.uint8))[0]
    connected = ndimage.generate_binary_structure(truth.ndim, truth.ndim)
    lesions, num_lesions = ndimage.label(truth[box], connected)
    found, num_found = ndimage.label(prediction[box], connected)

    pairs, overlaps = np.unique(
        np.stack([lesions, found])[:, (lesions > 0) & (found > 0)], axis=1, return_counts=True
    )
    lesion_sizes, found_sizes = np.bincount(lesions.ravel()), np.bincount(found.ravel())
    iou = overlaps / (lesion_sizes[pairs[0]] + found_sizes[pairs[1]] - overlaps)
    matched_lesions: set[int] = set()
    matched_found: set[int] = set()
    for index in np.argsort(-iou, kind="stable"):
        lesion, component = int(pairs[0, index]), int(pairs[1, index])
        if (
            iou[index] >= MATCH_IOU
            and lesion not in matched_lesions
            and component not in matched_found
        ):
            matched_lesions.add(lesion)
            matched_found.add(component)
    return 2 * len(matched_lesions) / (num_lesions + num_found), abs(num_lesions - num_found)
