"""Which lesions are found, by volume, and whether another threshold would find more."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.data.store import Store
from trainer.diagnosis.slices import Slices
from trainer.evaluation.metrics import volume_group
from trainer.evaluation.threshold_calibration import (
    CANDIDATES,
    best_threshold,
    cross_fit,
    dice_by_threshold,
)


@dataclass(frozen=True)
class Lesion:
    """A 26-connected component of a case's true mask on the store's grid."""

    group: str
    """Of its volume, as evaluations have it."""
    hit: bool
    """At least one of its voxels is predicted."""
    probability: float
    """Largest in it."""


@dataclass(frozen=True)
class Calibration:
    """What choosing another threshold would give on the same cases."""

    threshold: float
    """The configured one."""
    dice: float
    best: float
    """The best for all cases."""
    dice_crossed: float
    """Each case at the threshold that is best for the others."""


def lesions(
    store: Store, slices: Slices, probability: NDArray[np.float32], threshold: float
) -> list[Lesion]:
    """Return the lesions that the slices show.

    Args:
        store: The data.
        slices: What was predicted.
        probability: Of it, (n, H, W).
        threshold: Probability from which a voxel is predicted.
    """
    found = []
    for number, case in enumerate(slices.cases):
        labels, count = ndimage.label(store.masks(case.rows), np.ones((3, 3, 3)))
        mine = slices.of(number)
        shown = labels[slices.rows[mine] - case.first]
        voxel_ml = float(np.prod(case.spacing_mm)) / 1000
        volumes = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml
        peaks = ndimage.maximum(probability[mine], shown, range(1, count + 1))
        for label, peak in enumerate(np.atleast_1d(peaks) if count else (), start=1):
            if (shown == label).any():
                group = volume_group(volumes[label])
                found.append(Lesion(group, bool(peak >= threshold), float(peak)))
    return found


def calibration(slices: Slices, probability: NDArray[np.float32], threshold: float) -> Calibration:
    """Compare the configured threshold with those that are best for other cases.

    Args:
        slices: What was predicted.
        probability: Of it, (n, H, W).
        threshold: The configured one.
    """
    dice = np.stack(
        [
            dice_by_threshold(probability[mine], slices.masks[mine], slices.brain[mine])
            for mine in map(slices.of, range(len(slices.cases)))
        ]
    )
    crossed = cross_fit(dice, [True] * len(dice))
    at = [dice[i, CANDIDATES.index(each)] for i, each in enumerate(crossed)]
    return Calibration(
        threshold=threshold,
        dice=float(slices.dice(probability >= threshold).mean()),
        best=best_threshold(dice),
        dice_crossed=float(np.mean(at)),
    )
