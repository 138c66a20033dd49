"""ISLES24's official metrics of one case and HD95, on its native grid inside the brain mask.

Empty-lesion policy: where truth and prediction are both empty, Dice and lesion F1 are 1; where
only one is, they are 0 (ezequieldlrosa/isles24, utils/eval_utils.py). HD95 is 0 and the diagonal of
the brain's bounding box, a distance that no two voxels of the brain exceed. Averages that choose
between configurations leave cases without lesion out of Dice and report their false-positive volume
beside it (`trainer/evaluation/validate.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from trainer.data.geometry import bounding_box
from trainer.evaluation.surface_distance import hd95_mm

VOLUME_GROUPS = ("<5 mL", "5-20 mL", ">=20 mL")
"""Of lesions."""

MATCH_IOU = 0.2
"""Overlap from which a predicted component counts as having found a lesion."""

LABELS_AT_ONCE = 1 << 19
"""Voxels that are counted together: counting widens them to eight bytes each."""

FEW = 4
"""Labels that are counted sooner one after another than together with all others."""


@dataclass(frozen=True)
class CaseScore:
    """One case at one validation; volumes in mL, distances in mm."""

    case_id: str
    dice: float
    avd_ml: float
    """Absolute volume difference."""
    lesion_f1: float
    lesion_count_diff: int
    hd95_mm: float
    """95th percentile of the distances between the surfaces."""
    lesion_ml: float
    predicted_ml: float
    false_positive_ml: float
    has_lesion: bool


def score_case(
    case_id: str,
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    brain: NDArray[np.bool_],
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
    head = bounding_box(brain)
    truth, prediction = (mask[head] & brain[head] for mask in (truth, prediction))
    sides_mm = [voxels * mm for voxels, mm in zip(truth.shape, spacing_mm, strict=True)]
    box = bounding_box(truth | prediction)
    truth, prediction = (np.ascontiguousarray(mask[box]) for mask in (truth, prediction))
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    lesion, predicted = np.count_nonzero(truth), np.count_nonzero(prediction)
    f1, count_diff = lesion_f1(truth, prediction)
    return CaseScore(
        case_id=case_id,
        dice=dice(truth, prediction),
        avd_ml=abs(lesion - predicted) * voxel_ml,
        lesion_f1=f1,
        lesion_count_diff=count_diff,
        hd95_mm=_hd95_or_worst(truth, prediction, spacing_mm, float(np.linalg.norm(sides_mm))),
        lesion_ml=lesion * voxel_ml,
        predicted_ml=predicted * voxel_ml,
        false_positive_ml=(predicted - np.count_nonzero(truth & prediction)) * voxel_ml,
        has_lesion=lesion > 0,
    )


def by_volume(scores: Sequence[CaseScore]) -> dict[str, list[CaseScore]]:
    """Sort cases into subgroups by the volume of their lesion: empty, <5, 5-20 and >=20 mL."""
    groups: dict[str, list[CaseScore]] = {name: [] for name in ("empty", *VOLUME_GROUPS)}
    for score in scores:
        groups[volume_group(score.lesion_ml) if score.has_lesion else "empty"].append(score)
    return groups


def volume_group(lesion_ml: float) -> str:
    """Return the subgroup of a lesion's volume."""
    if lesion_ml < 5:
        return VOLUME_GROUPS[0]
    return VOLUME_GROUPS[1] if lesion_ml < 20 else VOLUME_GROUPS[2]


def dice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float:
    """Return 2|A∩B| / (|A|+|B|) of two bool masks, and 1 where both are empty."""
    total = np.count_nonzero(truth) + np.count_nonzero(prediction)
    return 2 * np.count_nonzero(truth & prediction) / total if total else 1.0


def lesion_f1(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> tuple[float, int]:
    """Return (lesion F1, absolute difference of lesion counts).

    Lesions are 26-connected components. Pairs are matched from the largest intersection over union
    down, each component once, as long as it is at least `MATCH_IOU` (panoptica's
    NaiveThresholdMatching, which the official evaluation calls).
    """
    place = bounding_box(truth)
    lesions, num_lesions = _components(truth[place])
    found, num_found = _components(prediction)
    if not num_lesions + num_found:
        return 1.0, 0

    # A pair is one number; voxels that only one mask has belong to none.
    number = lesions.astype(np.int64) * (num_found + 1) + found[place]
    pairs, overlaps = np.unique(number[(lesions > 0) & (found[place] > 0)], return_counts=True)
    of_lesion, of_found = np.divmod(pairs, num_found + 1)
    lesion_size = _sizes(lesions, of_lesion)
    # Of the others it need not be known how large they are.
    may = overlaps >= MATCH_IOU * lesion_size
    of_lesion, of_found, overlaps, lesion_size = (
        each[may] for each in (of_lesion, of_found, overlaps, lesion_size)
    )
    iou = overlaps / (lesion_size + _sizes(found, of_found) - overlaps)
    matched_lesions: set[int] = set()
    matched_found: set[int] = set()
    for index in np.argsort(-iou, kind="stable")[: np.count_nonzero(iou >= MATCH_IOU)]:
        lesion, component = int(of_lesion[index]), int(of_found[index])
        if lesion not in matched_lesions and component not in matched_found:
            matched_lesions.add(lesion)
            matched_found.add(component)
    return 2 * len(matched_lesions) / (num_lesions + num_found), abs(num_lesions - num_found)


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.unsignedinteger], int]:
    """Label a mask's components from 1.

    Returns:
        The labels, 0 outside, and their number.
    """
    if not mask.size:
        return np.zeros(mask.shape, np.uint32), 0
    # Of a view, cc3d 3.29 reads other voxels where two sides are 1.
    mask = np.ascontiguousarray(mask)
    labels, number = cc3d.connected_components(mask, connectivity=26, return_N=True)
    return labels, int(number)


def _sizes(labels: NDArray[np.unsignedinteger], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the voxels of each label that is wanted."""
    if len(wanted) <= FEW:
        return np.array([np.count_nonzero(labels == label) for label in wanted], np.int64)
    flat, count = labels.reshape(-1), int(labels.max()) + 1
    sizes = np.zeros(count, np.int64)
    for first in range(0, len(flat), LABELS_AT_ONCE):
        sizes += np.bincount(flat[first : first + LABELS_AT_ONCE], minlength=count)
    return sizes[wanted]


def _hd95_or_worst(
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    worst_mm: float,
) -> float:
    """Return HD95 under the empty-lesion policy."""
    if truth.any() and prediction.any():
        return hd95_mm(truth, prediction, spacing_mm)
    return worst_mm if truth.any() or prediction.any() else 0.0
