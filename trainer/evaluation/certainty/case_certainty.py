"""How calibrated, and how certain, a probability is on one case: on its native grid, in its brain.

The probability is what the threshold makes a mask of: a network's sigmoid, or the members of an
ensemble as `trainer.evaluation.ensemble.fuse` makes one of them. A member of a diffusion model is
soft itself, (x_start + 1) / 2, and `mean` averages these, not votes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import dice

BINS = 15
"""Of equal width in [0, 1], as Guo et al. (2017) have them."""


@dataclass(frozen=True)
class CaseCertainty:
    """One case's probability, judged."""

    case_id: str
    dice: float
    """At the configured threshold."""
    has_lesion: bool
    brier: float
    """Mean squared difference of probability and truth over voxels."""
    ece: float
    """Expected calibration error over voxels."""
    uncertainty: float
    """Mean entropy of the voxels that are predicted as lesion, in bits (Mehrtash et al. 2020,
    IEEE TMI 39:3868); the largest of the brain where none is."""


def certainty(
    case_id: str,
    probability: NDArray[np.float32],
    truth: NDArray[np.bool_],
    brain: NDArray[np.bool_],
    threshold: float,
) -> CaseCertainty:
    """Judge a case's probability.

    Args:
        case_id: Kept.
        probability: Of lesion, in [0, 1], (x, y, z).
        truth: Lesion mask, the same shape.
        brain: Brain mask, not empty; only what lies inside it counts.
        threshold: From which a voxel is predicted as lesion.
    """
    inside, lesion = probability[brain], truth[brain]
    predicted = inside >= threshold
    bits = entropy(inside)
    return CaseCertainty(
        case_id=case_id,
        dice=dice(lesion, predicted),
        has_lesion=bool(lesion.any()),
        brier=brier_score(inside, lesion),
        ece=expected_calibration_error(inside, lesion),
        uncertainty=float(bits[predicted].mean() if predicted.any() else bits.max()),
    )


def brier_score(probability: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the mean squared difference of (n,) probabilities and their truth."""
    return float(np.square(probability.astype(np.float64) - truth).mean())


def expected_calibration_error(
    probability: NDArray[np.floating], truth: NDArray[np.bool_]
) -> float:
    """Return how far the share of lesion lies from the mean probability, averaged over bins.

    Args:
        probability: In [0, 1], (n,), n at least 1.
        truth: Which are lesion, (n,).

    Returns:
        sum over bins of |sum of probability - number of lesions| / n.
    """
    number = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    said = np.bincount(number, probability, BINS)
    were = np.bincount(number[truth], minlength=BINS)
    return float(np.abs(said - were).sum() / len(probability))


def entropy(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy in bits, 0 to 1, of probabilities of any shape."""
    p = probability.astype(np.float64)
    bits = np.zeros(p.shape)
    open_ = (p > 0) & (p < 1)
    p = p[open_]
    bits[open_] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return bits
