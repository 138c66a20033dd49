"""ISLES24's official metrics of one case and HD95, on its native grid inside the brain mask.

Empty-lesion policy: where truth and prediction are both empty, Dice and lesion F1 are 1; where
only one is, they are 0 (ezequieldlrosa/isles24, utils/eval_utils.py). HD95 is 0 and the diagonal of
the brain's bounding box, a distance that no two voxels of the brain exceed. Averages that choose
between configurations leave cases without lesion out of Dice and report their false-positive volume
beside it (`trainer/evaluation/validate.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

VOLUME_GROUPS = ("<5 mL", "5-20 mL", ">=20 mL")
"""Of lesions."""

MATCH_IOU = 0.2
"""Overlap from which a predicted component counts as having found a lesion."""

MAX_SURFACE = 100_000
"""Surface voxels from which a distance is measured; of more, as in a mask that is noise, every n-th
stands for all: a minute becomes two seconds and the percentile's rank moves by less than 0.3 %."""


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
        hd95_mm=_hd95_or_worst(truth, prediction, brain, spacing_mm),
        lesion_ml=lesion * voxel_ml,
        predicted_ml=predicted * voxel_ml,
        false_positive_ml=int((prediction & ~truth).sum()) * voxel_ml,
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
    total = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / total if total else 1.0


def lesion_f1(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> tuple[float, int]:
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


def hd95_mm(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> float:
    """Return the 95th percentile Hausdorff distance of two masks, neither of them empty.

    The larger of the two directed distances, each the 95th percentile of the distances from one
    mask's surface voxels to the nearest of the other's, as in MONAI. A surface voxel has a
    neighbour, by face, outside its mask or the image.

    Args:
        truth: Lesion mask, bool, (x, y, z).
        prediction: Predicted mask, the same shape.
        spacing_mm: Voxel size.
    """
    box = ndimage.find_objects((truth | prediction).astype(np.uint8))[0]
    a, b = (_surface_mm(mask[box], spacing_mm) for mask in (truth, prediction))
    return max(_directed_mm(a, b), _directed_mm(b, a))


def _surface_mm(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Return the positions of a mask's surface voxels, (n, 3)."""
    positions_mm: NDArray[np.float64] = np.argwhere(
        mask & ~ndimage.binary_erosion(mask)
    ) * np.array(spacing_mm)
    return positions_mm


def _directed_mm(start: NDArray[np.float64], end: NDArray[np.float64]) -> float:
    start = start[:: -(-len(start) // MAX_SURFACE)]
    distances, _ = KDTree(end, balanced_tree=False, compact_nodes=False).query(start)
    return float(np.percentile(distances, 95))


def _hd95_or_worst(
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    brain: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
) -> float:
    """Return HD95 under the empty-lesion policy."""
    if truth.any() and prediction.any():
        return hd95_mm(truth, prediction, spacing_mm)
    if not (truth.any() or prediction.any()):
        return 0.0
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    sides = [(s.stop - s.start) * mm for s, mm in zip(box, spacing_mm, strict=True)]
    return float(np.linalg.norm(sides))
