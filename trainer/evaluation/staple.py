"""STAPLE: the mask that several raters mean, and how far each of them is to be trusted.

Warfield, Zou and Wells, IEEE Transactions on Medical Imaging 23(7), 2004. Raters are taken to err
independently at each voxel: rater j marks a lesion voxel with its sensitivity p_j and leaves out a
background voxel with its specificity q_j. Expectation-maximisation alternates between the truth's
posterior given the rates and the rates given that posterior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MARGIN = 2
"""Voxels around the union of the votes that take part. Over a whole head, the background that all
agree on would push every specificity to 1 and the prior to 0, and whoever sees most would win; with
no background at all there would be no specificity to estimate."""
FIRST_RATE = 0.99
"""Sensitivity and specificity to begin with: near 1, so that lesion is not taken for background."""
TOLERANCE = 1e-9
"""Iterations end when no rate moves further."""
MAX_ITERATIONS = 1000
RATE_FLOOR = 1e-9
"""Rates stay this far within (0, 1): who never erred so far still may."""


@dataclass(frozen=True)
class Consensus:
    posterior: NDArray[np.float64]
    """Probability that a voxel is lesion, in [0, 1], shape of a mask; 0 outside the region."""
    sensitivity: NDArray[np.float64]
    """p_j, by rater."""
    specificity: NDArray[np.float64]
    """q_j within the region, by rater."""


def staple(votes: NDArray[np.bool_], margin: int = MARGIN) -> Consensus:
    """Estimate the truth of one case from its raters.

    The prior is the same at every voxel: the share of lesion among all votes (eq. 22). Voxels with
    the same votes have the same posterior, so that an iteration costs the number of vote patterns,
    not of voxels.

    Args:
        votes: (raters, ...), usually (raters, slices, H, W); true is lesion.
        margin: Voxels along every axis by which the union of the votes is widened.

    Returns:
        The consensus. Where nobody votes for lesion the posterior is 0 and the rates are
        `FIRST_RATE`.
    """
    raters, shape = len(votes), votes.shape[1:]
    region = np.zeros(shape, bool)
    posterior = np.zeros(shape)
    union: NDArray[np.bool_] = np.any(votes, axis=0)
    if not union.any():
        rates = np.full(raters, FIRST_RATE)
        return Consensus(posterior, rates, rates)
    # A square structuring element is a maximum along each axis in turn; the box keeps it cheap.
    box = tuple(
        slice(max(0, found.start - margin), found.stop + margin)
        for found in ndimage.find_objects(union.astype(np.uint8))[0]
    )
    region[box] = ndimage.maximum_filter(union[box], 2 * margin + 1, mode="constant")

    patterns, which, counts = np.unique(
        np.packbits(votes[:, region], axis=0), axis=1, return_inverse=True, return_counts=True
    )
    decisions = np.unpackbits(patterns, axis=0, count=raters).astype(np.float64)
    weight, sensitivity, specificity = _maximise(decisions, counts)
    posterior[region] = weight[which.reshape(-1)]
    return Consensus(posterior, sensitivity, specificity)


def _maximise(
    decisions: NDArray[np.float64], counts: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Run the iterations; return the posterior by pattern, sensitivities and specificities.

    Args:
        decisions: (raters, patterns), 0 or 1.
        counts: (patterns,), the voxels that have each.
    """
    raters = len(decisions)
    prior = np.clip(
        (decisions @ counts).sum() / (raters * counts.sum()), RATE_FLOOR, 1 - RATE_FLOOR
    )
    p: NDArray[np.float64] = np.full(raters, FIRST_RATE)
    q = p
    for _ in range(MAX_ITERATIONS):
        # Eq. 14 to 16, in logarithms.
        lesion = np.log(prior) + np.log(p) @ decisions + np.log1p(-p) @ (1 - decisions)
        background = np.log1p(-prior) + np.log(q) @ (1 - decisions) + np.log1p(-q) @ decisions
        weight = np.exp(lesion - np.logaddexp(lesion, background))
        # Eq. 18 and 19.
        inside, outside = counts * weight, counts * (1 - weight)
        new_p = _rate(decisions @ inside, inside.sum())
        new_q = _rate((1 - decisions) @ outside, outside.sum())
        moved = max(np.abs(new_p - p).max(), np.abs(new_q - q).max())
        p, q = new_p, new_q
        if moved < TOLERANCE:
            break
    return weight, p, q


def _rate(right: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Return right / total within the floor; where there is nothing to be right about, near 1."""
    rate = right / total if total > 0 else np.ones_like(right)
    return np.clip(rate, RATE_FLOOR, 1 - RATE_FLOOR)
